package mailbox

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/persistence"
)

// A key that was let go of is never taken for one that was not there, whatever
// became of those around it; and of keys that were never there few are taken
// for one that was.
func TestFilterMissesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f filter
		var added []packed
		var now, notBefore int64
		check := func(p packed) {
			if p.time() >= notBefore && !f.mayHave(p.key(), notBefore) {
				t.Fatalf("a key of time %d is missing at %d; complete from %d", p.time(), notBefore, f.completeFrom)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				slow := rapid.Bool().Draw(t, "slow")
				for range rapid.IntRange(1, 3*filterKeys).Draw(t, "keys") {
					p := entryOf(uint64(len(added)), now)
					f.add(p.key(), now)
					added = append(added, p)
					if slow {
						now++
					}
				}
			},
			"expire": func(t *rapid.T) {
				notBefore = max(notBefore, now-rapid.Int64Range(0, 2*filterKeys).Draw(t, "age"))
				f.expire(notBefore)
			},
			"": func(t *rapid.T) {
				for i := 0; i < len(added); i += 1 + len(added)/200 {
					check(added[i])
				}
				if len(added) > 0 {
					check(added[len(added)-1])
				}
			},
		})
	})
}

func TestFilterTakesFewKeysForAnother(t *testing.T) {
	var f filter
	random := rand.New(rand.NewPCG(1, 2))
	for n := range maxGenerations * filterKeys {
		f.add(randomKey(random), int64(n))
	}
	const asked = 20_000
	mistaken := 0
	for range asked {
		if f.mayHave(randomKey(random), 0) {
			mistaken++
		}
	}
	if share := float64(mistaken) / asked; share > 0.05 {
		t.Errorf("%.1f %% of keys that were never added may have been, of a filter that is full", 100*share)
	}
}

func randomKey(random *rand.Rand) (key dedupKey) {
	for i := range key {
		key[i] = byte(random.Uint32())
	}
	return key
}

// A filter that is full lets go of its oldest keys, and knows.
func TestFilterIsBounded(t *testing.T) {
	var f filter
	for n := range maxGenerations*filterKeys + 1 {
		f.add(entryOf(uint64(n), int64(n)).key(), int64(n))
	}
	if len(f.generations) != maxGenerations {
		t.Errorf("%d generations", len(f.generations))
	}
	if f.completeFrom != filterKeys {
		t.Errorf("complete from %d, and keys up to %d are gone", f.completeFrom, filterKeys-1)
	}
	if never := entryOf(1<<40, 0).key(); !f.mayHave(never, filterKeys-1) {
		t.Error("a key is taken for new that may be as old as those that are gone")
	}
	f.expire(1 << 40)
	if len(f.generations) != 0 {
		t.Errorf("%d generations are left of keys that are too old", len(f.generations))
	}
}

// A mailbox decides as one that remembers everything does, with a look-up for
// hardly any command that is new: in memory, loaded with all entries, and
// loaded without them.
func TestBusyMailboxDecidesAsIfItRememberedAll(outer *testing.T) {
	rapid.Check(outer, func(t *rapid.T) {
		b := newAccount(outer)
		var store entries
		type command struct {
			answer Answer
			time   int64
		}
		var all []command
		apply := func(n int) {
			b.offset++
			r := mintedAt(send("alice", fmt.Sprint(n), 3), b.time)
			out := b.Apply(store.lookUp(b.State, Input{Position: at(b.offset), Time: b.time, Record: r}))
			store.keep(out)
			switch fresh := n == len(all) || all[n].time < windowStart(b.time); {
			case fresh != (len(out.Operations) == 1):
				t.Fatalf("command %d of time %d, at %d: taken for new: %v", n, all[min(n, len(all)-1)].time, b.time, !fresh)
			case n == len(all):
				all = append(all, command{out.Answer, b.time})
			case fresh:
				all[n] = command{out.Answer, b.time}
			case out.Answer != all[n].answer:
				t.Fatalf("command %d was answered %+v and then %+v", n, all[n].answer, out.Answer)
			}
		}
		for range rapid.IntRange(1, 4).Draw(t, "bursts") {
			for range rapid.IntRange(1, 2*MaxDedupInMemory).Draw(t, "commands") {
				apply(len(all))
			}
			b.wait(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "pause")))
			if rapid.Bool().Draw(t, "reload") {
				b.State = store.load(outer, b.User(), rapid.SampledFrom([]int{0, MaxDedupInMemory, MaxDedupLoaded}).Draw(t, "at most"))
			}
			for range 50 {
				apply(rapid.IntRange(0, len(all)-1).Draw(t, "again"))
			}
		}
	})
}

// Of new commands that memory does not reach back far enough for, next to none
// are looked up.
func TestNewCommandsAreHardlyLookedUp(t *testing.T) {
	b := newAccount(t)
	var store entries
	apply := func(id string) {
		b.offset++
		in := Input{Position: at(b.offset), Time: b.time, Record: mintedAt(send("alice", id, 3), b.time)}
		store.keep(b.Apply(store.lookUp(b.State, in)))
	}
	const commands = 3 * MaxDedupInMemory
	for i := range commands {
		apply(fmt.Sprint(i))
	}
	if store.asked > commands/500 {
		t.Errorf("%d of %d commands were looked up", store.asked, commands)
	}
	b.State = store.load(t, b.User(), MaxDedupLoaded)
	store.asked = 0
	for i := range 1000 {
		apply(fmt.Sprint("after the load ", i))
	}
	if store.asked > 10 {
		t.Errorf("loaded with all entries, %d of 1000 commands were looked up", store.asked)
	}
	b.State = store.load(t, b.User(), MaxDedupInMemory)
	store.asked = 0
	for i := range 1000 {
		apply(fmt.Sprint("after another load ", i))
	}
	if store.asked != 1000 {
		t.Errorf("loaded without entries, %d of 1000 commands were looked up", store.asked)
	}
}

// entries are a history whose dedup entries are found by their keys.
type entries struct {
	history
	byKey map[dedupKey][]persistence.DedupEntry
	asked int // look-ups
}

func (e *entries) keep(out Outcome) {
	e.history.keep(out)
	if e.byKey == nil {
		e.byKey = map[dedupKey][]persistence.DedupEntry{}
	}
	for _, entry := range out.Write.Dedup {
		e.byKey[entry.Key] = append(e.byKey[entry.Key], entry)
	}
}

func (e *entries) lookUp(s *State, in Input) Input {
	notBefore, needed := s.LookUp(in.Record, in.Time)
	if !needed {
		return in
	}
	e.asked++
	for _, entry := range e.byKey[dedupKey(in.Record.DedupKey)] {
		if entry.Time >= notBefore {
			in.Dedup = &entry
			break
		}
	}
	return in
}
