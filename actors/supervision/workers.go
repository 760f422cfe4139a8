package supervision

import (
	"context"
	"sync"
)

// Workers run what may block, outside of actors. A pool has a fixed number of
// goroutines and a bounded queue; whoever finds the queue full is told so at
// once and decides for itself whether to refuse or to try again later.
type Workers struct {
	jobs   chan func(context.Context)
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.RWMutex // guards closed against a send on the closed channel
	closed bool
}

// NewWorkers starts n goroutines over a queue of the given length.
func NewWorkers(n, queue int) *Workers {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Workers{jobs: make(chan func(context.Context), queue), cancel: cancel}
	for range n {
		w.done.Go(func() {
			for job := range w.jobs {
				job(ctx)
			}
		})
	}
	return w
}

// Submit queues a job and reports whether it will run. The job's context ends
// when the pool is closed. It never blocks, and is safe for concurrent use.
func (w *Workers) Submit(job func(context.Context)) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return false
	}
	select {
	case w.jobs <- job:
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
