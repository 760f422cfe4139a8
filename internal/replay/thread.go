package replay

import (
	"sync"
	"time"
)

// turn is one thing said.
type turn struct {
	from, to, text string
	said           time.Time
}

// thread is all that one pair of accounts says.
type thread struct {
	ends [2]Account

	mu    sync.Mutex // guards the following
	turns []turn
	sides [2]side
}

// side is what one of the two has seen of a thread.
type side struct {
	times  []uint8 // by turn: how often it arrived
	newest int     // one above the highest turn that arrived
	// Turns that came again, after a later one, or changed.
	duplicated, reordered, altered int
}

// add notes a turn that is about to be said, since it may arrive before its
// acknowledgement, and returns its number.
func (t *thread) add(said turn) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turns = append(t.turns, said)
	return len(t.turns) - 1
}

// arrive checks a message against the turn that it carries, and returns when
// that was said and whether it has arrived here for the first time.
func (t *thread) arrive(at string, n int, m Message) (said time.Time, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.sides[0]
	if at == t.ends[1].Name() {
		s = &t.sides[1]
	}
	if n >= len(t.turns) {
		s.altered++ // an id that was never given
		return time.Time{}, false
	}
	want := t.turns[n]
	if m.From != want.from || m.To != want.to || m.Text != want.text {
		s.altered++
	}
	for len(s.times) <= n {
		s.times = append(s.times, 0)
	}
	if s.times[n] > 0 {
		s.duplicated++
		return want.said, false
	}
	s.times[n] = 1
	if n < s.newest {
		s.reordered++
	}
	s.newest = max(s.newest, n+1)
	return want.said, true
}

// lost returns how many of the turns have not arrived at a side. The caller
// holds t.mu.
func (t *thread) lost(s *side) int {
	lost := len(t.turns)
	for _, times := range s.times {
		lost -= int(times)
	}
	return lost
}
