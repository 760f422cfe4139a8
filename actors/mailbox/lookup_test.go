package mailbox

import (
	"fmt"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

func TestLookUpIsNeededOnlyWhereMemoryDoesNotReach(t *testing.T) {
	b := newAccount(t)
	r := send("alice", "m", 3)
	if _, needed := b.LookUp(r, b.time); needed {
		t.Error("a mailbox that was never stored needs a look-up")
	}
	whole := b.reload(persistence.Mailbox{DedupComplete: true})
	if _, needed := whole.LookUp(r, b.time); needed {
		t.Error("a mailbox loaded with all entries needs a look-up")
	}

	b = b.reload(persistence.Mailbox{})
	for _, c := range []struct {
		name   string
		record *record.Record
		after  time.Duration
		needed bool
	}{
		{"command", r, 0, true},
		{"too old a command", r, MaxCommandAge + time.Millisecond, false},
		{"last moment", mintedAt(send("alice", "m", 3), start+DedupWindow.Milliseconds()), DedupWindow, true},
		{"all is younger than the load", mintedAt(send("alice", "m", 3), start+DedupWindow.Milliseconds()), DedupWindow + time.Millisecond, false},
		{"no command", sentCopy("alice", at(9)), 0, false},
		{"no answer kept", trim(1), 0, false},
	} {
		notBefore, needed := b.LookUp(c.record, start+c.after.Milliseconds())
		if needed != c.needed {
			t.Errorf("%s: needed: %v, want %v", c.name, needed, c.needed)
		}
		if want := start + c.after.Milliseconds() - DedupWindow.Milliseconds(); needed && notBefore != want {
			t.Errorf("%s: not before %d, want %d", c.name, notBefore, want)
		}
	}
	b.accept(r)
	if _, needed := b.LookUp(retry("alice", "m", 3), b.time); needed {
		t.Error("a key that is in memory needs a look-up")
	}
}

// The store may be ahead of an owner that looks a key up, and may hold the
// answer to the very record that the owner is about to decide.
func TestEntryFromTheFutureIsNotAnEarlierCommand(t *testing.T) {
	ahead := newAccount(t)
	behind := ahead.reload(persistence.Mailbox{})
	r := send("alice", "m", 3)
	want := ahead.accept(r)
	for _, position := range []persistence.Position{at(2), at(3), {Generation: 2, Offset: 1}} {
		entry := want.Write.Dedup[0]
		entry.Position = position
		s := behind.reload(persistence.Mailbox{})
		got := s.Apply(Input{Position: at(2), Time: start, Record: r, Dedup: &entry})
		diff(t, got, want)
	}
	entry := want.Write.Dedup[0]
	entry.Position = at(1)
	if got := behind.Apply(Input{Position: at(2), Time: start, Record: r, Dedup: &entry}); len(got.Operations) != 0 {
		t.Error("an earlier command was not taken for one")
	}
}

// A mailbox with more commands in a day than memory holds knows them all, by
// look-ups where it must.
func TestManyCommandsInADay(t *testing.T) {
	const extra = 100
	b := newAccount(t)
	var store history
	apply := func(r *record.Record) Outcome {
		b.offset++
		out := b.Apply(store.lookUp(b.State, Input{Position: at(b.offset), Time: b.time, Record: r}))
		store.keep(out)
		return out
	}
	first := make([]Answer, MaxDedupInMemory+extra)
	for i := range first {
		first[i] = apply(send("alice", fmt.Sprint(i), 3)).Answer
	}
	if b.dedup.count != MaxDedupInMemory {
		t.Fatalf("%d entries in memory", b.dedup.count)
	}
	b.wait(time.Minute)
	for _, reload := range []bool{false, true} {
		if reload {
			b.State = store.load(t, "bob", MaxDedupInMemory)
		}
		for i := 0; i < len(first); i += 50 {
			if out := apply(retry("alice", fmt.Sprint(i), 3)); out.Answer != first[i] || len(out.Operations) != 0 {
				t.Fatalf("command %d, loaded %v: got %+v, want %+v", i, reload, out.Answer, first[i])
			}
		}
	}
}
