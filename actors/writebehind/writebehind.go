// Package writebehind carries what was applied to the store, and to the cache
// where there is one, in batches, behind the acks; and where other services are
// to hear of it, publishes its events.
//
// A write-behind actor serves one shard. For store and cache it has a lane
// each, so that neither holds up the other: a lane folds the writes of a
// mailbox together, the last state replacing those before it, and keeps one
// batch in flight, which a worker writes.
//
// Where events are published, their lane stands before that of the store: what
// is put goes on to the store when its events are durable, and the cache does
// not wait for them.
//
// For the store, the journal is synced first, so that the store is never ahead
// of what survives a power cut; then the batch is written, rows and states in
// one step. A write that fails is repeated, with back-off, until it succeeds:
// batches may be written twice and states only move forward, so repeating is
// always safe. While the store is away, the shard may drop what waits for it;
// the lane then reads it from the journal again, and applies it to what the store
// has.
//
// The cache may lose anything at any time, and so may its lane: what waits for
// it is bounded, and dropped when it is too much. From then on, as whenever the
// cache's mark is not the one that the lane left, a new filling is begun.
package writebehind

import (
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/supervision"
	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/persistence"
)

// Options set an actor up.
type Options struct {
	Shard   uint32
	Journal persistence.Journal
	Store   persistence.Store
	Workers *supervision.Workers
	// Cache is nil where there is none; CacheWorkers write to it.
	Cache        persistence.Cache
	CacheWorkers *supervision.Workers
	// Publisher is nil where no events are published.
	Publisher persistence.Publisher
	// MaxAge is how long a write waits for others to be batched with it.
	MaxAge time.Duration
	// MaxRecords ends the wait early.
	MaxRecords int
	Dispatcher actor.Dispatcher
	Watchdog   *supervision.Watchdog
	Logger     *slog.Logger
	// Lag is kept up to date. Required.
	Lag *Lag
	// Written is called, if set, after each batch for the store with its size
	// and duration; Cached after each one for the cache.
	Written, Cached func(records int, took time.Duration)
}

// Messages to a write-behind actor.
type (
	// Opened tells that the shard replays from the store's checkpoint: what it
	// puts begins above it. It comes first. End is where the journal ended then,
	// the position of its next record.
	Opened struct {
		Checkpoint, End persistence.Position
	}
	// Put hands over what one record changed. Puts of one mailbox come in the
	// order of its positions. Events are the record's; nobody changes them.
	Put struct {
		Write  *persistence.MailboxWrite // read only
		Events []*eventsv1.Event
	}
	// Fill hands over a mailbox that was loaded from the store, nil for one that
	// it does not have, to be copied to the cache. It comes before the puts of
	// the mailbox, which must be whole.
	Fill struct {
		Mailbox string
		Loaded  *persistence.Mailbox // read only
	}
	// Skipped tells that a record's change is not put, because the store was past
	// it when its mailbox was loaded. It comes before the Through that covers it.
	Skipped struct {
		Position persistence.Position
	}
	// Through tells that everything up to a position was put that is to be.
	Through struct {
		Position persistence.Position
	}
	// Advance moves the checkpoint. It is written with the next batch, or on
	// its own when none comes.
	Advance struct {
		Checkpoint persistence.Position
	}
	// Drop tells that the shard has let go of every record up to a position
	// that is not stored yet: what was put of them is forgotten, and read from
	// the journal again, up to Limit for now. All of them up to Limit were put
	// before, their follow-ups durable. Number tells it apart from any other
	// that the parent, or an incarnation before it, sent.
	Drop struct {
		Number         uint64
		Through, Limit persistence.Position
	}
	// Flush writes what waits without waiting for more.
	Flush struct{}
)

// Struggling tells the shard that the store takes no writes for now, or only
// slowly. It holds until the next Stored.
type Struggling struct{}

// Dropped tells the shard that the Drop with a number was taken, and so those
// before it. Until then what it is about may wait here for its events to be
// published: the shard drops no more.
type Dropped struct{ Number uint64 }

// Stored tells the shard that a batch is in the store.
type Stored struct {
	// Through has for each mailbox of the batch the position of its state.
	Through map[string]persistence.Position
	// Checkpoint is the one written with the batch; zero for none.
	Checkpoint persistence.Position
}

const (
	minRetry = 50 * time.Millisecond
	maxRetry = 5 * time.Second
)

var kind = &supervision.Kind{Name: "writebehind", Receive: "writebehind.(*writer).Receive"}

type writer struct {
	Options
	incarnation uint64
	store       storeLane
	cache       *cacheLane  // nil: there is no cache
	events      *eventsLane // nil: no events are published
}

// Props returns the props of a write-behind actor. Its parent is told of every
// batch stored.
func Props(options Options) *actor.Props {
	var incarnation uint64
	return actor.PropsFromProducer(func() actor.Actor {
		incarnation++
		w := &writer{Options: options, incarnation: incarnation}
		w.store.writer = w
		w.Lag.Store.set(load{}, load{}) // what an earlier incarnation had is gone
		w.Lag.Cache.set(load{}, load{})
		w.Lag.Events.set(load{}, load{})
		if options.Cache != nil {
			w.cache = &cacheLane{writer: w}
		}
		if options.Publisher != nil {
			w.events = &eventsLane{writer: w}
		}
		return w
	}, actor.WithDispatcher(options.Dispatcher))
}

// Receive implements actor.Actor.
func (w *writer) Receive(ctx actor.Context) {
	defer w.Watchdog.Enter(kind, ctx.Message()).Leave()
	switch m := ctx.Message().(type) {
	case *Put:
		w.put(ctx, m)
	case *Advance:
		w.store.advance(ctx, m.Checkpoint)
	case *Drop:
		w.drop(ctx, m)
	case *Flush:
		if w.events != nil {
			w.events.flushing = !w.events.idle()
		}
		w.store.flush(ctx)
	case *Opened:
		w.store.opened(m)
		if w.cache != nil {
			w.cache.opened(m)
		}
	case *storeSlow:
		if m.incarnation == w.incarnation {
			w.store.slow(ctx, m)
		}
	case *published:
		if m.incarnation == w.incarnation {
			w.events.done(ctx, m)
		}
	case *publishAgain:
		if m.incarnation == w.incarnation {
			w.events.publish(ctx)
		}
	case *storeDue:
		if m.incarnation == w.incarnation {
			w.store.due(ctx)
		}
	case *stored:
		if m.incarnation == w.incarnation {
			w.store.done(ctx, m)
		}
	default:
		if w.cache != nil {
			w.receiveCache(ctx)
		}
	}
}

// put hands a write to the lanes. The store comes behind the events.
func (w *writer) put(ctx actor.Context, m *Put) {
	if w.cache != nil {
		w.cache.put(ctx, *m.Write)
	}
	if w.events != nil {
		w.events.put(ctx, m)
	} else {
		w.store.put(ctx, *m.Write)
	}
}

// drop hands a drop to the store, behind what was put before it.
func (w *writer) drop(ctx actor.Context, m *Drop) {
	if w.events != nil {
		w.events.drop(ctx, m)
	} else {
		w.store.drop(ctx, m)
	}
}

// receiveCache handles what concerns the cache alone.
func (w *writer) receiveCache(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *Skipped:
		w.cache.skip(m.Position)
	case *Through:
		w.cache.reached(ctx, m.Position)
	case *Fill:
		w.cache.fill(ctx, m)
	case *cacheDue:
		if m.incarnation == w.incarnation {
			w.cache.due(ctx)
		}
	case *cached:
		if m.incarnation == w.incarnation {
			w.cache.done(ctx, m)
		}
	}
}

// after sends the actor a message later.
func after(ctx actor.Context, d time.Duration, message any) {
	root, self := ctx.ActorSystem().Root, ctx.Self()
	time.AfterFunc(d, func() { root.Send(self, message) })
}

// nextRetry doubles a back-off within its bounds.
func nextRetry(retry time.Duration) time.Duration { return min(max(retry*2, minRetry), maxRetry) }
