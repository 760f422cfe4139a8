package supervision

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Workers run what may block, outside of actors. A pool has a bounded number of
// goroutines and a bounded queue; whoever finds the queue full is told so at
// once and decides for itself whether to refuse or to try again later.
type Workers struct {
	jobs   chan job
	cancel context.CancelFunc
	done   sync.WaitGroup

	// most is how many goroutines there may be, running how many there are.
	most    int64
	running atomic.Int64

	mu     sync.RWMutex // guards closed against a send on the closed channel
	closed bool
}

type job struct {
	run       func(context.Context)
	submitted time.Time
}

// impatience is how long a job of an elastic pool waits before it gets a
// goroutine more to help: far longer than a store takes that is not slow, so that
// reads which the processors hold up do not become more at a time.
const impatience = 250 * time.Millisecond

// NewWorkers starts n goroutines over a queue of the given length.
func NewWorkers(n, queue int) *Workers { return NewElasticWorkers(n, n, queue) }

// NewElasticWorkers starts least goroutines over a queue of the given length.
// While jobs wait long, since what they read from is slow, there are more of
// them, up to most; those that find nothing to do end again.
func NewElasticWorkers(least, most, queue int) *Workers {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Workers{jobs: make(chan job, queue), cancel: cancel, most: int64(most)}
	w.running.Store(int64(least))
	for range least {
		w.done.Go(func() {
			for j := range w.jobs {
				w.run(ctx, j)
			}
		})
	}
	return w
}

func (w *Workers) run(ctx context.Context, j job) {
	if time.Since(j.submitted) > impatience {
		w.help(ctx)
	}
	j.run(ctx)
}

// help starts a further goroutine, if there may be one, until the queue is empty.
// Its caller is one that Close waits for.
func (w *Workers) help(ctx context.Context) {
	if w.running.Add(1) > w.most {
		w.running.Add(-1)
		return
	}
	w.done.Go(func() {
		defer w.running.Add(-1)
		for {
			select {
			case j, ok := <-w.jobs:
				if !ok {
					return
				}
				w.run(ctx, j)
			default:
				return
			}
		}
	})
}

// Submit queues a job and reports whether it will run. The job's context ends
// when the pool is closed. It never blocks, and is safe for concurrent use.
func (w *Workers) Submit(run func(context.Context)) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return false
	}
	select {
	case w.jobs <- job{run, time.Now()}:
		return true
	default:
		return false
	}
}

// Depth returns how many jobs wait.
func (w *Workers) Depth() int { return len(w.jobs) }

// Close cancels the context of running jobs, runs what is queued with that
// ended context, so that each job gives its answer, and waits for all.
func (w *Workers) Close() {
	w.mu.Lock()
	already := w.closed
	w.closed = true
	w.mu.Unlock()
	if already {
		return
	}
	w.cancel()
	close(w.jobs)
	w.done.Wait()
}
