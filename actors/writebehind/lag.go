package writebehind

import (
	"sync/atomic"
	"time"
)

// Lag is how far the write-behind of a shard is behind, for the store, for the
// cache and with the events. It may be read while the actor works.
type Lag struct {
	Store, Cache, Events LaneLag
}

// LaneLag is what waits in one lane or is being written.
type LaneLag struct {
	records, bytes atomic.Int64
	since          atomic.Int64 // Unix nanoseconds; 0: nothing waits
}

// Behind is a lag at one moment.
type Behind struct {
	// Records that were put and are not written, and the Bytes of rows and
	// states in them, or of their events.
	Records, Bytes int64
	// Age is how long the oldest of them has waited.
	Age time.Duration
}

// At returns the lag at a moment.
func (l *LaneLag) At(now time.Time) Behind {
	b := Behind{Records: l.records.Load(), Bytes: l.bytes.Load()}
	if since := l.since.Load(); since != 0 {
		b.Age = max(0, now.Sub(time.Unix(0, since)))
	}
	return b
}

// set says what waits and what is in flight, which is older.
func (l *LaneLag) set(waiting, inFlight load) {
	l.records.Store(int64(waiting.records + inFlight.records))
	l.bytes.Store(int64(waiting.bytes + inFlight.bytes))
	since := inFlight.since
	if since.IsZero() {
		since = waiting.since
	}
	if since.IsZero() {
		l.since.Store(0)
		return
	}
	l.since.Store(since.UnixNano())
}

// load is some records that were put.
type load struct {
	records, bytes int
	since          time.Time // when the first of them was put; zero for none
}
