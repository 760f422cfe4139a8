// Package writebehind carries what was applied to the store, in batches,
// behind the acks.
//
// A write-behind actor serves one shard. It folds the writes of a mailbox
// together, the last state replacing those before it, and keeps one batch in
// flight. A batch is written by a worker: first the journal is synced, so that
// the store is never ahead of what survives a power cut, then the batch is
// written, rows and states in one step. A write that fails is repeated, with
// back-off, until it succeeds: batches may be written twice and states only
// move forward, so repeating is always safe.
package writebehind

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/persistence"
)

// Options set an actor up.
type Options struct {
	Shard   uint32
	Journal persistence.Journal
	Store   persistence.Store
	Workers *supervision.Workers
	// MaxAge is how long a write waits for others to be batched with it.
	MaxAge time.Duration
	// MaxRecords ends the wait early.
	MaxRecords int
	Dispatcher actor.Dispatcher
	Watchdog   *supervision.Watchdog
	Logger     *slog.Logger
	// Written is called, if set, after each batch with its size and duration.
	Written func(records int, took time.Duration)
}

// Messages to a write-behind actor.
type (
	// Put hands over what one record changed. Puts of one mailbox come in the
	// order of its positions.
	Put struct {
		Write persistence.MailboxWrite
	}
	// Advance moves the checkpoint. It is written with the next batch, or on
	// its own when none comes.
	Advance struct {
		Checkpoint persistence.Position
	}
	// Flush writes what waits without waiting for more.
	Flush struct{}
)

// Stored tells the shard that a batch is in the store.
type Stored struct {
	// Through has for each mailbox of the batch the position of its state.
	Through map[string]persistence.Position
	// Checkpoint is the one written with the batch; zero for none.
	Checkpoint persistence.Position
}

type (
	flushDue struct{ incarnation uint64 }
	written  struct {
		incarnation uint64
		err         error
		took        time.Duration
	}
)

const (
	minRetry     = 50 * time.Millisecond
	maxRetry     = 5 * time.Second
	writeTimeout = 30 * time.Second
	// checkpointAge is how long a checkpoint waits for a batch to go with.
	checkpointAge = 500 * time.Millisecond
)

var kind = &supervision.Kind{Name: "writebehind", Receive: "writebehind.(*writer).Receive"}

type writer struct {
	Options
	incarnation uint64

	pending    map[string]*persistence.MailboxWrite
	records    int
	checkpoint persistence.Position // wanted
	written    persistence.Position // in the store

	batch   persistence.Batch // in flight when writing
	count   int
	writing bool
	armed   bool
	retry   time.Duration
}

// Props returns the props of a write-behind actor. Its parent is told of every
// batch stored.
func Props(options Options) *actor.Props {
	var incarnation uint64
	return actor.PropsFromProducer(func() actor.Actor {
		incarnation++
		return &writer{
			Options:     options,
			incarnation: incarnation,
			pending:     make(map[string]*persistence.MailboxWrite),
		}
	}, actor.WithDispatcher(options.Dispatcher))
}

// Receive implements actor.Actor.
func (w *writer) Receive(ctx actor.Context) {
	defer w.Watchdog.Enter(kind, ctx.Message()).Leave()
	switch m := ctx.Message().(type) {
	case *Put:
		w.put(m.Write)
		if w.records >= w.MaxRecords {
			w.flush(ctx)
		} else {
			w.arm(ctx, w.MaxAge)
		}
	case *Advance:
		if w.checkpoint.Less(m.Checkpoint) {
			w.checkpoint = m.Checkpoint
			w.arm(ctx, max(w.MaxAge, checkpointAge))
		}
	case *Flush:
		w.flush(ctx)
	case *flushDue:
		if m.incarnation == w.incarnation {
			w.armed = false
			w.flush(ctx)
		}
	case *written:
		if m.incarnation == w.incarnation {
			w.done(ctx, m)
		}
	}
}

// put folds a write into the one that waits for the same mailbox.
func (w *writer) put(next persistence.MailboxWrite) {
	w.records++
	waiting, ok := w.pending[next.Mailbox]
	if !ok {
		w.pending[next.Mailbox] = &next
		return
	}
	waiting.Position = next.Position
	waiting.State = next.State
	waiting.First = max(waiting.First, next.First)
	waiting.Rows = append(waiting.Rows, next.Rows...)
	waiting.Dedup = append(waiting.Dedup, next.Dedup...)
	for _, source := range next.Sources {
		waiting.Sources = putSource(waiting.Sources, source)
	}
}

func putSource(sources []persistence.Source, source persistence.Source) []persistence.Source {
	for i := range sources {
		if sources[i].Mailbox == source.Mailbox {
			sources[i].Position = source.Position
			return sources
		}
	}
	return append(sources, source)
}

// arm has the actor flush after d, unless it is to already.
func (w *writer) arm(ctx actor.Context, d time.Duration) {
	if w.armed || w.writing {
		return
	}
	w.armed = true
	w.after(ctx, d)
}

func (w *writer) after(ctx actor.Context, d time.Duration) {
	root, self, due := ctx.ActorSystem().Root, ctx.Self(), &flushDue{w.incarnation}
	time.AfterFunc(d, func() { root.Send(self, due) })
}

// flush starts writing what waits, unless a batch is in flight: then it goes
// when that one is done.
func (w *writer) flush(ctx actor.Context) {
	if w.writing {
		return
	}
	if w.count == 0 && w.batch.Checkpoint.IsZero() { // else the last batch failed, and is written again
		if w.records == 0 && !w.written.Less(w.checkpoint) {
			return
		}
		w.batch = persistence.Batch{Mailboxes: make([]persistence.MailboxWrite, 0, len(w.pending))}
		for _, write := range w.pending {
			if w.batch.Highest.Less(write.Position) {
				w.batch.Highest = write.Position
			}
			w.batch.Mailboxes = append(w.batch.Mailboxes, *write)
		}
		if w.written.Less(w.checkpoint) {
			w.batch.Checkpoint = w.checkpoint
		}
		w.count, w.records = w.records, 0
		clear(w.pending)
	}
	root, self, batch, incarnation := ctx.ActorSystem().Root, ctx.Self(), w.batch, w.incarnation
	w.writing = w.Workers.Submit(func(ctx context.Context) {
		began := time.Now()
		err := w.write(ctx, batch)
		root.Send(self, &written{incarnation: incarnation, err: err, took: time.Since(began)})
	})
	if !w.writing {
		w.again(ctx)
	}
}

// write runs on a worker.
func (w *writer) write(ctx context.Context, batch persistence.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := w.Journal.Sync(ctx); err != nil {
		return err
	}
	return writeBatch(ctx, w.Store, w.Shard, batch)
}

func (w *writer) done(ctx actor.Context, m *written) {
	w.writing = false
	if m.err != nil {
		if !errors.Is(m.err, persistence.ErrClosed) {
			w.Logger.Warn("write-behind failed; it is repeated", "shard", w.Shard, "records", w.count, "error", m.err)
			w.again(ctx)
		}
		return
	}
	w.retry = 0
	if w.Written != nil {
		w.Written(w.count, m.took)
	}
	stored := &Stored{Checkpoint: w.batch.Checkpoint, Through: make(map[string]persistence.Position, len(w.batch.Mailboxes))}
	for i := range w.batch.Mailboxes {
		stored.Through[w.batch.Mailboxes[i].Mailbox] = w.batch.Mailboxes[i].Position
	}
	if w.written.Less(w.batch.Checkpoint) {
		w.written = w.batch.Checkpoint
	}
	w.batch, w.count = persistence.Batch{}, 0
	ctx.Send(ctx.Parent(), stored)
	switch {
	case w.records >= w.MaxRecords:
		w.flush(ctx)
	case w.records > 0:
		w.arm(ctx, w.MaxAge)
	case w.written.Less(w.checkpoint):
		w.arm(ctx, max(w.MaxAge, checkpointAge))
	}
}

// again repeats the batch after a back-off that doubles.
func (w *writer) again(ctx actor.Context) {
	w.retry = min(max(w.retry*2, minRetry), maxRetry)
	w.armed = true
	w.after(ctx, w.retry)
}
