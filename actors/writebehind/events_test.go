package writebehind

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/supervision"
	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// call is a call of Publish that waits for its end.
type call struct {
	at     time.Duration // since the test began
	events []string
	done   func(error)
}

// recorder is a publisher that answers nothing by itself.
type recorder struct {
	began time.Time
	calls []call
}

func (r *recorder) Publish(events []persistence.Event, done func(error)) {
	c := call{at: time.Since(r.began), done: done}
	for _, e := range events {
		c.events = append(c.events, e.User)
	}
	r.calls = append(r.calls, c)
}

// rig is a write-behind actor with a publisher, in a bubble of fake time.
type rig struct {
	t         *testing.T
	system    *actor.ActorSystem
	writer    *actor.PID
	publisher recorder
	lag       Lag
	journal   askedJournal
	store     *memory.Store
}

// askedJournal counts how often it was asked where it begins and ends, which
// comes before it is read.
type askedJournal struct {
	*memory.Journal
	asked atomic.Int64
}

func (j *askedJournal) Bounds(ctx context.Context, shard uint32) (persistence.Bounds, error) {
	j.asked.Add(1)
	return j.Journal.Bounds(ctx, shard)
}

func inBubble(t *testing.T, test func(*rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) })), publisher: recorder{began: time.Now()}, store: memory.NewStore()}
		r.journal.Journal = memory.NewJournal(persistence.DurabilityFsync)
		workers, dispatcher := supervision.NewWorkers(1, 16), supervision.NewDispatcher(1)
		watchdog := supervision.NewWatchdog(slog.New(slog.DiscardHandler))
		options := Options{
			Journal: &r.journal, Store: r.store, Workers: workers,
			Publisher: &r.publisher, Lag: &r.lag,
			MaxAge: time.Hour, MaxRecords: 1, Dispatcher: dispatcher, Watchdog: watchdog, Logger: slog.New(slog.DiscardHandler),
		}
		parent := r.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
			if _, ok := ctx.Message().(*actor.Started); ok {
				r.writer = ctx.Spawn(Props(options))
			}
		}))
		synctest.Wait()
		test(r)
		_ = r.system.Root.StopFuture(parent).Wait()
		workers.Close()
		watchdog.Close()
		r.system.Shutdown()
		dispatcher.Stop()
		_ = r.journal.Close()
	})
}

// put puts the record at an offset, with so many events.
func (r *rig) put(user string, offset int64, events int) {
	m := &Put{Write: &persistence.MailboxWrite{Mailbox: user, Position: at(offset), State: []byte("state")}}
	for i := range events {
		m.Events = append(m.Events, &eventsv1.Event{User: user, Offset: offset, Index: uint32(i)})
	}
	r.system.Root.Send(r.writer, m)
	synctest.Wait()
}

// answer ends the newest call of Publish.
func (r *rig) answer(err error) {
	r.publisher.calls[len(r.publisher.calls)-1].done(err)
	synctest.Wait()
}

func (r *rig) wantCalls(want ...string) {
	r.t.Helper()
	var got []string
	for _, c := range r.publisher.calls {
		got = append(got, fmt.Sprint(c.at, " ", c.events))
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("published %q, want %q", got, want)
	}
}

func (r *rig) wantStored(user string, offset int64) {
	r.t.Helper()
	var got int64
	if m, err := r.store.Load(r.t.Context(), 0, user, 1); err == nil {
		got = m.Position.Offset
	}
	if got != offset {
		r.t.Errorf("%s is stored at %d, want %d", user, got, offset)
	}
}

func (r *rig) wantWaiting(records int64, age time.Duration) {
	r.t.Helper()
	if got := r.lag.Events.At(time.Now()); got.Records != records || got.Age != age || (got.Bytes > 0) != (records > 0) {
		r.t.Errorf("%+v waits, want %d records for %v", got, records, age)
	}
}

var errNo = errors.New("no")

func TestTheStoreWaitsForTheEvents(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.put("alice", 1, 1)
		r.wantCalls("0s [alice]")
		r.wantStored("alice", 0)
		r.answer(nil)
		r.wantStored("alice", 1)
	})
}

func TestWhatHasNoEventsWaitsBehindWhatHas(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.put("carol", 1, 0)
		r.wantStored("carol", 1)
		r.put("alice", 2, 1)
		r.put("alice", 3, 0)
		r.wantStored("alice", 0)
		r.answer(nil)
		r.wantStored("alice", 3)
		r.wantCalls("0s [alice]")
	})
}

func TestOneBatchIsInFlight(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.put("alice", 1, 1)
		r.put("bob", 2, 2)
		r.put("carol", 3, 1)
		<-time.After(time.Second)
		r.wantCalls("0s [alice]")
		r.wantWaiting(3, time.Second)
		r.answer(nil)
		r.wantCalls("0s [alice]", "1s [bob bob carol]")
		r.wantWaiting(2, time.Second)
		r.answer(nil)
		r.wantWaiting(0, 0)
	})
}

func TestAFailedBatchIsRepeatedWithBackOff(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.put("alice", 1, 1)
		r.put("bob", 2, 1) // comes behind the batch that fails, whatever happens
		for range 8 {
			backOff := min(minRetry<<(len(r.publisher.calls)-1), maxPublishRetry)
			r.answer(errNo)
			<-time.After(backOff)
			synctest.Wait()
		}
		r.wantCalls("0s [alice]", "50ms [alice]", "150ms [alice]", "350ms [alice]", "750ms [alice]", "1.55s [alice]", "2.55s [alice]", "3.55s [alice]", "4.55s [alice]")
		r.wantStored("alice", 0)
		r.answer(nil)
		r.wantStored("alice", 1)
		r.answer(errNo)
		<-time.After(minRetry)
		synctest.Wait()
		if n := len(r.publisher.calls); n != 11 {
			t.Errorf("%d calls: after a success the back-off begins anew", n)
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.put("alice", 1, 1)
		const each = 100
		for i := range int64(6) {
			r.put("bob", i+2, each)
		}
		var sizes []int
		for range 3 {
			sizes = append(sizes, len(r.publisher.calls[len(r.publisher.calls)-1].events))
			r.answer(nil)
		}
		if want := []int{1, 5 * each, each}; !slices.Equal(sizes, want) {
			t.Errorf("batches of %d, want %d", sizes, want)
		}
		r.wantStored("bob", 7)
	})
}

// What is dropped comes to the store from the journal, and not before its events
// are published.
func TestADropKeepsItsPlace(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.put("alice", 1, 1)
		r.put("bob", 2, 1)
		r.system.Root.Send(r.writer, &Drop{Through: at(2), Limit: at(2)})
		r.put("carol", 3, 1)
		r.answer(nil) // alice's
		<-time.After(time.Hour)
		if n := r.journal.asked.Load(); n != 0 {
			t.Errorf("the journal was asked %d times before what was dropped was published", n)
		}
		r.answer(nil)
		<-time.After(time.Hour)
		if r.journal.asked.Load() == 0 {
			t.Error("what was dropped is not read from the journal")
		}
	})
}

func TestAClosedPublisherEndsIt(t *testing.T) {
	inBubble(t, func(r *rig) {
		r.put("alice", 1, 1)
		r.answer(persistence.ErrClosed)
		<-time.After(time.Hour)
		r.wantCalls("0s [alice]")
		r.wantStored("alice", 0)
	})
}
