package link

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/wire"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
)

// Keys asks another node for the keys of mailboxes; with Create, those that
// have none get one. Answer is called once, from any goroutine.
type Keys struct {
	Mailboxes []string
	Create    bool
	Answer    func([]persistence.Key, *refusal.Refusal)
}

// askTimeout bounds the wait for an answer that changes nothing.
const askTimeout = 5 * time.Second

// unknownOutcome answers a command whose answer was lost; away answers what
// only asks.
func unknownOutcome() *refusal.Refusal { return refusal.After(refusal.OutcomeUnknown, time.Second) }
func away() *refusal.Refusal           { return refusal.After(refusal.NotReady, awayRetry) }

// ask puts what an actor of this node wants into the next frame.
func (p *peer) ask(ctx actor.Context, message any) {
	switch m := message.(type) {
	case *shard.Command:
		p.command(ctx, m)
	case *shard.FollowUps:
		p.followUps(ctx, m)
	case *shard.Fetch:
		p.fetches[m.Token] = m.Subscriber
		p.put(ctx, &wire.Message{Kind: &wire.Message_Fetch{Fetch: &wire.Fetch{
			Token: m.Token, Session: wire.NewSession(m.Session), After: m.After, Limit: int32(m.Limit), Hold: m.Hold,
			Chat: m.Chat, First: m.First,
		}}})
	case *shard.Unsubscribe:
		delete(p.fetches, m.Token)
		p.put(ctx, &wire.Message{Kind: &wire.Message_Unsubscribe{Unsubscribe: &wire.Unsubscribe{
			Token: m.Token, Session: wire.NewSession(m.Session), Chat: m.Chat,
		}}})
	case *shard.Inspect:
		id := p.expect(askTimeout, func(answer *wire.Message) {
			if answer.GetInspected() == nil {
				m.Answer(talk.View{}, away())
				return
			}
			m.Answer(answer.GetInspected().Value())
		})
		p.put(ctx, &wire.Message{Kind: &wire.Message_Inspect{Inspect: &wire.Inspect{Id: id, Mailbox: m.Mailbox, Query: m.Query}}})
	case *shard.History:
		id := p.expect(askTimeout, func(answer *wire.Message) {
			page := answer.GetHistoryPage()
			if page == nil {
				m.Answer(shard.HistoryPage{}, away())
				return
			}
			m.Answer(shard.HistoryPage{Operations: page.GetOperations(), HasMore: page.GetHasMore()}, page.GetRefusal().Value())
		})
		p.put(ctx, &wire.Message{Kind: &wire.Message_History{History: &wire.History{
			Id: id, User: m.User, Peer: m.Peer, Before: m.Before, Limit: int32(m.Limit), Reader: m.Reader,
		}}})
	case *Keys:
		p.keys(ctx, m)
	}
}

// expect has a function called with the answer to a request, or with nil.
func (p *peer) expect(timeout time.Duration, answer func(*wire.Message)) (id uint64) {
	p.nextID++
	p.waiting[p.nextID] = waiter{answer: answer, deadline: time.Now().Add(timeout)}
	return p.nextID
}

func (p *peer) command(ctx actor.Context, m *shard.Command) {
	timeout := max(time.Until(m.Deadline), 0)
	id := p.expect(timeout, func(answer *wire.Message) {
		if answer.GetCommandAnswer() == nil {
			m.Answer(mailbox.Answer{}, unknownOutcome())
			return
		}
		a, refused, err := answer.GetCommandAnswer().Value()
		if err != nil {
			p.malformed(err)
			refused = unknownOutcome()
		}
		m.Answer(a, refused)
	})
	p.put(ctx, &wire.Message{Kind: &wire.Message_Command{Command: &wire.Command{
		Id: id, Record: m.Record, TimeoutMs: timeout.Milliseconds(),
	}}})
}

// followUps are sent again by their shard when they were lost, and in any case
// when they are not confirmed in time.
func (p *peer) followUps(ctx actor.Context, m *shard.FollowUps) {
	to, ok := p.targetOf(m.Records)
	if !ok {
		return
	}
	p.confirm[batch{m.Source, to}] = confirmation{m.Sequence, m.Appended, m.Lost}
	p.put(ctx, &wire.Message{Kind: &wire.Message_FollowUps{FollowUps: &wire.FollowUps{
		Source: m.Source, Sequence: m.Sequence, Shard: to, Records: m.Records,
	}}})
}

// targetOf returns the shard that all records are for; ok is false when there
// is none.
func (p *peer) targetOf(records []*record.Record) (target uint32, ok bool) {
	for i, r := range records {
		of := cluster.ShardOf(r.GetMailbox(), p.Shards)
		if i > 0 && of != target {
			return 0, false
		}
		target = of
	}
	return target, len(records) > 0
}

func (p *peer) keys(ctx actor.Context, m *Keys) {
	id := p.expect(askTimeout, func(answer *wire.Message) {
		if answer.GetKeysAnswer() == nil {
			m.Answer(nil, away())
			return
		}
		keys, refused, err := answer.GetKeysAnswer().Value(len(m.Mailboxes))
		if err != nil {
			p.malformed(err)
			refused = away()
		}
		m.Answer(keys, refused)
	})
	p.put(ctx, &wire.Message{Kind: &wire.Message_Keys{Keys: &wire.Keys{Id: id, Mailboxes: m.Mailboxes, Create: m.Create}}})
}

// malformed says that the other node talks nonsense.
func (p *peer) malformed(err error) {
	p.Logger.Error("an answer of another node is left out", "member", p.id, "error", err)
}

// readKeys gets keys for another node. It runs on a worker.
func (p *peer) readKeys(ctx context.Context, m *wire.Keys) ([]persistence.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if m.GetCreate() {
		return p.Keys.Create(ctx, m.GetMailboxes())
	}
	keys := make([]persistence.Key, 0, len(m.GetMailboxes()))
	for _, name := range m.GetMailboxes() {
		key, err := p.Keys.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}
