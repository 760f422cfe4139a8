package supervision

import (
	"testing"
	"time"
)

func TestSeldom(t *testing.T) {
	var s Seldom
	now := time.Now()
	for i, test := range []struct {
		after  time.Duration
		passed int64
		due    bool
	}{{0, 0, true}, {0, 0, false}, {seldom - 1, 0, false}, {seldom, 2, true}, {seldom + 1, 0, false}, {3 * seldom, 1, true}} {
		if passed, due := s.Due(now.Add(test.after)); passed != test.passed || due != test.due {
			t.Errorf("%d: %d, %v, want %d, %v", i, passed, due, test.passed, test.due)
		}
	}
}
