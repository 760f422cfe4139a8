package mailbox

import (
	"bytes"
	"strings"
	"testing"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// plant makes Apply panic on the records of one message until the test ends.
func plant(t interface{ Cleanup(func()) }, clientMessageID string) {
	panicOn = func(r *record.Record) {
		if r.GetSend().GetClientMessageId() == clientMessageID {
			none := make([]int, 0)
			_ = none[len(r.GetId())]
		}
	}
	t.Cleanup(func() { panicOn = nil })
}

// A panic is a result like any other: refused, remembered, and without effect.
func TestPanicIsARefusal(t *testing.T) {
	plant(t, "bad")
	b := newAccount(t)
	b.accept(send("alice", "good", 3))
	before := b.encode()
	out := b.apply(send("alice", "bad", 3))
	if out.Answer.Reason != refusal.Internal || !strings.Contains(out.Fault, "index out of range") || !strings.Contains(out.Fault, "panic_test.go") {
		t.Fatalf("outcome %+v", out)
	}
	if len(out.Operations) != 0 || len(out.FollowUps) != 0 || len(out.Write.Rows) != 0 || len(out.Write.Dedup) != 1 {
		t.Errorf("outcome %+v", out)
	}
	if !bytes.Equal(b.encode(), before) || b.Position() != at(3) || !bytes.Equal(out.Write.State, before) {
		t.Error("the state changed")
	}
	// The refusal is the answer to a retry, though it would not panic.
	panicOn = nil
	if out := b.apply(retry("alice", "bad", 3)); out.Answer.Reason != refusal.Internal || out.Fault != "" {
		t.Errorf("retry: refused: %q", out.Answer.Reason)
	}
	if out := b.accept(send("alice", "next", 3)); out.Answer.Revision != 2 {
		t.Errorf("revision %d", out.Answer.Revision)
	}
}

// Live, in a replay, and at a second owner, in whatever state each met it.
func TestPanicComesToTheSameEverywhere(t *testing.T) {
	plant(t, "bad")
	log := []*record.Record{
		createAccount("bob"), send("alice", "m1", 3), send("alice", "bad", 3),
		retry("alice", "bad", 3), send("carol", "bad", 3), send("alice", "m2", 3),
	}
	live := newBox(t)
	var store history
	var want []Outcome
	for _, r := range log {
		out := live.apply(r)
		store.keep(out)
		want = append(want, out)
	}
	if want[2].Answer.Reason != refusal.Internal || want[5].Answer.Revision != 2 {
		t.Fatalf("the test does not test: %+v", want)
	}
	for stored := range len(log) + 1 {
		for _, maxDedup := range []int{0, 100} {
			owner := store.upTo(at(int64(stored))).load(t, "bob", maxDedup)
			for i, r := range log {
				got := owner.Apply(store.lookUp(owner, Input{Position: at(int64(i + 1)), Time: start, Record: r}))
				if got.Skipped {
					continue
				}
				got.Fault, want[i].Fault = "", "" // stacks differ
				diff(t, got, want[i])
			}
		}
	}
}

func TestPanicWhereThereIsNoAccount(t *testing.T) {
	panicOn = func(*record.Record) { panic("planted") }
	t.Cleanup(func() { panicOn = nil })
	b := newBox(t)
	out := b.apply(createAccount("bob"))
	if out.Answer.Reason != refusal.Internal || out.Write.State != nil || b.Exists() {
		t.Errorf("outcome %+v", out)
	}
	panicOn = nil
	b.accept(createAccount("bob"))
}
