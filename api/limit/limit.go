// Package limit bounds how often something may be done, for each user, device
// or address apart.
//
// A [Table] is a set of token buckets in the form known as the generic cell
// rate algorithm: a bucket is one instant, the time at which it will be full
// again. That is eight bytes for each key, an idle bucket is the same as none,
// and so forgetting idle keys changes no answer.
package limit

import (
	"hash/maphash"
	"sync"
	"time"
)

// Rate says how many events a key may cause.
type Rate struct {
	// PerSecond is the steady rate. Zero or less means no limit.
	PerSecond float64
	// Burst is how many may come at once after a pause, at least 1.
	Burst int
}

// shards is how many locks a table has, a power of two.
const shards = 16

// Table holds the buckets of many keys under one rate. It is safe for
// concurrent use.
type Table[K comparable] struct {
	start     time.Time     // what instants are counted from
	interval  time.Duration // between two events at the steady rate
	tolerance time.Duration // how far ahead of the steady rate a key may be
	perShard  int
	seed      maphash.Seed
	shards    [shards]shard[K]
}

type shard[K comparable] struct {
	mu sync.Mutex
	// full has the instant at which each bucket is full again.
	full map[K]time.Duration
	// sweepAt is the size at which idle keys are looked for, sweptAt when that
	// was done last.
	sweepAt int
	sweptAt time.Duration
}

// sweepPause is how long a table that is full of active keys refuses new ones
// before it looks again for idle ones.
const sweepPause = 100 * time.Millisecond

// NewTable returns a table that remembers at most about maxKeys keys at a time;
// while all of them are active, further keys are refused.
func NewTable[K comparable](rate Rate, maxKeys int) *Table[K] {
	t := &Table[K]{start: time.Now(), seed: maphash.MakeSeed(), perShard: max(maxKeys/shards, 1)}
	if rate.PerSecond > 0 {
		t.interval = max(time.Duration(float64(time.Second)/rate.PerSecond), 1)
		t.tolerance = time.Duration(max(rate.Burst, 1)-1) * t.interval
	}
	return t
}

// Allow reports whether the key may cause an event now. If not, retryAfter is
// how long it must wait; a refused event costs the key nothing.
func (t *Table[K]) Allow(key K) (retryAfter time.Duration, ok bool) {
	if t.interval == 0 {
		return 0, true
	}
	now := time.Since(t.start)
	s := &t.shards[maphash.Comparable(t.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()

	full, known := s.full[key]
	if !known && !s.makeRoom(now, t.perShard) {
		return sweepPause, false
	}
	full = max(full, now)
	if ahead := full - now; ahead > t.tolerance {
		return ahead - t.tolerance, false
	}
	s.full[key] = full + t.interval
	return 0, true
}

// makeRoom reports whether one more key fits. It forgets the keys whose buckets
// are full each time the shard has doubled, which costs a constant for each key
// that was added.
func (s *shard[K]) makeRoom(now time.Duration, limit int) bool {
	if s.full == nil {
		s.full = make(map[K]time.Duration)
		s.sweepAt = min(64, limit)
	}
	if len(s.full) < s.sweepAt {
		return true
	}
	if len(s.full) >= limit && now < s.sweptAt+sweepPause {
		return false
	}
	for key, full := range s.full {
		if full <= now {
			delete(s.full, key)
		}
	}
	s.sweptAt = now
	s.sweepAt = min(max(2*len(s.full), 64), limit)
	return len(s.full) < limit
}

// Len returns how many keys are remembered.
func (t *Table[K]) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.full)
		s.mu.Unlock()
	}
	return n
}
