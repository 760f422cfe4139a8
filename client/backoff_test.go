package client

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBackoffIsFullJitterUnderADoublingBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 1<<30).Draw(t, "n")
		asked := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "asked"))
		bound := maxBackoff
		if n < 7 {
			bound = firstBackoff << n
		}
		if wait := backoff(n, asked); wait < asked || wait >= asked+bound {
			t.Fatalf("waits %v, want %v to %v", wait, asked, asked+bound)
		}
	})
}

// Clients that fail together must not come back together.
func TestBackoffSpreads(t *testing.T) {
	var low, high int
	for range 1000 {
		switch wait := backoff(10, 0); {
		case wait < maxBackoff/4:
			low++
		case wait >= maxBackoff*3/4:
			high++
		}
	}
	if low < 150 || high < 150 {
		t.Errorf("of 1000 waits %d lie in the first quarter and %d in the last", low, high)
	}
}
