// Package heat counts what is busy: how often each shard is asked, and which of
// its mailboxes are asked most.
//
// Mailboxes are counted by the Space-Saving algorithm (Metwally, Agrawal and El
// Abbadi, 2005): a shard keeps few counters, whoever is not among them takes the
// smallest one over with its count. A mailbox that gets more than one in Mailboxes
// of what its shard gets is always among them, and no count is too low.
package heat

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// Mailboxes is how many mailboxes of a shard are counted.
const Mailboxes = 32

// Window is the time over which is counted.
const Window = 10 * time.Second

// Counter counts for one shard. The zero Counter is ready. It is safe for
// concurrent use.
type Counter struct {
	mu      sync.Mutex // guards the following
	began   time.Time  // of current
	current sketch
	last    sketch // of the window before
}

type sketch struct {
	writes, reads int64
	used          int // of the following
	hashes        [Mailboxes]uint64
	mailboxes     [Mailboxes]Mailbox
}

// seed is of the hashes, by which a mailbox is found faster than by its name.
var seed = maphash.MakeSeed()

// Mailbox is how often a mailbox was asked in a window: Count times, of which up to
// Over may have been others.
type Mailbox struct {
	Name  string `json:"mailbox"`
	Shard uint32 `json:"shard"`
	Count int64  `json:"count"`
	Over  int64  `json:"over"`
}

// Shard is how often a shard was asked in a window.
type Shard struct {
	Shard  uint32 `json:"shard"`
	Writes int64  `json:"writes"`
	Reads  int64  `json:"reads"`
}

// Write counts a record that is to be appended for a mailbox.
func (c *Counter) Write(mailbox string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roll(now)
	c.current.writes++
	c.current.add(mailbox)
}

// Read counts a question about a mailbox.
func (c *Counter) Read(mailbox string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roll(now)
	c.current.reads++
	c.current.add(mailbox)
}

// roll begins a new window when the current one is over.
func (c *Counter) roll(now time.Time) {
	over := now.Sub(c.began)
	if over < Window {
		return
	}
	c.last, c.current = c.current, sketch{}
	if over >= 2*Window { // nobody asked in the one before this
		c.last = sketch{}
	}
	c.began = now
}

func (s *sketch) add(mailbox string) {
	hash := maphash.String(seed, mailbox)
	for i, known := range s.hashes[:s.used] {
		if known == hash && s.mailboxes[i].Name == mailbox {
			s.mailboxes[i].Count++
			return
		}
	}
	at, taken := s.used, int64(0)
	if s.used < Mailboxes {
		s.used++
	} else {
		at = 0
		for i := range s.mailboxes {
			if s.mailboxes[i].Count < s.mailboxes[at].Count {
				at = i
			}
		}
		taken = s.mailboxes[at].Count
	}
	s.hashes[at], s.mailboxes[at] = hash, Mailbox{Name: mailbox, Count: taken + 1, Over: taken}
}

// Last returns what was counted in the window before the current one.
func (c *Counter) Last(shard uint32, now time.Time) (Shard, []Mailbox) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.roll(now)
	mailboxes := slices.Clone(c.last.mailboxes[:c.last.used])
	for i := range mailboxes {
		mailboxes[i].Shard = shard
	}
	return Shard{Shard: shard, Writes: c.last.writes, Reads: c.last.reads}, mailboxes
}

// Busy is what was busiest in a window, the busiest first.
type Busy struct {
	// Seconds is the length of the window.
	Seconds   float64   `json:"seconds"`
	Shards    []Shard   `json:"shards"`
	Mailboxes []Mailbox `json:"mailboxes"`
}

// Top sorts what was counted and keeps the busiest n of each kind.
func (b *Busy) Top(n int) {
	b.Shards = slices.DeleteFunc(b.Shards, func(s Shard) bool { return s.Writes+s.Reads == 0 })
	slices.SortFunc(b.Shards, func(a, b Shard) int {
		return cmp.Or(cmp.Compare(b.Writes+b.Reads, a.Writes+a.Reads), cmp.Compare(a.Shard, b.Shard))
	})
	slices.SortFunc(b.Mailboxes, func(a, b Mailbox) int {
		return cmp.Or(cmp.Compare(b.Count-b.Over, a.Count-a.Over), cmp.Compare(a.Name, b.Name))
	})
	b.Shards = b.Shards[:min(n, len(b.Shards))]
	b.Mailboxes = b.Mailboxes[:min(n, len(b.Mailboxes))]
}
