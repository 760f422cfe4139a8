package worker

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
)

// Whatever the order in which records finish, what may be committed is the
// lowest unfinished one.
func TestWindowEndsBelowTheLowestUnfinished(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := window{next: -1}
		var open []int64
		next := rapid.Int64Range(0, 1000).Draw(t, "first")
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(open) == 0 || rapid.Bool().Draw(t, "begin") {
				w.begin(next, time.Time{})
				open = append(open, next)
				next += rapid.Int64Range(1, 3).Draw(t, "gap")
			} else {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "finished")
				w.finish(open[i])
				open = slices.Delete(open, i, i+1)
			}
			if len(open) > 0 && w.next != open[0] {
				t.Fatalf("next is %d with %v unfinished", w.next, open)
			}
			if len(open) == 0 && (w.next > next || w.next <= next-4) {
				t.Fatalf("next is %d with nothing unfinished below %d", w.next, next)
			}
		}
	})
}

func TestSeenTellsWhatWasPublishedAgain(t *testing.T) {
	s := newSeen(2)
	for i, step := range []struct {
		key string
		at  place
		new bool
	}{
		{"a", place{1, 5, 0}, true},
		{"a", place{1, 5, 0}, false},
		{"a", place{1, 5, 1}, true},
		{"a", place{1, 4, 9}, false},
		{"b", place{1, 1, 0}, true},
		{"a", place{2, 0, 0}, true},  // a new generation begins at 0
		{"a", place{1, 9, 0}, false}, // what an old owner published late
		{"c", place{1, 1, 0}, true},
		{"a", place{2, 0, 0}, false}, // used lately: kept
	} {
		if got := s.add(step.key, step.at); got != step.new {
			t.Errorf("step %d: %s at %v is new: %v", i, step.key, step.at, got)
		}
	}
	for key := range 1000 {
		s.add(string(rune('α'+key)), place{1, 1, 0})
		if held := len(s.young) + len(s.old); held > 4 {
			t.Fatalf("%d keys are held", held)
		}
	}
}

func TestBackoffDoublesWithinBounds(t *testing.T) {
	for failed, want := range map[int]time.Duration{1: 100, 2: 200, 3: 400, 4: 800, 5: 1000, 60: 1000} {
		for range 100 {
			if got := backoff(100, 1000, failed); got < want/2 || got > want {
				t.Fatalf("after %d failures: %d, want %d to %d", failed, got, want/2, want)
			}
		}
	}
	if got := backoff(0, 0, 3); got != 0 {
		t.Errorf("no back-off is %v", got)
	}
}

func TestEventID(t *testing.T) {
	if id := eventID(&eventsv1.Event{Shard: 7, Generation: 2, Offset: 1234, Index: 1}); id != "7-2-1234-1" {
		t.Error(id)
	}
}
