package link

import (
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/wire"
)

const (
	// beatEvery is how often a node sends a frame at the least: for so long a
	// lost frame may go unnoticed.
	beatEvery = time.Second
	// silentAfter is after how long a node that sends nothing is taken to be
	// away.
	silentAfter = 2500 * time.Millisecond
	// forgottenAfter is when nothing is kept any more of one that is no member.
	forgottenAfter = 2 * time.Minute
	// frameBytes is where a frame ends, though never before its first message.
	frameBytes = 1 << 20
)

var peerKind = &supervision.Kind{Name: "link", Receive: "link.(*peer).Receive"}

// peer is the actor of this node's side of a link.
type peer struct {
	*Options
	hub         *Hub
	id, address string
	incarnation uint64
	self        *actor.PID
	nextBeat    *time.Timer

	// Out: frames are numbered within a run, which is this actor's incarnation.
	run      uint64
	number   uint64
	queue    []*wire.Message
	queued   int // bytes
	flushing bool

	// In: the other's run, the number of its newest frame, and how many are
	// missing.
	theirRun, newest, missed uint64
	heard                    time.Time
	silent, left             bool
	// ourMissed is how many of this run's frames the other has missed.
	ourMissed uint64
	mismatch  bool // logged that the clusters differ

	// waiting has, by id, whoever waits for an answer; fetches, by token, the
	// polls that do.
	nextID  uint64
	waiting map[uint64]waiter
	fetches map[uint64]*actor.PID
	// confirm has the batches of follow-ups on their way, the newest of each
	// source for each target.
	confirm map[batch]confirmation
}

// batch names the shards that follow-ups come from and go to.
type batch struct {
	source string
	target uint32
}

type confirmation struct {
	sequence       uint64
	appended, lost func()
}

// waiter waits for the answer to a request until a deadline. It is called once,
// with nil when the answer is lost.
type waiter struct {
	answer   func(*wire.Message)
	deadline time.Time
}

type (
	// leave: the other node is no member any more.
	leave struct{}
	// beat: a frame is due.
	beat struct{ incarnation uint64 }
	// flush: what was queued in this turn goes.
	flush struct{}
)

func peerProps(hub *Hub, id, address string) *actor.Props {
	var incarnation uint64
	return actor.PropsFromProducer(func() actor.Actor {
		incarnation++
		return &peer{
			Options: &hub.options, hub: hub, id: id, address: address, incarnation: incarnation,
			run: rand.Uint64() | 1, //nolint:gosec // tells apart, guards nothing
			// Ids start anywhere, so that no answer to an earlier incarnation, or to
			// an earlier run of a node that returns under its id, is taken for one
			// to this.
			nextID:  rand.Uint64() >> 1, //nolint:gosec // likewise
			waiting: map[uint64]waiter{}, fetches: map[uint64]*actor.PID{},
			confirm: map[batch]confirmation{},
		}
	}, actor.WithDispatcher(hub.options.Dispatcher))
}

// Receive implements actor.Actor.
func (p *peer) Receive(ctx actor.Context) {
	defer p.Watchdog.Enter(peerKind, ctx.Message()).Leave()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		p.self = ctx.Self()
		p.heard = time.Now()
		p.send(nil)
		p.armBeat(ctx)
	case *actor.Restarting, *actor.Stopping:
		p.nextBeat.Stop()
		p.giveUp(ctx)
	case *leave:
		p.left, p.silent = true, true
		p.giveUp(ctx)
	case *beat:
		if m.incarnation == p.incarnation && !p.left {
			p.beat(ctx)
		}
	case *flush:
		p.flushing = false
		p.flush()
	case *wire.Frame:
		p.receive(ctx, m)
	case *wire.Message: // an answer for the other node
		p.put(ctx, m)
	case *shard.Fetched:
		p.put(ctx, &wire.Message{Kind: &wire.Message_Fetched{Fetched: wire.NewFetched(m.Token, m.Page, m.Refusal, m.Reread)}})
	default:
		if p.silent {
			refuse(ctx, m, refusal.After(refusal.NotReady, awayRetry))
			return
		}
		p.ask(ctx, m)
	}
}

// put queues a message for the next frame, which goes when all that came before
// this turn ended is queued too.
func (p *peer) put(ctx actor.Context, m *wire.Message) {
	size := proto.Size(m)
	if len(p.queue) > 0 && p.queued+size > frameBytes {
		p.flush()
	}
	p.queue = append(p.queue, m)
	p.queued += size
	if !p.flushing {
		p.flushing = true
		ctx.Send(p.self, &flush{})
	}
}

func (p *peer) flush() {
	if len(p.queue) > 0 {
		p.send(p.queue)
		p.queue, p.queued = nil, 0
	}
}

// send numbers a frame and hands it to the network.
func (p *peer) send(messages []*wire.Message) {
	p.number++
	p.Network.Send(p.address, &wire.Frame{
		From: p.Self.ID, To: p.id, FromAddress: p.Self.Address, Shards: uint32(p.Shards),
		Run: p.run, Number: p.number, MissedRun: p.theirRun, Missed: p.missed, Messages: messages,
		Unheard: p.silent || p.theirRun == 0, Revision: p.hub.revision.Load(),
	})
}

func (p *peer) armBeat(ctx actor.Context) {
	root, self, due := ctx.ActorSystem().Root, p.self, &beat{p.incarnation}
	p.nextBeat = time.AfterFunc(beatEvery, func() { root.Send(self, due) })
}

// beat sends a frame, and looks whether the other does.
func (p *peer) beat(ctx actor.Context) {
	now := time.Now()
	switch quiet := now.Sub(p.heard); {
	case quiet > forgottenAfter:
		p.hub.forget(p.id)
	case quiet > silentAfter && !p.silent:
		p.silent = true
		p.Logger.Warn("another node is silent", "member", p.id, "for", quiet.Round(time.Millisecond))
		p.giveUp(ctx)
	}
	for id, w := range p.waiting {
		if now.After(w.deadline) {
			delete(p.waiting, id)
			w.answer(nil)
		}
	}
	p.flush()
	p.send(nil)
	p.armBeat(ctx)
}

// receive takes a frame of the other node.
func (p *peer) receive(ctx actor.Context, frame *wire.Frame) {
	if frame.GetShards() != uint32(p.Shards) {
		if !p.mismatch {
			p.mismatch = true
			p.Logger.Error("another node has another number of shards; it is not listened to",
				"member", p.id, "shards", frame.GetShards(), "own", p.Shards)
		}
		return
	}
	if p.silent && !p.left {
		p.silent = false
		p.Logger.Info("another node is heard again", "member", p.id)
	}
	p.heard = time.Now()
	p.hub.heard(p.address, frame, p.heard)
	if p.lost(frame) {
		p.giveUp(ctx)
	}
	for _, m := range frame.GetMessages() {
		p.take(ctx, m)
	}
}

// lost takes note of the numbers of a frame and reports whether frames were
// lost, of either side, since the one before.
func (p *peer) lost(frame *wire.Frame) (lost bool) {
	if frame.GetRun() != p.theirRun {
		lost = p.theirRun != 0
		p.theirRun, p.newest, p.missed = frame.GetRun(), 0, 0
	}
	if n := frame.GetNumber(); n > p.newest {
		if missing := n - p.newest - 1; missing > 0 {
			lost = true
			p.missed += missing
		}
		p.newest = n
	}
	if frame.GetMissedRun() == p.run && frame.GetMissed() > p.ourMissed {
		lost = true
		p.ourMissed = frame.GetMissed()
	}
	return lost
}

// giveUp answers all that wait for the other node: it may have done what it was
// asked. Polls are fetched again.
func (p *peer) giveUp(ctx actor.Context) {
	waiting, fetches := p.waiting, p.fetches
	confirm := p.confirm
	p.waiting, p.fetches = map[uint64]waiter{}, map[uint64]*actor.PID{}
	p.confirm = map[batch]confirmation{}
	for _, c := range confirm {
		c.lost()
	}
	for _, w := range waiting {
		w.answer(nil)
	}
	for token, subscriber := range fetches {
		ctx.Send(subscriber, &shard.Fetched{Token: token, Reread: true})
	}
}
