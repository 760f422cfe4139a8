package supervision

import (
	"sync/atomic"
	"time"
)

// seldom is how long what goes on happening is not logged again.
const seldom = 10 * time.Second

// Seldom says when to log what may happen thousands of times a second while a
// server is away: the first time, and then every now and again. The zero Seldom
// is ready, and safe for concurrent use.
type Seldom struct {
	next   atomic.Int64 // when the next is due, in nanoseconds since 1970
	passed atomic.Int64
}

// Due reports whether to log what happens now, and how often it happened
// meanwhile without being logged.
func (s *Seldom) Due(now time.Time) (passed int64, due bool) {
	next := s.next.Load()
	if now.UnixNano() < next || !s.next.CompareAndSwap(next, now.Add(seldom).UnixNano()) {
		s.passed.Add(1)
		return 0, false
	}
	return s.passed.Swap(0), true
}
