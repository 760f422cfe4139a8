package hbase

import (
	"testing"
	"time"
)

// clock is a clock that is set by hand.
type clock struct{ time time.Time }

func (c *clock) now() time.Time          { return c.time }
func (c *clock) advance(d time.Duration) { c.time = c.time.Add(d) }

// mustAsk fails the test unless the breaker answers as wanted.
func (b *breaker) mustAsk(t *testing.T, want bool) leave {
	t.Helper()
	l, ok := b.ask()
	if ok != want {
		t.Fatalf("a request may be made: %v, want %v", ok, want)
	}
	return l
}

func TestBreaker(t *testing.T) {
	var c clock
	b := breaker{now: c.now}
	for i := range tolerated {
		opened, _ := b.report(b.mustAsk(t, true), failed)
		if opened != (i == tolerated-1) {
			t.Fatalf("failure %d opens: %v", i+1, opened)
		}
	}
	b.mustAsk(t, false)
	pause := firstPause
	for range 12 {
		c.advance(pause / 4)
		b.mustAsk(t, false)
		c.advance(pause/2*3 - pause/4)
		attempt := b.mustAsk(t, true)
		if !attempt.attempt {
			t.Fatal("the request after the pause is not an attempt")
		}
		b.mustAsk(t, false) // one at a time
		b.report(attempt, failed)
		b.mustAsk(t, false)
		pause = min(2*pause, longestPause)
	}
	c.advance(2 * longestPause)
	// One whose caller gave up decides nothing: the next may try.
	b.report(b.mustAsk(t, true), undecided)
	if _, closed := b.report(b.mustAsk(t, true), answered); !closed {
		t.Fatal("an answer does not close the breaker")
	}
	for range 3 * tolerated {
		b.report(b.mustAsk(t, true), failed)
		b.report(b.mustAsk(t, true), answered)
	}
}

func TestBreakerTellsHowLong(t *testing.T) {
	var c clock
	b := breaker{now: c.now}
	for range tolerated {
		b.report(b.mustAsk(t, true), failed)
	}
	c.advance(time.Minute)
	if down := b.mustAsk(t, true).down; down != time.Minute {
		t.Fatalf("HBase is down for %v, want a minute", down)
	}
}
