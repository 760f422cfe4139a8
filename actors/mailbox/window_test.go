package mailbox

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

func TestPackedEntryKeepsItsParts(t *testing.T) {
	e := persistence.DedupEntry{Time: maxTime, Revision: maxRevision, Reason: uint8(refusal.DifferentBody)}
	for i := range e.Key {
		e.Key[i] = byte(i + 1)
	}
	for i := range e.BodyHash {
		e.BodyHash[i] = byte(i + 101)
	}
	for i := range e.MessageID {
		e.MessageID[i] = byte(i + 201)
	}
	check := func() {
		t.Helper()
		p := pack(&e)
		got := persistence.DedupEntry{
			Key:       p.key(),
			BodyHash:  [persistence.BodyHashSize]byte(p.bodyHash()),
			MessageID: p.messageID(),
			Time:      p.time(),
			Revision:  p.revision(),
			Reason:    uint8(p.reason()),
		}
		if got != e {
			t.Errorf("got %+v, want %+v", got, e)
		}
	}
	check()
	e.Time, e.Revision, e.Reason = 0, 0, 0
	check()
	e.Time, e.Revision = 1<<47+1, 1<<39+1
	check()
}

// The entries of a busy mailbox take 48 bytes each, whatever came before:
// growth, wrapping, and as much again pushed out.
func TestDedupEntryTakesAtMost48Bytes(t *testing.T) {
	const windows = 16
	all := make([]window, windows)
	before := liveHeap()
	for i := range all {
		for n := range 2 * MaxDedupInMemory {
			all[i].add(entryOf(uint64(n), int64(n)))
		}
		all[i].gone = filter{} // two bytes for each that went, whatever is in memory
	}
	each := float64(liveHeap()-before) / (windows * MaxDedupInMemory)
	if count := all[0].count; count != MaxDedupInMemory {
		t.Fatalf("%d entries in memory", count)
	}
	runtime.KeepAlive(all)
	t.Logf("%.2f bytes an entry", each)
	if each > 48 {
		t.Errorf("%.2f bytes an entry, want at most 48", each)
	}
}

// A mailbox with few entries must not pay for many.
func TestWindowGrowsAndShrinksInModestSteps(t *testing.T) {
	var w window
	size := func() int { return len(w.ring)*len(packed{}) + 2*len(w.slots) }
	for n := range MaxDedupInMemory {
		w.add(entryOf(uint64(n), int64(n)))
		if limit := 48*w.count*9/8 + 48*9; size() > limit {
			t.Fatalf("%d bytes for %d entries, want at most %d", size(), w.count, limit)
		}
	}
	w.expire(MaxDedupInMemory - 10)
	if w.count != 10 || size() > 64*48 {
		t.Errorf("%d bytes are kept for the %d entries left", size(), w.count)
	}
}

// Memory says from which log time on it is complete.
func TestWindowKnowsWhatItLetGo(t *testing.T) {
	var w window
	for n := range MaxDedupInMemory {
		w.add(entryOf(uint64(n), int64(n)/2))
	}
	if w.completeFrom != 0 {
		t.Fatalf("complete from %d with nothing let go", w.completeFrom)
	}
	w.add(entryOf(MaxDedupInMemory, MaxDedupInMemory))
	if _, found := w.find(entryOf(0, 0).key()); found {
		t.Error("the oldest entry is still there")
	}
	if w.completeFrom != 1 {
		t.Errorf("complete from %d, want 1: an entry of time 0 is gone", w.completeFrom)
	}
}

// A window finds what a list of entries searched from its end finds.
func TestWindowAgreesWithAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		var list []packed
		var now int64
		keys := rapid.SampledFrom([]uint64{3, 40, 400}).Draw(t, "keys")
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				now += rapid.Int64Range(0, 3).Draw(t, "later")
				p := entryOf(rapid.Uint64Range(0, keys).Draw(t, "key"), now)
				w.add(p)
				list = append(list, p)
			},
			"expire": func(t *rapid.T) {
				notBefore := now - rapid.Int64Range(0, 60).Draw(t, "age")
				w.expire(notBefore)
				list = slices.DeleteFunc(list, func(p packed) bool { return p.time() < notBefore })
			},
			"": func(t *rapid.T) {
				if w.count != len(list) {
					t.Fatalf("%d entries, want %d", w.count, len(list))
				}
				for n := range keys + 1 {
					checkFind(t, &w, list, entryOf(n, 0).key())
				}
			},
		})
	})
}

func checkFind(t *rapid.T, w *window, list []packed, key dedupKey) {
	t.Helper()
	got, found := w.find(key)
	for _, want := range slices.Backward(list) {
		if want.key() == key {
			if !found || got != want {
				t.Fatalf("key %x: found %v %x, want %x", key, found, got, want)
			}
			return
		}
	}
	if found {
		t.Fatalf("key %x: found %x, want none", key, got)
	}
}

// entryOf returns an entry whose key is a hash of n. Every sixteenth n has its
// home in the last slot of any table, so that probing goes round its end.
func entryOf(n uint64, time int64) packed {
	var e persistence.DedupEntry
	binary.BigEndian.PutUint64(e.Key[2:], rand.New(rand.NewPCG(n, 1)).Uint64())
	binary.BigEndian.PutUint32(e.Key[:], uint32(n*2654435761))
	if n%16 == 15 {
		binary.BigEndian.PutUint32(e.Key[:], 1<<32-1)
	}
	e.Time = time
	return pack(&e)
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
