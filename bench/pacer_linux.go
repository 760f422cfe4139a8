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

// newPacer binds the goroutine to its thread until close is called.
func newPacer() pacer {
	runtime.LockOSThread()
	setSlack(1000)
	return pacer{}
}

// close gives the thread back as it was. It must not end: the servers that it
// started would end with it.
func (pacer) close() {
	setSlack(0) // the default
	runtime.UnlockOSThread()
}

// setSlack is a best effort: a refusal costs 50 µs of precision, which the
// lateness of the generator shows.
func setSlack(nanoseconds uintptr) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, nanoseconds, 0)
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
