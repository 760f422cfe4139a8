package worker

import (
	"cmp"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
)

// place orders the events of a key.
type place struct {
	generation uint32
	offset     int64
	index      uint32
}

func placeOf(e *eventsv1.Event) place {
	return place{e.GetGeneration(), e.GetOffset(), e.GetIndex()}
}

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.generation, other.generation), cmp.Compare(p.offset, other.offset), cmp.Compare(p.index, other.index))
}

// seen remembers the newest event of each key that a partition had, to skip
// what was published again. It is only a best effort, which spares work: it
// begins empty when a partition comes, and forgets keys that were quiet while
// limit others were not. What must not be done twice is for the task to know,
// by Event.ID.
//
// Skipping is safe because a key's events are published in order and without
// gaps: what is not above the newest one was in the partition before.
type seen struct {
	limit int
	// Two generations: a full young one becomes the old one, so that keys that
	// were used since are kept.
	young, old map[string]place
}

func newSeen(limit int) *seen { return &seen{limit: limit, young: map[string]place{}} }

// add takes an event and reports whether it is new.
func (s *seen) add(key string, at place) bool {
	newest, known := s.young[key]
	if !known {
		newest, known = s.old[key]
	}
	isNew := !known || at.compare(newest) > 0
	if isNew {
		newest = at
	}
	if len(s.young) >= s.limit {
		s.old, s.young = s.young, map[string]place{}
	}
	s.young[key] = newest
	return isNew
}
