//go:build stores

package hbase_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/hbase"
)

// TestPutsArriveInAnyOrder: the steps of a mailbox, each put several times, in
// any order, by owners that do not look at what is stored, with compactions in
// between, leave what they leave in order.
func TestPutsArriveInAnyOrder(t *testing.T) {
	const steps = 40
	o := optionsWith(t, 16)
	s := openStore(t, o)
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(1, 2))
	for shard := range uint32(4) {
		order := append(rng.Perm(steps), rng.Perm(steps)...)
		for i, offset := range order {
			if err := s.PutLate(ctx, shard, &step(int64(offset)).Mailboxes[0]); err != nil {
				t.Fatal(err)
			}
			if shard == 0 && i%25 == 20 {
				compact(ctx, t, o, s)
			}
		}
		batch := persistence.Batch{Highest: at(steps - 1), Checkpoint: at(steps - 1)}
		if err := s.Write(ctx, shard, batch); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		wantStep(t, s, shard, steps-1, steps-1)
	}
}

// TestRemovedRowsStayRemoved: a removal masks puts that arrive after it. When a
// compaction has dropped the removal, a late put lies in the tables, and is not
// seen.
func TestRemovedRowsStayRemoved(t *testing.T) {
	o := optionsWith(t, 16)
	s := openStore(t, o)
	ctx := t.Context()
	const shard = 8
	all := persistence.MailboxWrite{Mailbox: "a", Position: at(10), State: []byte("ten")}
	for revision := range int64(30) {
		all.Rows = append(all.Rows, persistence.Row{Revision: revision + 1, Peer: "b", Data: fmt.Append(nil, "operation ", revision)})
	}
	put := func(m persistence.MailboxWrite) {
		t.Helper()
		if err := s.Write(ctx, shard, persistence.Batch{Highest: m.Position, Mailboxes: []persistence.MailboxWrite{m}}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(operations, places int) {
		t.Helper()
		gotOperations, gotPlaces, err := s.CountRows(ctx, shard, "a", "b")
		if err != nil || gotOperations != operations || gotPlaces != places {
			t.Fatalf("%d operations and %d places lie in the tables, error %v; want %d and %d", gotOperations, gotPlaces, err, operations, places)
		}
		seen, err := s.Operations(ctx, shard, "a", 0, persistence.MaxRevision, math.MaxInt, math.MaxInt)
		if err != nil {
			t.Fatal(err)
		}
		talk, err := s.Conversation(ctx, shard, "a", "b", persistence.MaxRevision, math.MaxInt, math.MaxInt)
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) != 10 || seen[0].Revision != 21 || len(talk) != 10 || talk[9].Revision != 21 {
			t.Fatalf("%d operations and %d of the conversation are seen, want those from 21 to 30", len(seen), len(talk))
		}
	}
	put(all)
	put(persistence.MailboxWrite{Mailbox: "a", Position: at(11), State: []byte("eleven"), First: 21})
	want(10, 10)
	late := all
	for _, position := range []int64{5, 10, 12} {
		late.Position = at(position)
		if err := s.PutLate(ctx, shard, &late); err != nil {
			t.Fatal(err)
		}
		want(10, 10)
	}
	compact(ctx, t, o, s)
	want(10, 10)
	if err := s.PutLate(ctx, shard, &late); err != nil {
		t.Fatal(err)
	}
	want(30, 30)
}

// TestRemovalGoesOn: more rows than one call removes are removed by those that
// follow, of any mailbox of the shard, and by a new process too.
func TestRemovalGoesOn(t *testing.T) {
	o := optionsWith(t, 16)
	s := openStore(t, o)
	ctx := t.Context()
	const shard, rows = 9, 12_000
	put := func(m persistence.MailboxWrite) {
		t.Helper()
		if err := s.Write(ctx, shard, persistence.Batch{Highest: m.Position, Mailboxes: []persistence.MailboxWrite{m}}); err != nil {
			t.Fatal(err)
		}
	}
	left := func() int {
		t.Helper()
		operations, _, err := s.CountRows(ctx, shard, "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		return operations
	}
	all := persistence.MailboxWrite{Mailbox: "a", Position: at(1)}
	for revision := range int64(rows) {
		all.Rows = append(all.Rows, persistence.Row{Revision: revision + 1, Data: []byte("x")})
	}
	put(all)
	put(persistence.MailboxWrite{Mailbox: "a", Position: at(2), First: rows + 1})
	first := left()
	if first == 0 || first == rows {
		t.Fatalf("the first call left %d of %d rows", first, rows)
	}
	if seen, err := s.Operations(ctx, shard, "a", 0, persistence.MaxRevision, 10, 1000); err != nil || len(seen) > 0 {
		t.Fatalf("%d removed rows are seen, error %v", len(seen), err)
	}
	put(persistence.MailboxWrite{Mailbox: "other", Position: at(3)})
	second := left()
	if second >= first {
		t.Fatalf("the second call left %d of %d rows", second, first)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, o)
	put(persistence.MailboxWrite{Mailbox: "a", Position: at(2)}) // again: nothing new
	if third := left(); third != 0 {
		t.Fatalf("the third call left %d rows", third)
	}
}

// TestOldDedupEntriesGo: a mailbox keeps the entries of some three days, and what
// an overtaken owner puts of those that are gone stays hidden.
func TestOldDedupEntriesGo(t *testing.T) {
	o := optionsWith(t, 16)
	s := openStore(t, o)
	ctx := t.Context()
	const shard, days, hour = 10, 10, int64(time.Hour / time.Millisecond)
	var first persistence.MailboxWrite
	for h := range int64(days * 24) {
		m := persistence.MailboxWrite{Mailbox: "a", Position: at(h), Dedup: []persistence.DedupEntry{{
			Key: [persistence.DedupKeySize]byte{byte(h), byte(h >> 8)}, Time: (480_000 + h) * hour, Position: at(h),
		}}}
		if h == 0 {
			first = m
		}
		batch := persistence.Batch{Highest: at(h), Checkpoint: at(max(0, h-1)), Mailboxes: []persistence.MailboxWrite{m}}
		if err := s.Write(ctx, shard, batch); err != nil {
			t.Fatal(err)
		}
		hours, err := s.CountDedupHours(ctx, shard, "a")
		if err != nil || int64(hours) < min(h+1, 49) || hours > 80 {
			t.Fatalf("in hour %d lie %d hours of entries, error %v", h, hours, err)
		}
	}
	before, err := s.CountDedupHours(ctx, shard, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutLate(ctx, shard, &first); err != nil {
		t.Fatal(err)
	}
	if after, err := s.CountDedupHours(ctx, shard, "a"); err != nil || after != before {
		t.Fatalf("a late put makes %d hours of %d, error %v", after, before, err)
	}
}

// TestManyDedupEntries: the entries of one busy hour come in several pieces.
func TestManyDedupEntries(t *testing.T) {
	s := openStore(t, optionsWith(t, 16))
	const shard, entries = 11, 20_000
	m := persistence.MailboxWrite{Mailbox: "a", Position: at(entries)}
	for i := range int64(entries) {
		m.Dedup = append(m.Dedup, persistence.DedupEntry{Key: [persistence.DedupKeySize]byte{byte(i), byte(i >> 8)}, Time: 1_700_000_000_000, Position: at(i)})
	}
	if err := s.Write(t.Context(), shard, persistence.Batch{Highest: at(entries), Mailboxes: []persistence.MailboxWrite{m}}); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{0, 100, 4096, entries - 1, entries} {
		loaded, err := s.Load(t.Context(), shard, "a", limit)
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if limit >= entries {
			want = entries
		}
		if len(loaded.Dedup) != want || loaded.DedupComplete != (want > 0) {
			t.Errorf("a load of at most %d has %d entries, complete %v", limit, len(loaded.Dedup), loaded.DedupComplete)
		}
	}
}

// TestPositionsOutOfRange are refused, with nothing written.
func TestPositionsOutOfRange(t *testing.T) {
	s := openStore(t, optionsWith(t, 16))
	for _, position := range []persistence.Position{{Generation: 1 << 15, Offset: 1}, {Generation: 1, Offset: 1 << 48}} {
		batch := persistence.Batch{Mailboxes: []persistence.MailboxWrite{{Mailbox: "a", Position: position}}}
		if err := s.Write(t.Context(), 12, batch); err == nil {
			t.Errorf("a state at %v is written", position)
		}
	}
	if _, err := s.Load(t.Context(), 12, "a", 1); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("a refused state is there: %v", err)
	}
	long := strings.Repeat("n", 1<<15)
	batch := persistence.Batch{Mailboxes: []persistence.MailboxWrite{{Mailbox: long, Position: at(1)}}}
	if err := s.Write(t.Context(), 12, batch); err == nil {
		t.Error("a name that is longer than a row key is written")
	}
}

// TestTwoStores: what one store writes another loads, and marks of another are
// seen as they are.
func TestTwoStores(t *testing.T) {
	o := optionsWith(t, 16)
	a, b := openStore(t, o), openStore(t, o)
	ctx := t.Context()
	const shard = 13
	for offset := range int64(20) {
		writer, reader := a, b
		if offset%3 == 0 {
			writer, reader = b, a
		}
		if err := writer.Write(ctx, shard, step(offset)); err != nil {
			t.Fatal(err)
		}
		if err := writer.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		wantStep(t, reader, shard, offset, offset)
	}
	if err := a.Write(ctx, shard, step(5)); err != nil {
		t.Fatal(err)
	}
	wantStep(t, b, shard, 19, 19)
}

func TestSchema(t *testing.T) {
	o := optionsWith(t, 16)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		if err := hbase.ApplySchema(ctx, o); err != nil {
			t.Fatalf("applying the schema again: %v", err)
		}
	}
	other := o
	other.Shards = 17
	absent := o
	absent.TablePrefix += "absent_"
	for name, test := range map[string]struct {
		options hbase.Options
		apply   bool
		want    string
	}{
		"another number of shards":          {other, false, "were made for 16 shards"},
		"another number of shards, applied": {other, true, "were made for 16 shards"},
		"no tables":                         {absent, false, "tegami admin schema apply"},
	} {
		open := func() error {
			if test.apply {
				return hbase.ApplySchema(ctx, test.options)
			}
			s, err := hbase.OpenStore(ctx, test.options)
			if err == nil {
				_ = s.Close()
			}
			return err
		}
		if err := open(); !errors.Is(err, hbase.ErrSchema) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one that says %q", name, err, test.want)
		}
	}
	if _, err := hbase.OpenKeys(ctx, absent); !errors.Is(err, hbase.ErrSchema) {
		t.Errorf("keys without tables: error %v", err)
	}
	compressed := o
	compressed.TablePrefix += "gz_"
	compressed.Compression, compressed.Regions = "GZ", 1
	if err := hbase.ApplySchema(ctx, compressed); err != nil {
		t.Fatalf("tables compressed with GZ: %v", err)
	}
	s := openStore(t, compressed)
	if err := s.Write(ctx, 0, step(0)); err != nil {
		t.Fatal(err)
	}
	compact(ctx, t, compressed, s)
	m, err := s.Load(ctx, 0, "a", 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(at(0), m.Position); diff != "" {
		t.Error(diff)
	}
}
