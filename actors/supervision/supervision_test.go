package supervision

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestWatchdogNamesTheActorThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		w := NewWatchdog(slog.New(slog.NewTextHandler(&log, nil)))
		defer w.Close()

		quick := w.Enter(&Kind{Name: "quick"}, &actor.Started{})
		quick.Leave()
		slow := w.Enter(&Kind{Name: "slow"}, &actor.Started{})
		<-time.After(3 * Budget) // a message that takes too long
		slow.Leave()

		counts := w.Counts()
		if counts[Stall{"slow", "*actor.Started"}] != 1 || len(counts) != 1 {
			t.Errorf("counted %v", counts)
		}
		if n := strings.Count(log.String(), "actor=slow"); n != 1 {
			t.Errorf("logged %d times, want once a minute:\n%s", n, log.String())
		}
	})
}

func TestWorkersTellAtOnceWhenTheyAreFull(t *testing.T) {
	w := NewWorkers(1, 1)
	busy, release := make(chan struct{}), make(chan struct{})
	if !w.Submit(func(context.Context) { close(busy); <-release }) {
		t.Fatal("an idle pool refused")
	}
	<-busy
	ran := false
	if !w.Submit(func(context.Context) { ran = true }) {
		t.Fatal("an empty queue refused")
	}
	if w.Submit(func(context.Context) {}) {
		t.Error("a full queue accepted")
	}
	close(release)
	w.Close()
	if !ran {
		t.Error("what was accepted did not run")
	}
	if w.Submit(func(context.Context) {}) {
		t.Error("a closed pool accepted")
	}
}

// A pool whose jobs take long gets more goroutines, so many and no more, and has
// as many as at first when there is nothing to do.
func TestElasticWorkersGrowWhileJobsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 8
		w := NewElasticWorkers(2, most, 1000)
		defer w.Close()
		var now, peak, ran atomic.Int64
		work := func(takes time.Duration) {
			for range 200 {
				if !w.Submit(func(context.Context) {
					peak.Store(max(peak.Load(), now.Add(1)))
					<-time.After(takes)
					now.Add(-1)
					ran.Add(1)
				}) {
					t.Fatal("the queue has room and refused")
				}
			}
			<-time.After(time.Hour)
		}
		work(time.Millisecond)
		if peak.Load() != 2 {
			t.Errorf("%d at a time, and no job waited long", peak.Load())
		}
		work(500 * time.Millisecond)
		if peak.Load() != most {
			t.Errorf("%d at a time, want %d", peak.Load(), most)
		}
		peak.Store(0)
		work(time.Millisecond)
		if peak.Load() != 2 || ran.Load() != 600 {
			t.Errorf("%d at a time afterwards, and %d ran", peak.Load(), ran.Load())
		}
	})
}

func TestClosingWorkersEndsTheirContexts(t *testing.T) {
	w := NewWorkers(1, 1)
	started := make(chan struct{})
	w.Submit(func(ctx context.Context) { close(started); <-ctx.Done() })
	<-started
	w.Close() // returns only when the job has
}

func TestBackoffRestartsLaterEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
		defer system.Shutdown()
		began := time.Now()
		starts := make(chan time.Duration, 10)
		child := actor.PropsFromFunc(func(ctx actor.Context) {
			switch ctx.Message().(type) {
			case *actor.Started:
				starts <- time.Since(began)
			case string:
				panic("planted")
			}
		})
		spawned := make(chan *actor.PID, 1)
		parent := system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
			if _, ok := ctx.Message().(*actor.Started); ok {
				spawned <- ctx.Spawn(child)
			}
		}, actor.WithSupervisor(Backoff(slog.New(slog.DiscardHandler), 100*time.Millisecond, 300*time.Millisecond))))
		pid := <-spawned
		at := []time.Duration{<-starts}
		for range 4 {
			system.Root.Send(pid, "fail")
			at = append(at, <-starts)
		}
		for i, want := range []int64{100, 200, 300, 300} {
			if got := (at[i+1] - at[i]).Milliseconds(); got != want {
				t.Errorf("restart %d came after %d ms, want %d", i+1, got, want)
			}
		}
		if err := system.Root.StopFuture(parent).Wait(); err != nil {
			t.Error(err)
		}
	})
}
