package link

import (
	"cmp"
	"context"
	"errors"
	"slices"
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

// take handles a message of the other node: an answer to one of this node, or
// something that it asks.
func (p *peer) take(ctx actor.Context, message *wire.Message) {
	switch m := message.GetKind().(type) {
	case *wire.Message_CommandAnswer:
		p.answered(m.CommandAnswer.GetId(), message)
	case *wire.Message_Inspected:
		p.answered(m.Inspected.GetId(), message)
	case *wire.Message_HistoryPage:
		p.answered(m.HistoryPage.GetId(), message)
	case *wire.Message_KeysAnswer:
		p.answered(m.KeysAnswer.GetId(), message)
	case *wire.Message_FollowUpsAppended:
		p.appended(m.FollowUpsAppended)
	case *wire.Message_Fetched:
		p.fetched(ctx, m.Fetched)
	case *wire.Message_Command:
		p.takeCommand(ctx, m.Command)
	case *wire.Message_FollowUps:
		p.takeFollowUps(ctx, m.FollowUps)
	case *wire.Message_Fetch:
		p.takeFetch(ctx, m.Fetch)
	case *wire.Message_Unsubscribe:
		session, chat := m.Unsubscribe.GetSession().Value(), m.Unsubscribe.GetChat()
		if owner := p.owner(cmp.Or(chat, session.User)); owner != nil {
			ctx.Send(owner, &shard.Unsubscribe{Session: session, Chat: chat, Token: m.Unsubscribe.GetToken()})
		}
	case *wire.Message_Inspect:
		p.takeInspect(ctx, m.Inspect)
	case *wire.Message_History:
		p.takeHistory(ctx, m.History)
	case *wire.Message_Keys:
		p.takeKeys(ctx, m.Keys)
	}
}

func (p *peer) answered(id uint64, message *wire.Message) {
	w, ok := p.waiting[id]
	if !ok {
		return // given up
	}
	delete(p.waiting, id)
	w.answer(message)
}

func (p *peer) appended(m *wire.FollowUpsAppended) {
	b := batch{m.GetSource(), m.GetShard()}
	if c, ok := p.confirm[b]; ok && c.sequence == m.GetSequence() {
		delete(p.confirm, b)
		c.appended()
	}
}

func (p *peer) fetched(ctx actor.Context, m *wire.Fetched) {
	subscriber := p.fetches[m.GetToken()]
	if subscriber == nil {
		return // nobody waits any more
	}
	delete(p.fetches, m.GetToken())
	page, err := m.Page()
	if err != nil {
		p.malformed(err)
		ctx.Send(subscriber, &shard.Fetched{Token: m.GetToken(), Refusal: away()})
		return
	}
	ctx.Send(subscriber, &shard.Fetched{Token: m.GetToken(), Page: page, Refusal: m.GetRefusal().Value(), Reread: m.GetReread()})
}

// owner returns the actor that owns a mailbox's shard; nil when this node does
// not.
func (p *peer) owner(mailbox string) *actor.PID {
	if mailbox == "" {
		return nil
	}
	return p.Local(cluster.ShardOf(mailbox, p.Shards))
}

// reply returns a function that sends the other node a message, from any
// goroutine.
func (p *peer) reply(ctx actor.Context) func(*wire.Message) {
	root, self := ctx.ActorSystem().Root, p.self
	return func(m *wire.Message) { root.Send(self, m) }
}

func (p *peer) takeCommand(ctx actor.Context, m *wire.Command) {
	reply, id := p.reply(ctx), m.GetId()
	answer := func(a mailbox.Answer, refused *refusal.Refusal) {
		reply(&wire.Message{Kind: &wire.Message_CommandAnswer{CommandAnswer: wire.NewCommandAnswer(id, a, refused)}})
	}
	owner := p.owner(m.GetRecord().GetMailbox())
	if owner == nil || mailbox.Known(m.GetRecord()) != nil {
		answer(mailbox.Answer{}, away())
		return
	}
	now := time.Now()
	ctx.Send(owner, &shard.Command{
		Record:   m.GetRecord(),
		Accepted: now,
		Deadline: now.Add(min(max(time.Duration(m.GetTimeoutMs())*time.Millisecond, 0), time.Minute)),
		Answer:   answer,
	})
}

func (p *peer) takeFollowUps(ctx actor.Context, m *wire.FollowUps) {
	to, ok := p.targetOf(m.GetRecords())
	if !ok || to != m.GetShard() || slices.ContainsFunc(m.GetRecords(), func(r *record.Record) bool { return mailbox.Known(r) != nil }) {
		return
	}
	owner := p.Local(to)
	if owner == nil {
		return // they are sent again, to whoever owns it then
	}
	reply := p.reply(ctx)
	ctx.Send(owner, &shard.FollowUps{
		Source: p.id + "/" + m.GetSource(), Sequence: m.GetSequence(), Records: m.GetRecords(),
		Appended: func() {
			reply(&wire.Message{Kind: &wire.Message_FollowUpsAppended{FollowUpsAppended: &wire.FollowUpsAppended{
				Source: m.GetSource(), Sequence: m.GetSequence(), Shard: to,
			}}})
		},
	})
}

func (p *peer) takeFetch(ctx actor.Context, m *wire.Fetch) {
	session := m.GetSession().Value()
	fetch := &shard.Fetch{
		Session: session, Chat: m.GetChat(), After: m.GetAfter(), Limit: int(m.GetLimit()), Hold: m.GetHold(),
		First: m.GetFirst(), Subscriber: p.self, Token: m.GetToken(),
	}
	if owner := p.owner(cmp.Or(fetch.Chat, session.User)); owner != nil && fetch.Limit > 0 && fetch.After >= 0 {
		ctx.Send(owner, fetch)
		return
	}
	refuse(ctx, fetch, away())
}

func (p *peer) takeInspect(ctx actor.Context, m *wire.Inspect) {
	reply := p.reply(ctx)
	inspect := &shard.Inspect{Mailbox: m.GetMailbox(), Query: m.GetQuery(), Answer: func(v talk.View, refused *refusal.Refusal) {
		reply(&wire.Message{Kind: &wire.Message_Inspected{Inspected: wire.NewInspected(m.GetId(), v, refused)}})
	}}
	if owner := p.owner(m.GetMailbox()); owner != nil {
		ctx.Send(owner, inspect)
		return
	}
	refuse(ctx, inspect, away())
}

func (p *peer) takeHistory(ctx actor.Context, m *wire.History) {
	reply := p.reply(ctx)
	history := &shard.History{
		User: m.GetUser(), Peer: m.GetPeer(), Reader: m.GetReader(), Before: m.GetBefore(), Limit: int(m.GetLimit()),
		Answer: func(h shard.HistoryPage, refused *refusal.Refusal) {
			reply(&wire.Message{Kind: &wire.Message_HistoryPage{HistoryPage: &wire.HistoryPage{
				Id: m.GetId(), Refusal: wire.NewRefusal(refused), Operations: h.Operations, HasMore: h.HasMore,
			}}})
		},
	}
	if owner := p.owner(m.GetUser()); owner != nil && history.Limit > 0 && history.Before >= 0 {
		ctx.Send(owner, history)
		return
	}
	refuse(ctx, history, away())
}

func (p *peer) takeKeys(ctx actor.Context, m *wire.Keys) {
	reply := p.reply(ctx)
	answer := func(keys []persistence.Key, refused *refusal.Refusal) {
		reply(&wire.Message{Kind: &wire.Message_KeysAnswer{KeysAnswer: wire.NewKeysAnswer(m.GetId(), keys, refused)}})
	}
	if p.Keys == nil {
		answer(nil, away())
		return
	}
	if !p.Workers.Submit(func(ctx context.Context) {
		keys, err := p.readKeys(ctx, m)
		switch {
		case err == nil:
			answer(keys, nil)
		case errors.Is(err, persistence.ErrNotFound):
			answer(nil, refusal.Of(refusal.UnknownRecipient))
		default:
			answer(nil, refusal.After(refusal.StoreUnavailable, time.Second))
		}
	}) {
		answer(nil, refusal.After(refusal.Busy, 100*time.Millisecond))
	}
}
