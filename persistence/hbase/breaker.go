package hbase

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// tolerated failures in a row open the breaker.
	tolerated = 3
	// The breaker stays open for firstPause after that, then twice as long
	// after each failed attempt, up to longestPause; each time more or less by
	// up to a half, so that not everyone comes back at once.
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// breaker refuses requests while HBase does not answer. Open, it lets one
// request through after each pause: when that succeeds, all may follow.
type breaker struct {
	now func() time.Time

	mu       sync.Mutex // guards the following
	failures int        // in a row
	since    time.Time  // of the first of them
	until    time.Time  // open until then
	pause    time.Duration
	trying   bool // an attempt is under way
}

// leave is what a request got from the breaker, to be given back with its
// outcome.
type leave struct {
	attempt bool
	// down is for how long HBase has not answered, for an attempt.
	down time.Duration
}

// ask returns whether a request may be made now.
func (b *breaker) ask() (leave, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < tolerated {
		return leave{}, true
	}
	now := b.now()
	if b.trying || now.Before(b.until) {
		return leave{}, false
	}
	b.trying = true
	return leave{attempt: true, down: now.Sub(b.since)}, true
}

// open reports whether requests are refused, but for the one that is let through
// now and then.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= tolerated
}

// outcome of a request, as the breaker sees it.
type outcome uint8

const (
	answered outcome = iota
	failed
	undecided // the caller gave up
)

// report gives leave back. It returns whether that opened or closed the
// breaker.
func (b *breaker) report(l leave, o outcome) (opened, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.attempt {
		b.trying = false
	}
	switch o {
	case answered:
		closed = b.failures >= tolerated
		b.failures, b.pause = 0, 0
	case failed:
		now := b.now()
		if b.failures == 0 {
			b.since = now
		}
		b.failures++
		switch {
		case b.failures == tolerated:
			opened = true
			b.pause = firstPause
			b.until = now.Add(jittered(b.pause))
		case l.attempt:
			b.pause = min(2*b.pause, longestPause)
			b.until = now.Add(jittered(b.pause))
		}
	case undecided:
	}
	return opened, closed
}

func jittered(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // spreads load; nobody gains by guessing it
}
