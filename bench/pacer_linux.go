package bench

import (
	"context"
	"runtime"
	"syscall"
	"time"
)

const (
	setTimerSlack = 29 // PR_SET_TIMERSLACK
	// longestNap bounds a wait, so that it sees its context end.
	longestNap = 50 * time.Millisecond
)

// pacer waits for points in time to within some microseconds. Go's own timers
// are a millisecond late in an idle process, since its poller sleeps in whole
// ones; a thread of its own with a small timer slack is not.
type pacer struct{}

// newPacer binds the goroutine to its thread until it ends, and the thread
// with it.
func newPacer() pacer {
	runtime.LockOSThread()
	// Best effort: a refusal costs 50 µs of precision, which the lateness of
	// the generator shows.
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1000, 0)
	return pacer{}
}

// wait returns at a point in time, with true, or when the context has ended,
// with false.
func (pacer) wait(ctx context.Context, until time.Time) bool {
	for {
		left := min(time.Until(until), longestNap)
		if left <= 0 || ctx.Err() != nil {
			return ctx.Err() == nil
		}
		nap := syscall.NsecToTimespec(left.Nanoseconds())
		_ = syscall.Nanosleep(&nap, nil) // a signal ends it early: look again
	}
}
