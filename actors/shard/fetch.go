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

// fetch answers a cursor: from memory, from the store, or, when there is
// nothing yet, later.
func (b *mailboxActor) fetch(ctx actor.Context, m *Fetch) {
	first, refused, early := b.admits(m)
	switch {
	case refused != nil && early && !m.confirmed:
		ctx.Send(b.shard, &unconfirmed{fetch: m})
		return
	case refused != nil:
		m.refuse(refused, ctx)
		return
	}
	head := b.state.Head()
	switch {
	case m.After > head && !m.confirmed:
		ctx.Send(b.shard, &unconfirmed{fetch: m})
	case m.After > head:
		m.refuse(&refusal.Refusal{Reason: refusal.CursorAhead, Field: "afterRevision", ResumeRevision: head}, ctx)
	case m.After < first-1:
		m.refuse(&refusal.Refusal{Reason: refusal.CursorTooOld, Field: "afterRevision", ResumeRevision: first - 1}, ctx)
	case m.After == head && m.Hold:
		b.subscribe(ctx, m)
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

// admits returns the first revision that whoever fetches may read, or why none.
// early says that the owner may merely be behind: the session, or the membership
// in the chat, may be newer than what it has read of the log.
func (b *mailboxActor) admits(m *Fetch) (first int64, refused *refusal.Refusal, early bool) {
	first = b.state.First()
	if mailbox.IsChat(b.name) || m.Chat != "" {
		from, ok := b.state.Reads(m.Session.User)
		if !ok {
			return 0, refusal.Of(refusal.UnknownChat), true
		}
		return max(first, from), nil, false
	}
	epoch, ok := b.state.Epoch(m.Session.Device)
	if !m.Host && (!ok || epoch != m.Session.Epoch) {
		return 0, refusal.Of(refusal.UnknownDevice), !ok || epoch < m.Session.Epoch
	}
	return first, nil, false
}

// page returns the page of operations that follow a cursor.
func page(after int64, operations [][]byte, head int64) talk.Page {
	last := after + int64(len(operations))
	return talk.Page{Operations: operations, Revision: last, HasMore: last < head, Reason: talk.Operations}
}

// supersedable is how long a poll is held until one that comes by another node ends
// it: of two that come at the same time nobody knows which is the newer one.
const supersedable = time.Second

// subscribe holds a poll. An older one of its device, which another gateway holds
// and renews, would take its place again and again: a new one ends it. What was
// fetched for before may be the older one itself, and ends nothing.
func (b *mailboxActor) subscribe(ctx actor.Context, m *Fetch) {
	now := time.Now()
	began := now
	if i := b.subscribers.find(m.Session.User, m.Session.Device); i >= 0 {
		switch held := &b.subscribers.polls[i]; {
		case held.token == m.Token:
			began = held.began
		case m.First && now.Sub(held.began) >= supersedable:
			ctx.Send(held.pid, &Fetched{Token: held.token, Page: talk.Page{Revision: held.after, Reason: talk.Superseded}})
		}
	}
	b.subscribers.put(subscriber{
		pid: m.Subscriber, token: m.Token, session: m.Session, after: m.After, limit: m.Limit, began: began, renewed: now,
	})
}

func (b *mailboxActor) unsubscribe(m *Unsubscribe) {
	if i := b.subscribers.find(m.Session.User, m.Session.Device); i >= 0 && b.subscribers.polls[i].token == m.Token {
		b.subscribers.remove(i)
	}
}

// dropSilent forgets polls whose connection actor has not renewed them.
func (b *mailboxActor) dropSilent(now time.Time) {
	b.subscribers.removeFunc(func(s subscriber) bool { return now.Sub(s.renewed) > silentAfter })
}

// wake answers the polls that wait for the newest operation. The device that it
// is from goes on waiting: to that it comes with the next answer.
// The wake-up carries the operations when memory reaches back to the cursor;
// otherwise the poll reads again.
func (b *mailboxActor) wake(ctx actor.Context, newest *record.Operation) (woken bool) {
	if dropWakeUps {
		return false
	}
	origin, by := newest.GetOriginDevice(), mailbox.CausedBy(newest)
	var last subscriber // mostly all polls wait at one place: they share a page
	var operations [][]byte
	var ok bool
	b.subscribers.removeFunc(func(s subscriber) bool {
		if s.session.Device == origin && (by == "" || by == s.session.User) {
			return false
		}
		if !woken || s.after != last.after || s.limit != last.limit {
			operations, ok = b.tail.after(s.after, s.limit)
			last = s
		}
		woken = true
		if ok {
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
	if i := b.subscribers.find(session.User, session.Device); i >= 0 && b.subscribers.polls[i].session.Epoch == session.Epoch {
		s := &b.subscribers.polls[i]
		ctx.Send(s.pid, &Fetched{Token: s.token, Refusal: refusal.Of(refusal.SessionEnded)})
		b.subscribers.remove(i)
	}
	b.SessionEnded(session)
}

// endOutsiders ends the polls on a chat of those who are members no longer. It
// is the one's own device that such an operation does not wake.
func (b *mailboxActor) endOutsiders(ctx actor.Context, operations []*record.Operation) {
	if !mailbox.IsChat(b.name) || len(operations) == 0 || operations[0].GetChatChanged() == nil {
		return
	}
	b.subscribers.removeFunc(func(s subscriber) bool {
		_, reads := b.state.Reads(s.session.User)
		if !reads {
			ctx.Send(s.pid, &Fetched{Token: s.token, Refusal: refusal.Of(refusal.UnknownChat)})
		}
		return !reads
	})
}

// pageTimeout is for a page from when it was asked for: of those that wait for a
// worker for longer nobody knows any more, and to read them would have all others
// wait as long.
const pageTimeout = 5 * time.Second

// readPage answers from the store, with workers of its own, and goes on in
// memory where the page has room.
func (b *mailboxActor) readPage(ctx actor.Context, m *Fetch, head int64) {
	root := ctx.ActorSystem().Root
	upTo := b.beforeTail()
	newer, _ := b.tail.after(upTo, m.Limit)
	deadline := time.Now().Add(pageTimeout)
	if !b.Workers.Page.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithDeadline(ctx, deadline)
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
	before, first := m.Before, b.state.First()
	if before == 0 {
		before = persistence.MaxRevision
	}
	if m.Reader != "" {
		from, ok := b.state.Reads(m.Reader)
		if !ok {
			m.Answer(HistoryPage{}, refusal.Of(refusal.UnknownChat))
			return
		}
		first = max(first, from)
		answer := m.Answer
		m = &History{User: m.User, Peer: m.Peer, Before: m.Before, Limit: m.Limit, Answer: func(h HistoryPage, refused *refusal.Refusal) {
			answer(since(first, h), refused)
		}}
	}
	newest, size, full := b.tail.conversation(m.Peer, before, m.Limit)
	if full {
		m.Answer(HistoryPage{Operations: newest, HasMore: true}, nil)
		return
	}
	upTo := min(before, b.beforeTail()+1)
	if upTo <= first {
		m.Answer(HistoryPage{Operations: newest}, nil)
		return
	}
	store, shardID, name, known := b.Store, b.shardID, b.name, b.storedRevision
	deadline := time.Now().Add(pageTimeout)
	if !b.Workers.Page.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithDeadline(ctx, deadline)
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

// since returns a page without what lies below a revision.
func since(first int64, h HistoryPage) HistoryPage {
	for i, operation := range h.Operations {
		switch revision, err := record.RevisionOf(operation); {
		case err != nil: // whoever decodes the page finds it
		case revision < first:
			return HistoryPage{Operations: h.Operations[:i]}
		case revision == first:
			return HistoryPage{Operations: h.Operations[:i+1]}
		}
	}
	return h
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
