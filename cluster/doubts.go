package cluster

import "time"

// Doubts are the signs that another member has the shards of this one. The zero
// value has none. It is not safe for concurrent use.
type Doubts struct {
	first, last time.Time
	count       int
}

// minDoubts is how many signs there have to be: one may be what was under way
// when shards changed hands.
const minDoubts = 3

// Add adds a sign. After two leases without one the former count no more.
func (d *Doubts) Add(now time.Time, lease time.Duration) {
	if d.count == 0 || now.Sub(d.last) > 2*lease {
		*d = Doubts{first: now}
	}
	d.last = now
	d.count++
}

// Enough reports whether there are signs enough, for as long as a lease and until
// now.
func (d *Doubts) Enough(now time.Time, lease time.Duration) bool {
	return d.count >= minDoubts && d.last.Sub(d.first) >= lease && now.Sub(d.last) <= 2*lease
}
