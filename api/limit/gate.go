package limit

import "sync/atomic"

// Gate bounds how much is in flight at a time. Each class has a share of the room,
// and may enter while what is in flight, of all classes, is below that: when it
// gets full, those with small shares stay outside and leave the rest to the
// others. It is safe for concurrent use. A nil Gate is always open.
type Gate struct {
	room     []int64 // by class
	inFlight atomic.Int64
}

// NewGate returns a gate for at most so many, with the share of each class, above
// 0 to 1.
func NewGate(most int, shares ...float64) *Gate {
	g := &Gate{}
	for _, share := range shares {
		g.room = append(g.room, max(int64(float64(most)*share), 1))
	}
	return g
}

// Enter reports whether one of a class may enter. If so, Leave must follow.
func (g *Gate) Enter(class int) bool {
	if g == nil {
		return true
	}
	if g.inFlight.Add(1) <= g.room[class] {
		return true
	}
	g.inFlight.Add(-1)
	return false
}

// Leave ends what Enter began.
func (g *Gate) Leave() {
	if g != nil {
		g.inFlight.Add(-1)
	}
}
