package shard

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

// RenewSubscription is how often a held Fetch is sent again. Subscriptions are
// soft state: one that was not renewed for silentAfter is dropped.
const (
	RenewSubscription = 30 * time.Second
	silentAfter       = 75 * time.Second
)

// subscriber is a held poll.
type subscriber struct {
	pid     *actor.PID
	token   uint64
	session talk.Session
	after   int64
	limit   int
	renewed time.Time
}

// fetch answers a cursor: from memory, from the store, or, when there is
// nothing yet, later.
func (b *mailboxActor) fetch(ctx actor.Context, m *Fetch) {
	if epoch, ok := b.state.Epoch(m.Session.Device); !m.Host && (!ok || epoch != m.Session.Epoch) {
		if !m.confirmed && (!ok || epoch < m.Session.Epoch) { // signed in since, perhaps
			ctx.Send(b.shard, &unconfirmed{fetch: m})
			return
		}
		m.refuse(refusal.Of(refusal.UnknownDevice), ctx)
		return
	}
	head := b.state.Head()
	switch {
	case m.After > head && !m.confirmed:
		ctx.Send(b.shard, &unconfirmed{fetch: m})
	case m.After > head:
		m.refuse(&refusal.Refusal{Reason: refusal.CursorAhead, Field: "afterRevision", ResumeRevision: head}, ctx)
	case m.After < b.state.First()-1:
		m.refuse(&refusal.Refusal{Reason: refusal.CursorTooOld, Field: "afterRevision", ResumeRevision: b.state.First() - 1}, ctx)
	case m.After == head && m.Hold:
		b.subscribe(m)
	case m.After == head:
		ctx.Send(m.Subscriber, &Fetched{Token: m.Token, Page: talk.Page{Revision: head, Reason: talk.Timeout}})
	default:
		if operations, ok := b.tail.after(m.After, m.Limit); ok {
			ctx.Send(m.Subscriber, &Fetched{Token: m.Token, Page: page(m.After, operations, head)})
			return
		}
		b.readPage(ctx, m, head)
	}
}

// page returns the page of operations that follow a cursor.
func page(after int64, operations [][]byte, head int64) talk.Page {
	last := after + int64(len(operations))
	return talk.Page{Operations: operations, Revision: last, HasMore: last < head, Reason: talk.Operations}
}

func (b *mailboxActor) subscribe(m *Fetch) {
	s := subscriber{pid: m.Subscriber, token: m.Token, session: m.Session, after: m.After, limit: m.Limit, renewed: time.Now()}
	if i := b.subscriberOf(m.Session.Device); i >= 0 {
		b.subscribers[i] = s
		return
	}
	b.subscribers = append(b.subscribers, s)
}

// subscriberOf returns the index of a device's subscription, -1 for none.
func (b *mailboxActor) subscriberOf(device string) int {
	return slices.IndexFunc(b.subscribers, func(s subscriber) bool { return s.session.Device == device })
}

func (b *mailboxActor) unsubscribe(m *Unsubscribe) {
	if i := b.subscriberOf(m.Session.Device); i >= 0 && b.subscribers[i].token == m.Token {
		b.subscribers = slices.Delete(b.subscribers, i, i+1)
	}
}

// dropSilent forgets polls whose connection actor has not renewed them.
func (b *mailboxActor) dropSilent(now time.Time) {
	b.subscribers = slices.DeleteFunc(b.subscribers, func(s subscriber) bool { return now.Sub(s.renewed) > silentAfter })
}

// wake answers the polls that wait for the newest operation. The device that it
// is from goes on waiting: to that it comes with the next answer.
// The wake-up carries the operations when memory reaches back to the cursor;
// otherwise the poll reads again.
func (b *mailboxActor) wake(ctx actor.Context, origin string) (woken bool) {
	if dropWakeUps {
		return false
	}
	b.subscribers = slices.DeleteFunc(b.subscribers, func(s subscriber) bool {
		if s.session.Device == origin {
			return false
		}
		woken = true
		if operations, ok := b.tail.after(s.after, s.limit); ok {
			ctx.Send(s.pid, &Fetched{Token: s.token, Page: page(s.after, operations, b.state.Head())})
		} else {
			ctx.Send(s.pid, &Fetched{Token: s.token, Reread: true})
		}
		return true
	})
	return woken
}

// end ends the poll of a device that was signed out.
func (b *mailboxActor) end(ctx actor.Context, session talk.Session) {
	if i := b.subscriberOf(session.Device); i >= 0 && b.subscribers[i].session.Epoch == session.Epoch {
		ctx.Send(b.subscribers[i].pid, &Fetched{Token: b.subscribers[i].token, Refusal: refusal.Of(refusal.SessionEnded)})
		b.subscribers = slices.Delete(b.subscribers, i, i+1)
	}
	b.SessionEnded(session)
}

const pageTimeout = 5 * time.Second

// readPage answers from the store, with workers of its own, and goes on in
// memory where the page has room.
func (b *mailboxActor) readPage(ctx actor.Context, m *Fetch, head int64) {
	root := ctx.ActorSystem().Root
	upTo := b.beforeTail()
	newer, _ := b.tail.after(upTo, m.Limit)
	if !b.Workers.Page.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, pageTimeout)
		defer cancel()
		rows, err := b.rows(ctx, m.After, upTo, m.Limit)
		if err != nil || !follow(rows, m.After) {
			m.refuse(refusal.After(refusal.StoreUnavailable, time.Second), root)
			return
		}
		operations := dataOf(rows)
		if rows[len(rows)-1].Revision == upTo {
			operations = fit(append(operations, newer...), m.Limit)
		}
		root.Send(m.Subscriber, &Fetched{Token: m.Token, Page: page(m.After, operations, head)})
	}) {
		m.refuse(refusal.After(refusal.Busy, time.Second), ctx)
	}
}

// beforeTail returns the newest revision that is not in memory.
func (b *mailboxActor) beforeTail() int64 {
	if first := b.tail.first(); first > 0 {
		return first - 1
	}
	return b.state.Head()
}

// follow reports whether there are rows and they follow a cursor without a gap.
func follow(rows []persistence.Row, after int64) bool {
	for i := range rows {
		if rows[i].Revision != after+1+int64(i) {
			return false
		}
	}
	return len(rows) > 0
}

func dataOf(rows []persistence.Row) [][]byte {
	operations := make([][]byte, len(rows))
	for i := range rows {
		operations[i] = rows[i].Data
	}
	return operations
}

// rows reads old operations: from the cache as far as that reaches back, and is
// not damaged. It runs on a worker, and touches what does not change alone.
func (b *mailboxActor) rows(ctx context.Context, after, upTo int64, limit int) ([]persistence.Row, error) {
	if b.Cache != nil {
		rows, err := b.Cache.Operations(ctx, b.shardID, b.name, b.status.generation.Load(), after, upTo, limit, pageBytes)
		if err == nil && follow(rows, after) && decode(rows) {
			return rows, nil
		}
	}
	return b.Store.Operations(ctx, b.shardID, b.name, after, upTo, limit, pageBytes)
}

// decode reports whether rows of the cache, which has no checksums, hold
// operations.
func decode(rows []persistence.Row) bool {
	_, err := record.DecodeOperations(dataOf(rows))
	return err == nil
}

// history pages back through a conversation: memory first, then the store.
func (b *mailboxActor) history(m *History) {
	before := m.Before
	if before == 0 {
		before = persistence.MaxRevision
	}
	newest, size, full := b.tail.conversation(m.Peer, before, m.Limit)
	if full {
		m.Answer(HistoryPage{Operations: newest, HasMore: true}, nil)
		return
	}
	upTo := min(before, b.beforeTail()+1)
	if upTo <= b.state.First() {
		m.Answer(HistoryPage{Operations: newest}, nil)
		return
	}
	store, shardID, name, known := b.Store, b.shardID, b.name, b.storedRevision
	if !b.Workers.Page.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, pageTimeout)
		defer cancel()
		if err := b.reachesTo(ctx, upTo-1, known); err != nil {
			m.Answer(HistoryPage{}, refusal.After(refusal.StoreUnavailable, time.Second))
			return
		}
		wanted := m.Limit - len(newest)
		older, err := store.Conversation(ctx, shardID, name, m.Peer, upTo, wanted+1, max(pageBytes-size, 1))
		if err != nil {
			m.Answer(HistoryPage{}, refusal.After(refusal.StoreUnavailable, time.Second))
			return
		}
		more := len(older) > wanted
		if more {
			older = older[:wanted]
		}
		if n := len(older); n > 0 && !more { // the page may have ended by its bytes
			rest, err := store.Conversation(ctx, shardID, name, m.Peer, older[n-1].Revision, 1, 1)
			if err != nil {
				m.Answer(HistoryPage{}, refusal.After(refusal.StoreUnavailable, time.Second))
				return
			}
			more = len(rest) > 0
		}
		m.Answer(HistoryPage{Operations: append(slices.Clip(newest), dataOf(older)...), HasMore: more}, nil)
	}) {
		m.Answer(HistoryPage{}, refusal.After(refusal.Busy, time.Second))
	}
}

// reachesTo returns an error if the store has not all operations up to a
// revision: a conversation that is read there would have a gap which does not
// show. known is the revision up to which it was heard to have them. It runs on a
// worker, and touches what does not change alone.
func (b *mailboxActor) reachesTo(ctx context.Context, revision, known int64) error {
	if revision <= known {
		return nil
	}
	stored, err := b.Store.Load(ctx, b.shardID, b.name, 0)
	if err != nil {
		return err
	}
	state, err := mailbox.Decode(b.name, stored)
	if err != nil {
		return err
	}
	if state.Head() < revision {
		return fmt.Errorf("the store has operations up to %d, and %d is the newest that is not in memory", state.Head(), revision)
	}
	return nil
}
