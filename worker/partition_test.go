package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/IBM/sarama"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
)

// pass lets fake time pass.
func pass(d time.Duration) { <-time.After(d) }

// taskFunc is a Task.
type taskFunc func(ctx context.Context, e *Event) error

func (f taskFunc) Handle(ctx context.Context, e *Event) error { return f(ctx, e) }

// message is a record of an event of user at a journal offset.
func message(t testing.TB, user string, journal, offset int64) *sarama.ConsumerMessage {
	value, err := proto.Marshal(&eventsv1.Event{
		User: user, Shard: 1, Generation: 1, Offset: journal,
		Kind: &eventsv1.Event_MessageReceived{MessageReceived: &eventsv1.MessageReceived{MessageId: fmt.Sprint(journal)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &sarama.ConsumerMessage{Topic: "events", Partition: 0, Offset: offset, Key: []byte(user), Value: value, Timestamp: time.Now()}
}

// rig runs a partition whose records the test gives.
type rig struct {
	t         *testing.T
	processor *processor
	messages  chan *sarama.ConsumerMessage
	next      int64
	ended     chan error
	paused    atomic.Bool

	mu     sync.Mutex // guards the following
	marked int64
	dead   []letter
}

func testOptions() Options { return Options{Name: "test", Backoff: time.Second} }

func start(t *testing.T, options Options, task Task) *rig {
	t.Helper()
	r := &rig{t: t, messages: make(chan *sarama.ConsumerMessage), ended: make(chan error, 1), marked: -1}
	if err := options.complete(); err != nil {
		t.Fatal(err)
	}
	r.processor = newProcessor(task, options, func(_ context.Context, l letter) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dead = append(r.dead, l)
		return nil
	})
	p := newPartition(r.processor, Source{Topic: "events"}, false, r)
	go func() { r.ended <- p.run(t.Context(), r.messages) }()
	return r
}

func (r *rig) Mark(next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marked = next
}

func (r *rig) Pause()  { r.paused.Store(true) }
func (r *rig) Resume() { r.paused.Store(false) }

func (r *rig) give(user string) {
	r.messages <- message(r.t, user, r.next, r.next)
	r.next++
}

// revoke takes the partition away and returns what is marked then.
func (r *rig) revoke() int64 {
	r.t.Helper()
	close(r.messages)
	if err := <-r.ended; err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.marked
}

func (r *rig) wantMarked(want int64) {
	r.t.Helper()
	pass(r.processor.options.CommitInterval)
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.marked != want {
		r.t.Errorf("%d is marked, want %d", r.marked, want)
	}
}

// An event that fails is tried again, ever later; what is behind it for its key
// waits, and other keys go on. Nothing above it is committed.
func TestRetriesHoldBackTheirKeyOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		var attempts []time.Duration
		began := time.Now()
		options := testOptions()
		options.InFlight = 1 // so that order needs no lock, and waiting takes no slot
		r := start(t, options, taskFunc(func(_ context.Context, e *Event) error {
			if e.GetOffset() == 0 {
				attempts = append(attempts, time.Since(began))
				if e.Attempt < 4 {
					return errors.New("not yet")
				}
			}
			order = append(order, fmt.Sprint(e.User, e.GetOffset()))
			return nil
		}))
		for _, user := range []string{"a", "a", "b", "a", "b"} {
			r.give(user)
		}
		r.wantMarked(0)
		pass(time.Minute)
		r.wantMarked(5)
		if got := fmt.Sprint(order); got != "[b2 b4 a0 a1 a3]" {
			t.Errorf("handled in the order %s", got)
		}
		for i, low := range []time.Duration{0, time.Second / 2, time.Second, 2 * time.Second} {
			if i == 0 {
				continue
			}
			if pause := attempts[i] - attempts[i-1]; pause < low || pause > 2*low {
				t.Errorf("attempt %d came %v after the one before, want %v to %v", i+1, pause, low, 2*low)
			}
		}
		r.revoke()
	})
}

func TestDelayThatTheTaskAsksForIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []time.Time
		r := start(t, testOptions(), taskFunc(func(_ context.Context, e *Event) error {
			times = append(times, time.Now())
			switch e.Attempt {
			case 1:
				return RetryAfter(errors.New("busy"), 30*time.Second)
			case 2:
				return RetryAfter(errors.New("busy"), 24*time.Hour)
			}
			return nil
		}))
		r.give("a")
		pass(time.Hour)
		synctest.Wait()
		if len(times) != 3 || times[1].Sub(times[0]) != 30*time.Second || times[2].Sub(times[1]) != 5*time.Minute {
			t.Errorf("attempts at %v", times)
		}
		r.revoke()
	})
}

// What cannot be handled becomes a dead letter, and its key goes on.
func TestDeadLetters(t *testing.T) {
	for _, test := range []struct {
		name     string
		err      error
		attempts int
	}{
		{"a permanent error", Permanent(errors.New("gone")), 1},
		{"a wrapped permanent error", fmt.Errorf("post: %w", Permanent(errors.New("gone"))), 1},
		{"too many attempts", errors.New("down"), 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				options := testOptions()
				options.Attempts = 3
				var handled atomic.Int64
				r := start(t, options, taskFunc(func(_ context.Context, e *Event) error {
					if e.GetOffset() == 0 {
						return test.err
					}
					handled.Add(1)
					return nil
				}))
				r.give("a")
				r.give("a")
				pass(time.Minute)
				r.wantMarked(2)
				if len(r.dead) != 1 || r.dead[0].attempts != test.attempts || !errors.Is(r.dead[0].reason, test.err) || r.dead[0].record.offset != 0 {
					t.Errorf("dead letters are %+v", r.dead)
				}
				if handled.Load() != 1 {
					t.Error("the key does not go on")
				}
				r.revoke()
			})
		})
	}
}

func TestWhatIsNoEventIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, testOptions(), taskFunc(func(context.Context, *Event) error {
			t.Error("it was handed in")
			return nil
		}))
		r.messages <- &sarama.ConsumerMessage{Topic: "events", Offset: 0, Key: []byte("a"), Value: []byte("not an event")}
		r.messages <- &sarama.ConsumerMessage{Topic: "events", Offset: 1, Key: []byte("a")}
		r.wantMarked(2)
		if len(r.dead) != 2 {
			t.Errorf("%d dead letters", len(r.dead))
		}
		r.revoke()
	})
}

func TestAPanicIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, testOptions(), taskFunc(func(_ context.Context, e *Event) error {
			if e.Attempt == 1 {
				panic("a bug")
			}
			return nil
		}))
		r.give("a")
		pass(time.Minute)
		if marked := r.revoke(); marked != 1 || len(r.dead) > 0 {
			t.Errorf("%d is marked, %d dead letters", marked, len(r.dead))
		}
	})
}

// What was published again is handed in once, as long as it is remembered.
func TestRepublishedEventsAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var handled []int64
		r := start(t, testOptions(), taskFunc(func(_ context.Context, e *Event) error {
			handled = append(handled, e.GetOffset())
			return nil
		}))
		for offset, journal := range []int64{1, 2, 3, 1, 2, 3, 4} {
			r.messages <- message(t, "a", journal, int64(offset))
		}
		r.wantMarked(7)
		if got := fmt.Sprint(handled); got != "[1 2 3 4]" {
			t.Errorf("handled %s", got)
		}
		r.revoke()
	})
}

// A window or a key that is full pauses the partition, which still notices that
// it is taken away; room has it go on.
func TestFullPartitionPauses(t *testing.T) {
	for _, test := range []struct {
		name             string
		window, keyQueue int
	}{{"window", 4, 100}, {"key", 100, 4}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				options := testOptions()
				options.Window, options.KeyQueue = test.window, test.keyQueue
				release := make(chan struct{})
				var handled atomic.Int64
				r := start(t, options, taskFunc(func(ctx context.Context, e *Event) error {
					select {
					case <-release:
						handled.Add(1)
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}))
				for i := range 4 {
					if r.paused.Load() {
						t.Fatalf("paused after %d", i)
					}
					r.give("a")
					synctest.Wait()
				}
				for range 3 { // what was fetched before the pause still comes
					r.give("a")
				}
				synctest.Wait()
				if !r.paused.Load() {
					t.Fatal("not paused")
				}
				close(release)
				synctest.Wait()
				if r.paused.Load() || handled.Load() != 7 {
					t.Errorf("paused: %v, %d handled", r.paused.Load(), handled.Load())
				}
				if marked := r.revoke(); marked != 7 {
					t.Errorf("%d is marked", marked)
				}
			})
		})
	}
}

// When the partition is taken away, calls in flight may finish; nothing else
// begins, neither what waits to be tried again nor what waits for a slot.
func TestRevocationDrainsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		options := testOptions()
		options.InFlight = 2
		var began, ended atomic.Int64
		r := start(t, options, taskFunc(func(_ context.Context, e *Event) error {
			began.Add(1)
			if e.User == "fails" {
				return errors.New("later")
			}
			pass(3 * time.Second)
			ended.Add(1)
			return nil
		}))
		for _, user := range []string{"a", "fails", "b", "c", "a"} {
			r.give(user)
			synctest.Wait()
		}
		marked := r.revoke()
		if began.Load() != 3 || ended.Load() != 2 || marked != 1 {
			t.Errorf("%d calls began, %d ended, %d is marked", began.Load(), ended.Load(), marked)
		}
	})
}

// Calls that last longer have their context ended; one that does not obey is
// left behind, and its event not committed.
func TestRevocationDoesNotWaitForEver(t *testing.T) {
	for _, obeys := range []bool{true, false} {
		t.Run(fmt.Sprintf("obeys=%v", obeys), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				options := testOptions()
				options.Timeout = time.Hour
				r := start(t, options, taskFunc(func(ctx context.Context, e *Event) error {
					if obeys {
						<-ctx.Done()
						return ctx.Err()
					}
					pass(time.Minute)
					return nil
				}))
				r.give("a")
				synctest.Wait()
				began := time.Now()
				if marked := r.revoke(); marked > 0 {
					t.Errorf("%d is marked", marked)
				}
				want := r.processor.options.DrainTimeout
				if !obeys {
					want += drainGrace
				}
				if took := time.Since(began); took != want {
					t.Errorf("it took %v, want %v", took, want)
				}
				pass(time.Hour) // the one left behind ends and does no harm
			})
		})
	}
}

// A dead letter that cannot be written holds its event back: nothing is lost.
func TestUnwrittenDeadLetterHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, testOptions(), taskFunc(func(_ context.Context, e *Event) error { return Permanent(errors.New("no")) }))
		write, broken := r.processor.bury, atomic.Bool{}
		broken.Store(true)
		r.processor.bury = func(ctx context.Context, l letter) error {
			if broken.Load() {
				return errors.New("no broker")
			}
			return write(ctx, l)
		}
		r.give("a")
		pass(time.Hour)
		r.wantMarked(0)
		broken.Store(false)
		pass(time.Hour)
		r.wantMarked(1)
		r.revoke()
	})
}

// flusher counts what it handled, and makes it durable before the commit.
type flusher struct {
	taskFunc
	assigned, revoked int
	fail              atomic.Bool
	flushed           []int64
}

func (f *flusher) Assigned(context.Context, Source) error { f.assigned++; return nil }
func (f *flusher) Revoked(Source)                         { f.revoked++ }
func (f *flusher) Flush(_ context.Context, _ Source, next int64) error {
	if f.fail.Load() {
		return errors.New("full")
	}
	f.flushed = append(f.flushed, next)
	return nil
}

func TestNothingIsCommittedThatIsNotFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flusher{taskFunc: func(context.Context, *Event) error { return nil }}
		r := start(t, testOptions(), f)
		r.give("a")
		r.wantMarked(1)
		f.fail.Store(true)
		r.give("a")
		r.wantMarked(1)
		f.fail.Store(false)
		if marked := r.revoke(); marked != 2 {
			t.Errorf("%d is marked", marked)
		}
		if f.assigned != 1 || f.revoked != 1 || fmt.Sprint(f.flushed) != "[1 2]" {
			t.Errorf("%d assigned, %d revoked, flushed %v", f.assigned, f.revoked, f.flushed)
		}
	})
}
