package ledger

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const (
	alice = iota
	bob
	carol
)

// play is a run between three users, in which every event takes a
// millisecond.
type play struct {
	*Ledger
	next [3]int64 // revisions handed out
}

// pass lets fake time go by: the tests run in a synctest bubble.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // fake time
}

func newPlay() *play {
	return &play{Ledger: New("run", []string{"alice", "bob", "carol"}, 64)}
}

func (p *play) send(from, to int) int {
	pass(time.Millisecond)
	return p.Send(from, to, time.Now())
}

func (p *play) ack(numbers ...int) {
	for _, n := range numbers {
		pass(time.Millisecond)
		p.Ack(n)
	}
}

// op is what a mailbox holds for a message when all is well.
func (p *play) op(user, number int) Operation {
	m := p.mu.messages[number]
	return Operation{
		Sent: int(m.from) == user && m.from != m.to,
		From: p.names[m.from], To: p.names[m.to], ID: p.ID(number), Text: p.Text(number),
	}
}

// deliver hands a user an operation at the next revision.
func (p *play) deliver(user int, op Operation) {
	pass(time.Millisecond)
	p.next[user]++
	op.Revision = p.next[user]
	p.Read(user, op)
}

func (p *play) reads(user int, numbers ...int) {
	for _, n := range numbers {
		p.deliver(user, p.op(user, n))
	}
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		play func(p *play)
		want Faults
	}{
		"everything is there once": {func(p *play) {
			first, second := p.send(alice, bob), p.send(alice, bob)
			p.ack(first, second)
			p.reads(bob, second, first) // sent at the same time: either order
			p.reads(alice, second, first)
		}, Faults{}},
		"delivered before it was acknowledged": {func(p *play) {
			n := p.send(alice, bob)
			p.reads(bob, n)
			p.reads(alice, n)
			p.ack(n)
		}, Faults{}},
		"a message to oneself is one operation": {func(p *play) {
			n := p.send(alice, alice)
			p.ack(n)
			p.reads(alice, n)
		}, Faults{}},
		"not acknowledged, so it may be there or not": {func(p *play) {
			p.send(alice, bob)
			p.reads(bob, p.send(carol, bob))
		}, Faults{}},
		"order between conversations is free": {func(p *play) {
			first := p.send(alice, carol)
			p.ack(first)
			second := p.send(bob, carol)
			p.ack(second)
			p.reads(carol, second, first)
			p.reads(alice, first)
			p.reads(bob, second)
		}, Faults{}},
		"lost on the way": {func(p *play) {
			n := p.send(alice, bob)
			p.ack(n)
			p.reads(alice, n)
		}, Faults{Lost: 1}},
		"the sender's copy is lost": {func(p *play) {
			n := p.send(alice, bob)
			p.ack(n)
			p.reads(bob, n)
		}, Faults{Lost: 1}},
		"delivered twice": {func(p *play) {
			n := p.send(alice, bob)
			p.ack(n)
			p.reads(bob, n, n)
			p.reads(alice, n, n)
		}, Faults{Duplicated: 2}},
		"an answered message stands behind the next": {func(p *play) {
			first := p.send(alice, bob)
			p.ack(first)
			second := p.send(alice, bob)
			p.ack(second)
			p.reads(bob, second, first)
			p.reads(alice, first, second)
		}, Faults{Reordered: 1}},
		"a reply stands before what it answers": {func(p *play) {
			first := p.send(alice, bob)
			p.ack(first)
			reply := p.send(bob, alice)
			p.ack(reply)
			p.reads(bob, first, reply)
			p.reads(alice, reply, first)
		}, Faults{Reordered: 1}},
		"a revision is skipped": {func(p *play) {
			n := p.send(alice, bob)
			p.ack(n)
			p.next[bob]++
			p.reads(bob, n)
			p.reads(alice, n)
		}, Faults{Gaps: 1}},
		"in the mailbox of somebody else": {func(p *play) {
			n := p.send(alice, bob)
			p.ack(n)
			p.reads(alice, n)
			p.reads(bob, n)
			p.deliver(carol, p.op(bob, n))
		}, Faults{Foreign: 1}},
		"what nobody sent": {func(p *play) {
			n := p.send(alice, bob)
			p.reads(bob, n)
			for _, id := range []string{"", "run-", "run-1", "run--1", "run-99999999999999999999", "other-0"} {
				op := p.op(bob, n)
				op.ID = id
				p.deliver(bob, op)
			}
		}, Faults{Foreign: 6}},
		"changed on the way": {func(p *play) {
			n := p.send(alice, bob)
			p.ack(n)
			p.reads(alice, n)
			p.reads(bob, n)
			for _, change := range []func(*Operation){
				func(op *Operation) { op.Text += "!" },
				func(op *Operation) { op.From = "carol" },
				func(op *Operation) { op.To = "carol" },
				func(op *Operation) { op.Sent = true },
			} {
				op := p.op(bob, n)
				change(&op)
				p.deliver(bob, op)
			}
		}, Faults{Foreign: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlay()
				test.play(p)
				found, evidence := p.Faults()
				if diff := cmp.Diff(test.want, found); diff != "" {
					t.Error(diff)
				}
				count := found.Lost + found.Duplicated + found.Reordered + found.Gaps + found.Foreign
				if found.Any() != (count > 0) || len(evidence) != count {
					t.Errorf("%d faults, Any is %v, evidence %q", count, found.Any(), evidence)
				}
			})
		})
	}
}

// However sends overlap, a log that holds them in the order of their answers
// is in order, and one that swaps two that did not overlap is not.
func TestReorderedProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := New("run", []string{"alice", "bob"}, 0)
		now := time.Duration(1)
		var open, answered []int
		for range rapid.IntRange(2, 30).Draw(rt, "events") {
			now++
			if len(open) > 0 && rapid.Bool().Draw(rt, "answer") {
				i := rapid.IntRange(0, len(open)-1).Draw(rt, "which")
				l.mu.messages[open[i]].acked = now
				answered = append(answered, open[i])
				open = append(open[:i], open[i+1:]...)
				continue
			}
			open = append(open, len(l.mu.messages))
			l.mu.messages = append(l.mu.messages, message{from: alice, to: bob, started: now})
		}
		box := &l.mu.mailboxes[bob]
		for _, n := range answered {
			box.numbers = append(box.numbers, int32(n))
		}
		if got := l.reordered(bob); got != 0 {
			rt.Fatalf("%d reordered in the order of answers", got)
		}
		for i := 1; i < len(answered); i++ {
			first, second := int32(answered[i-1]), int32(answered[i])
			box.numbers[i-1], box.numbers[i] = second, first
			sequential := l.mu.messages[first].acked < l.mu.messages[second].started
			if got := l.reordered(bob) > 0; got != sequential {
				rt.Fatalf("swapped %+v and %+v: reordered is %v", l.mu.messages[first], l.mu.messages[second], got)
			}
			box.numbers[i-1], box.numbers[i] = first, second
		}
	})
}

func TestSummaryCountsFromTheIntendedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlay()
		before := p.Send(alice, bob, time.Now())
		pass(time.Second)
		from := time.Now()
		// The generator is 5 ms late, the answer takes 20 ms, the delivery 30.
		pass(5 * time.Millisecond)
		n := p.Send(alice, bob, from)
		pass(20 * time.Millisecond)
		p.Ack(n)
		p.Ack(before) // answered in the window, intended before it
		pass(10 * time.Millisecond)
		p.reads(bob, n)
		pass(time.Second)
		to := time.Now()
		p.reads(bob, before) // after the window

		got := p.Summary(from, to)
		near := func(l Latency, ms float64) bool {
			return l.Count == 1 && l.P50 > ms*0.998 && l.P50 < ms*1.002 && l.P50 == l.Max
		}
		if got.Acked != 2 || got.Delivered != 1 {
			t.Errorf("%d acknowledged, %d delivered, want 2 and 1", got.Acked, got.Delivered)
		}
		if !near(got.Lateness, 5) || !near(got.Ack, 25) || !near(got.Delivery, 36) {
			t.Errorf("lateness %+v, ack %+v, delivery %+v; want 5, 25 and 36 ms", got.Lateness, got.Ack, got.Delivery)
		}
	})
}

func TestMissingFallsToZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlay()
		first, second := p.send(alice, bob), p.send(alice, bob)
		p.reads(bob, first)
		p.ack(first, second)
		if got := p.Missing(); got != 1 {
			t.Errorf("%d missing, want 1", got)
		}
		p.reads(bob, second)
		if acked, delivered := p.Counts(); p.Missing() != 0 || acked != 2 || delivered != 2 {
			t.Errorf("%d missing, %d acknowledged, %d delivered", p.Missing(), acked, delivered)
		}
	})
}

func TestTextsHaveTheSizeAndDiffer(t *testing.T) {
	l := New("run", []string{"alice", "bob"}, 100)
	seen := map[string]bool{}
	for range 100 {
		text := l.Text(l.Send(0, 1, time.Now()))
		if len(text) != 100 || seen[text] {
			t.Fatalf("text of %d bytes: %q", len(text), text)
		}
		seen[text] = true
	}
}
