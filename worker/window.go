package worker

import (
	"slices"
	"time"
)

// window knows which records of a partition are unfinished. Records begin in
// the order of their offsets, with gaps where a topic has them, and finish in
// any order.
type window struct {
	// open begins with the lowest unfinished record: what is finished before it
	// has left.
	open []opened
	// next is the offset below which everything is finished.
	next int64
}

type opened struct {
	offset   int64
	time     time.Time
	finished bool
}

func (w *window) begin(offset int64, time time.Time) {
	if len(w.open) == 0 {
		w.next = offset
	}
	w.open = append(w.open, opened{offset: offset, time: time})
}

// finish takes the end of a record that has begun.
func (w *window) finish(offset int64) {
	i, found := slices.BinarySearchFunc(w.open, offset, func(o opened, offset int64) int {
		switch {
		case o.offset < offset:
			return -1
		case o.offset > offset:
			return 1
		default:
			return 0
		}
	})
	if !found {
		return
	}
	w.open[i].finished = true
	done := 0
	for done < len(w.open) && w.open[done].finished {
		w.next = w.open[done].offset + 1
		done++
	}
	if w.open = w.open[done:]; len(w.open) > 0 {
		w.next = w.open[0].offset
	}
}

// len is the number of records from the lowest unfinished one on.
func (w *window) len() int { return len(w.open) }

// oldest is the time of the lowest unfinished record; false when there is none.
func (w *window) oldest() (time.Time, bool) {
	if len(w.open) == 0 {
		return time.Time{}, false
	}
	return w.open[0].time, true
}
