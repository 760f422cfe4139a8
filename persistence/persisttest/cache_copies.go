package persisttest

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence"
)

// full is a mailbox with all its parts, as a store has it.
func full() *persistence.Mailbox {
	m := &persistence.Mailbox{
		Position: persistence.Position{Generation: 3, Offset: 1 << 40},
		State:    []byte{0, 1, 2, 255},
		Sources: []persistence.Source{
			{Mailbox: "bob", Position: at(5)},
			{Mailbox: "carol", Position: persistence.Position{Generation: math.MaxUint32, Offset: math.MaxInt64}},
		},
		Parts:         []persistence.Part{loaded("contact", "carol"), loaded("settings", "\x00\xff")},
		DedupComplete: true,
	}
	for i := range 300 {
		m.Dedup = append(m.Dedup, dedup(i, someDay+int64(i), int64(i)))
	}
	return m
}

func cacheFill(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, persistence.Position{Generation: 4})
	fill(t, c, mark, "alice", full())
	wantCopy(t, c, 0, "alice", full())
	fill(t, c, mark, "empty", &persistence.Mailbox{Position: at(0), DedupComplete: true})
	m, err := c.Load(testContext(t), 0, "empty", 0, at(0))
	check(t, err)
	if m.Position != at(0) || len(m.State) != 0 || !m.DedupComplete {
		t.Fatalf("an empty mailbox is loaded as %+v", m)
	}
	wantNoCopy(t, c, 0, "bob")
	wantMark(t, c, 0, mark)
}

func cacheFollows(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	want := full()
	fill(t, c, mark, "alice", want)
	want = full()
	for i := range int64(20) {
		m := persistence.MailboxWrite{
			Mailbox: "alice", Position: persistence.Position{Generation: 4, Offset: i}, State: []byte{byte(i)},
			Rows: rows(i+1, i+1, "bob"),
		}
		entry := dedup(1000+int(i), someDay+1000+i, 0)
		entry.Position = m.Position
		if i%3 == 0 {
			m.Dedup = []persistence.DedupEntry{entry}
		}
		if i%4 == 0 {
			m.Sources = []persistence.Source{{Mailbox: string('d' + rune(i)), Position: at(i)}, {Mailbox: "bob", Position: at(10 + i)}}
			want.Sources = append(want.Sources, m.Sources[0])
			want.Sources[0].Position = at(10 + i)
		}
		mark = put(t, c, mark, 2+i, m)
		want.Position, want.State = m.Position, m.State
		want.Dedup = append(want.Dedup, m.Dedup...)
		wantCopy(t, c, 0, "alice", want)
	}
	wantCached(t, c, 0, "alice", rows(1, 20, "bob"))
}

func cacheFillNil(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	fill(t, c, mark, "a", nil)
	wantNoCopy(t, c, 0, "a")
	fill(t, c, mark, "a", stored(1, "too late"))
	wantNoCopy(t, c, 0, "a")
	entry := dedup(1, someDay, 2)
	put(t, c, mark, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(2), State: []byte("two"), Dedup: []persistence.DedupEntry{entry}, Sources: []persistence.Source{{Mailbox: "b", Position: at(1)}}})
	wantCopy(t, c, 0, "a", &persistence.Mailbox{Position: at(2), State: []byte("two"), Dedup: []persistence.DedupEntry{entry}, DedupComplete: true, Sources: []persistence.Source{{Mailbox: "b", Position: at(1)}}})
}

func cacheFillIncomplete(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	m := stored(1, "one")
	m.DedupComplete = false
	fill(t, c, mark, "a", m)
	wantNoCopy(t, c, 0, "a")
	mark = put(t, c, mark, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(2), State: []byte("two")})
	wantNoCopy(t, c, 0, "a")
	fill(t, c, mark, "a", stored(2, "two")) // nor does it keep a complete one out
	wantCopy(t, c, 0, "a", stored(2, "two"))
}

func cacheFillOnce(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	fill(t, c, mark, "a", stored(1, "one"))
	for _, other := range []*persistence.Mailbox{nil, stored(0, "older"), stored(9, "newer"), full()} {
		fill(t, c, mark, "a", other)
		wantCopy(t, c, 0, "a", stored(1, "one"))
	}
	mark = put(t, c, mark, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(2), State: []byte("two")})
	fill(t, c, mark, "a", stored(1, "one"))
	wantCopy(t, c, 0, "a", stored(2, "two"))
}

func cacheRowsOnly(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	mark = put(t, c, mark, 2, persistence.MailboxWrite{
		Mailbox: "a", Position: at(2), State: []byte("two"), Rows: rows(7, 9, "b"),
		Dedup: []persistence.DedupEntry{dedup(1, someDay, 2)}, Sources: []persistence.Source{{Mailbox: "b", Position: at(1)}},
	})
	wantNoCopy(t, c, 0, "a")
	wantCached(t, c, 0, "a", rows(7, 9, "b"))
	fill(t, c, mark, "a", stored(2, "from the store"))
	wantCopy(t, c, 0, "a", stored(2, "from the store"))
	wantCached(t, c, 0, "a", rows(7, 9, "b"))
}

func cacheForwardOnly(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	fill(t, c, mark, "a", stored(10, "ten"))
	for _, older := range []persistence.Position{at(9), at(0), {}, at(10)} {
		mark = put(t, c, mark, 20, persistence.MailboxWrite{
			Mailbox: "a", Position: older, State: []byte("other"),
			Sources: []persistence.Source{{Mailbox: "c", Position: at(1)}},
			Dedup:   []persistence.DedupEntry{dedup(1, someDay, 1)},
		})
		wantCopy(t, c, 0, "a", stored(10, "ten"))
	}
	want := stored(0, "second generation")
	want.Position = persistence.Position{Generation: 2, Offset: 4} // a generation comes before any offset
	mark = put(t, c, mark, 20, persistence.MailboxWrite{Mailbox: "a", Position: want.Position, State: want.State})
	wantCopy(t, c, 0, "a", want)
	put(t, c, mark, 20, persistence.MailboxWrite{Mailbox: "a", Position: at(1000), State: []byte("first generation")})
	wantCopy(t, c, 0, "a", want)
}

func cacheSources(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	m := stored(1, "")
	m.Sources = []persistence.Source{{Mailbox: "b", Position: at(1 << 53)}, {Mailbox: "c", Position: at(2)}}
	fill(t, c, mark, "a", m)
	mark = put(t, c, mark, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(2), State: []byte("s"), Sources: []persistence.Source{{Mailbox: "b", Position: at(1<<53 + 1)}, {Mailbox: "d", Position: at(3)}}})
	put(t, c, mark, 3, persistence.MailboxWrite{Mailbox: "a", Position: at(3), State: []byte("s"), Sources: []persistence.Source{{Mailbox: "b", Position: at(1 << 53)}, {Mailbox: "d", Position: persistence.Position{Generation: 2}}}})
	want := stored(3, "s")
	want.Sources = []persistence.Source{{Mailbox: "b", Position: at(1<<53 + 1)}, {Mailbox: "c", Position: at(2)}, {Mailbox: "d", Position: persistence.Position{Generation: 2}}}
	wantCopy(t, c, 0, "a", want)
}

func cacheParts(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	m := stored(0, "")
	m.Parts = []persistence.Part{loaded("b", "filled"), loaded("z", "filled")}
	fill(t, c, mark, "a", m)
	for i, step := range partSteps() {
		mark = put(t, c, mark, step.offset, persistence.MailboxWrite{Mailbox: "a", Position: at(step.offset), State: []byte{byte(i)}, Parts: step.written})
		want := step.want
		want = append(want, loaded("z", "filled"))
		got, err := c.Load(testContext(t), 0, "a", 0, at(0))
		check(t, err)
		sortMailbox(got)
		if diff := cmp.Diff(want, got.Parts); diff != "" {
			t.Fatalf("parts after write %d (-want +got):\n%s", i, diff)
		}
	}
}

func cacheAgain(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(10))
	fill(t, c, mark, "a", nil)
	batch := []persistence.MailboxWrite{
		{
			Mailbox: "a", Position: at(10), State: []byte("ten"), Rows: rows(1, 5, "b"), First: 2,
			Dedup: []persistence.DedupEntry{dedup(1, someDay, 3)}, Sources: []persistence.Source{{Mailbox: "c", Position: at(1)}},
		},
		{Mailbox: "rows only", Position: at(9), State: []byte("nine"), Rows: rows(4, 6, "b")},
	}
	want := &persistence.Mailbox{Position: at(10), State: []byte("ten"), Dedup: batch[0].Dedup, DedupComplete: true, Sources: batch[0].Sources}
	for range 3 {
		mark = put(t, c, mark, 10, batch...)
		wantCopy(t, c, 0, "a", want)
		wantCached(t, c, 0, "a", rows(2, 5, "b"))
		wantNoCopy(t, c, 0, "rows only")
		wantCached(t, c, 0, "rows only", rows(4, 6, "b"))
	}
	// One owner joins what another has written to what is new.
	next := dedup(2, someDay, 11)
	put(t, c, mark, 11, persistence.MailboxWrite{Mailbox: "a", Position: at(11), State: []byte("eleven"), Rows: rows(3, 7, "b"), Dedup: []persistence.DedupEntry{next, batch[0].Dedup[0]}})
	want.Position, want.State, want.Dedup = at(11), []byte("eleven"), append(slices.Clone(want.Dedup), next)
	wantCopy(t, c, 0, "a", want)
	wantCached(t, c, 0, "a", rows(2, 7, "b"))
}

func cacheDedupComplete(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(0))
	fill(t, c, mark, "a", nil)
	for i := range int64(10) {
		mark = put(t, c, mark, i+1, persistence.MailboxWrite{Mailbox: "a", Position: at(i + 1), Dedup: []persistence.DedupEntry{dedup(int(i), someDay, i+1)}})
	}
	m, err := c.Load(testContext(t), 0, "a", 10, at(0))
	check(t, err)
	if len(m.Dedup) != 10 || !m.DedupComplete {
		t.Fatalf("loaded %d dedup entries of 10, complete: %v", len(m.Dedup), m.DedupComplete)
	}
	for _, maxDedup := range []int{0, 9} {
		if _, err := c.Load(testContext(t), 0, "a", maxDedup, at(0)); !errors.Is(err, persistence.ErrNotFound) {
			t.Fatalf("a load with at most %d of 10 dedup entries returns %v, want ErrNotFound", maxDedup, err)
		}
	}
}

func cacheDedupDays(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(0))
	old := stored(1, "")
	for i := range 40 {
		old.Dedup = append(old.Dedup, dedup(i, someDay+int64(i), 0))
	}
	fill(t, c, mark, "a", old)
	const step = 5 * hour
	for i := range int64(40) {
		now := someDay + i*step
		mark = put(t, c, mark, i+2, persistence.MailboxWrite{
			Mailbox: "a", Position: at(i + 2), State: []byte("s"),
			Dedup: []persistence.DedupEntry{dedup(int(100+2*i), now-1, i+2), dedup(int(101+2*i), now, i+2)},
		})
		m, err := c.Load(testContext(t), 0, "a", 1000, at(0))
		check(t, err)
		held := map[[persistence.DedupKeySize]byte]bool{}
		for _, entry := range m.Dedup {
			held[entry.Key] = true
			if entry.Time < now-2*day {
				t.Fatalf("an entry is %d hours old", (now-entry.Time)/hour)
			}
		}
		for k := range i + 1 {
			if then := someDay + k*step; then-1 >= now-day && (!held[key(int(100+2*k))] || !held[key(int(101+2*k))]) {
				t.Fatalf("an entry that is %d hours old is missing", (now-then)/hour)
			}
		}
	}
}

func cacheCopies(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	m := stored(1, "one")
	fill(t, c, mark, "a", m)
	copy(m.State, "XXX")
	wantCopy(t, c, 0, "a", stored(1, "one"))
	state, data := []byte("two"), []byte("data")
	put(t, c, mark, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(2), State: state, Rows: []persistence.Row{{Revision: 1, Data: data}}})
	copy(state, "XXX")
	copy(data, "XXXX")
	for range 2 {
		got, err := c.Load(testContext(t), 0, "a", 10, at(0))
		check(t, err)
		read, err := c.Operations(testContext(t), 0, "a", 0, 0, 1, 1, 1)
		check(t, err)
		if string(got.State) != "two" || string(read[0].Data) != "data" {
			t.Fatalf("the copy has the state %q, the row %q", got.State, read[0].Data)
		}
		copy(got.State, "YYY")
		copy(read[0].Data, "YYYY")
	}
}
