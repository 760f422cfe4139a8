package persisttest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence"
)

// Store runs the contract of a store. open returns an empty one, which it
// closes when the test ends.
func Store(t *testing.T, open func(t *testing.T) *StoreInstance) {
	for _, property := range []struct {
		name string
		test func(t *testing.T, s *StoreInstance)
	}{
		{"an unknown mailbox is not found", storeNotFound},
		{"what was written is loaded", storeLoads},
		{"the caller may reuse its slices after Write", storeCopies},
		{"a state only moves forward", storeForwardOnly},
		{"a batch may be written again", storeIdempotent},
		{"a mailbox is in a batch once", storeBatchOnce},
		{"sources keep their newest position", storeSources},
		{"parts are of the state's position", storeParts},
		{"operations come in order, by page", storeOperations},
		{"rows below First are gone and stay so", storeFirst},
		{"a conversation comes newest first, by page", storeConversation},
		{"names do not mix, however odd", storeOddNames},
		{"shards do not mix", storeShardsApart},
		{"a dedup entry is found by key and age", storeDedupLookUp},
		{"of two entries of one key the oldest that counts is found", storeDedupTwice},
		{"a load cuts dedup entries at the state's position", storeDedupCut},
		{"a load holds all dedup entries or none", storeDedupComplete},
		{"a load holds the dedup entries of a day at least", storeDedupDays},
		{"entries that a record may still ask for are kept", storeDedupKept},
		{"marks are those of the last sync, and only move forward", storeMarks},
		{"a loaded state has all its rows", storeAtomic},
		{"reopening keeps everything", storeReopen},
		{"a closed store says so", storeClosed},
		{"an ended context ends a call", storeContext},
		{"a power cut keeps what was synced", storeCrash},
	} {
		t.Run(property.name, func(t *testing.T) { property.test(t, open(t)) })
	}
}

func row(revision int64, peer string) persistence.Row {
	return persistence.Row{Revision: revision, Peer: peer, Data: fmt.Appendf(nil, "operation %d with %q", revision, peer)}
}

func rows(from, to int64, peer string) []persistence.Row {
	var rows []persistence.Row
	for revision := from; revision <= to; revision++ {
		rows = append(rows, row(revision, peer))
	}
	return rows
}

func key(n int) (key [persistence.DedupKeySize]byte) {
	copy(key[:], fmt.Sprintf("%010d", n))
	return key
}

const (
	hour = 3_600_000
	day  = 24 * hour
	// someDay is the beginning of a day of log time.
	someDay = 20_000 * day
)

func dedup(n int, time, offset int64) persistence.DedupEntry {
	entry := persistence.DedupEntry{Key: key(n), Time: time, Position: at(offset), Revision: offset + 1, Reason: uint8(n % 5)}
	copy(entry.BodyHash[:], fmt.Sprint("body", n))
	copy(entry.MessageID[:], fmt.Sprint("message ", n))
	return entry
}

// write writes one mailbox at an offset of generation 1.
func write(t *testing.T, s persistence.Store, shard uint32, m persistence.MailboxWrite) {
	t.Helper()
	check(t, s.Write(testContext(t), shard, persistence.Batch{Highest: m.Position, Mailboxes: []persistence.MailboxWrite{m}}))
}

func mustLoad(t *testing.T, s persistence.Store, shard uint32, mailbox string) *persistence.Mailbox {
	t.Helper()
	m, err := s.Load(testContext(t), shard, mailbox, 1000)
	check(t, err)
	sortMailbox(m)
	return m
}

func sortMailbox(m *persistence.Mailbox) {
	slices.SortFunc(m.Sources, func(a, b persistence.Source) int { return strings.Compare(a.Mailbox, b.Mailbox) })
	slices.SortFunc(m.Parts, func(a, b persistence.Part) int { return strings.Compare(a.Key, b.Key) })
	slices.SortFunc(m.Dedup, func(a, b persistence.DedupEntry) int {
		return strings.Compare(string(a.Key[:]), string(b.Key[:]))
	})
}

func wantState(t *testing.T, s persistence.Store, shard uint32, mailbox string, position persistence.Position, state string) {
	t.Helper()
	m := mustLoad(t, s, shard, mailbox)
	if m.Position != position || string(m.State) != state {
		t.Fatalf("state of %q is %q at %v, want %q at %v", mailbox, m.State, m.Position, state, position)
	}
}

func wantRows(t *testing.T, s persistence.Store, shard uint32, mailbox string, want []persistence.Row) {
	t.Helper()
	got, err := s.Operations(testContext(t), shard, mailbox, 0, persistence.MaxRevision, math.MaxInt, math.MaxInt)
	check(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("rows of %q (-want +got):\n%s", mailbox, diff)
	}
}

func conversation(t *testing.T, s persistence.Store, shard uint32, mailbox, peer string) []int64 {
	t.Helper()
	rows, err := s.Conversation(testContext(t), shard, mailbox, peer, persistence.MaxRevision, math.MaxInt, math.MaxInt)
	check(t, err)
	return revisions(rows)
}

func revisions(rows []persistence.Row) []int64 {
	var revisions []int64
	for _, row := range rows {
		revisions = append(revisions, row.Revision)
	}
	return revisions
}

func storeLoads(t *testing.T, s *StoreInstance) {
	m := persistence.MailboxWrite{
		Mailbox:  "alice",
		Position: persistence.Position{Generation: 3, Offset: 1 << 40},
		State:    []byte{0, 1, 2, 255},
		Rows:     rows(1, 3, "bob"),
		Dedup:    []persistence.DedupEntry{dedup(1, someDay, 7), dedup(2, someDay+5, 8)},
		Sources:  []persistence.Source{{Mailbox: "bob", Position: at(5)}, {Mailbox: "carol", Position: persistence.Position{Generation: math.MaxUint32, Offset: math.MaxInt64}}},
		Parts:    []persistence.Part{part("contact", 5, "carol"), part("settings", 6, "\x00\xff")},
	}
	write(t, s, 2, m)
	want := &persistence.Mailbox{
		Position: m.Position, State: m.State, Dedup: m.Dedup, DedupComplete: true, Sources: m.Sources,
		Parts: []persistence.Part{loaded("contact", "carol"), loaded("settings", "\x00\xff")},
	}
	if diff := cmp.Diff(want, mustLoad(t, s, 2, "alice")); diff != "" {
		t.Fatalf("loaded mailbox (-want +got):\n%s", diff)
	}
	wantRows(t, s, 2, "alice", m.Rows)
	write(t, s, 2, persistence.MailboxWrite{Mailbox: "empty", Position: at(0)})
	if m := mustLoad(t, s, 2, "empty"); m.Position != at(0) || len(m.State) != 0 || !m.DedupComplete {
		t.Fatalf("an empty mailbox is loaded as %+v", m)
	}
}

func storeCopies(t *testing.T, s *StoreInstance) {
	state, data, content := []byte("state"), []byte("data"), []byte("part")
	write(t, s, 0, persistence.MailboxWrite{
		Mailbox: "a", Position: at(1), State: state, Rows: []persistence.Row{{Revision: 1, Data: data}},
		Parts: []persistence.Part{{Key: "p", Position: at(1), Data: content}},
	})
	copy(state, "XXXXX")
	copy(data, "XXXX")
	copy(content, "XXXX")
	copy(mustLoad(t, s, 0, "a").State, "YYYYY")
	copy(mustLoad(t, s, 0, "a").Parts[0].Data, "YYYY")
	if got := mustLoad(t, s, 0, "a").Parts[0].Data; string(got) != "part" {
		t.Fatalf("part is %q", got)
	}
	wantState(t, s, 0, "a", at(1), "state")
	wantRows(t, s, 0, "a", []persistence.Row{{Revision: 1, Data: []byte("data")}})
}

func storeForwardOnly(t *testing.T, s *StoreInstance) {
	newer := persistence.MailboxWrite{Mailbox: "a", Position: at(10), State: []byte("ten"), Rows: rows(1, 5, "b"), First: 3}
	write(t, s, 0, newer)
	for _, older := range []persistence.Position{at(9), at(0), {}, at(10)} {
		write(t, s, 0, persistence.MailboxWrite{
			Mailbox: "a", Position: older, State: []byte("other"), Rows: rows(1, 2, "c"),
			Sources: []persistence.Source{{Mailbox: "c", Position: at(1)}},
			Dedup:   []persistence.DedupEntry{dedup(1, someDay, 1)},
			Parts:   []persistence.Part{{Key: "p", Position: older, Data: []byte("other")}},
		})
	}
	wantState(t, s, 0, "a", at(10), "ten")
	wantRows(t, s, 0, "a", rows(3, 5, "b"))
	if m := mustLoad(t, s, 0, "a"); len(m.Sources)+len(m.Dedup)+len(m.Parts) != 0 {
		t.Fatalf("an older write left %+v", m)
	}
	next := persistence.Position{Generation: 2, Offset: 4} // a generation comes before any offset
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: next, State: []byte("second generation")})
	wantState(t, s, 0, "a", next, "second generation")
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(1000), State: []byte("first generation")})
	wantState(t, s, 0, "a", next, "second generation")
}

func storeIdempotent(t *testing.T, s *StoreInstance) {
	m := persistence.MailboxWrite{
		Mailbox: "a", Position: at(10), State: []byte("ten"), Rows: rows(1, 5, "b"), First: 2,
		Dedup:   []persistence.DedupEntry{dedup(1, someDay, 3)},
		Sources: []persistence.Source{{Mailbox: "c", Position: at(1)}},
	}
	write(t, s, 0, m)
	once := mustLoad(t, s, 0, "a")
	for range 3 {
		write(t, s, 0, m)
	}
	if diff := cmp.Diff(once, mustLoad(t, s, 0, "a")); diff != "" {
		t.Fatalf("writing a batch again changed (-once +again):\n%s", diff)
	}
	wantRows(t, s, 0, "a", rows(2, 5, "b"))
	if got := conversation(t, s, 0, "a", "b"); !slices.Equal(got, []int64{5, 4, 3, 2}) {
		t.Fatalf("conversation holds %v", got)
	}
}

func storeBatchOnce(t *testing.T, s *StoreInstance) {
	twice := persistence.Batch{Highest: at(2), Mailboxes: []persistence.MailboxWrite{{Mailbox: "a", Position: at(1)}, {Mailbox: "b", Position: at(1)}, {Mailbox: "a", Position: at(2)}}}
	if err := s.Write(testContext(t), 0, twice); err == nil {
		t.Fatal("a batch with a mailbox twice was written")
	}
	if _, err := s.Load(testContext(t), 0, "b", 1); !errors.Is(err, persistence.ErrNotFound) {
		t.Fatalf("a part of a batch that was refused is there: %v", err)
	}
}

func storeSources(t *testing.T, s *StoreInstance) {
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(1), Sources: []persistence.Source{{Mailbox: "b", Position: at(1)}, {Mailbox: "c", Position: at(2)}}})
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(2), Sources: []persistence.Source{{Mailbox: "b", Position: at(9)}, {Mailbox: "d", Position: at(3)}}})
	// An owner that was overtaken by another, and lost its mailbox in between,
	// joins what it took before the other to what it took after.
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(3), Sources: []persistence.Source{{Mailbox: "b", Position: at(8)}, {Mailbox: "d", Position: at(4)}}})
	want := []persistence.Source{{Mailbox: "b", Position: at(9)}, {Mailbox: "c", Position: at(2)}, {Mailbox: "d", Position: at(4)}}
	if diff := cmp.Diff(want, mustLoad(t, s, 0, "a").Sources); diff != "" {
		t.Fatalf("sources (-want +got):\n%s", diff)
	}
}

func part(key string, offset int64, data string) persistence.Part {
	return persistence.Part{Key: key, Position: at(offset), Data: []byte(data)}
}

// loaded is a part as it comes back.
func loaded(key, data string) persistence.Part {
	return persistence.Part{Key: key, Data: []byte(data)}
}

// partSteps are writes to a mailbox's parts, with what is loaded after each.
// Where the position of a part lies at or below that of the state before, the
// writer was overtaken by another owner, and lost its mailbox in between.
func partSteps() []struct {
	offset        int64
	written, want []persistence.Part
} {
	return []struct {
		offset        int64
		written, want []persistence.Part
	}{
		{1, []persistence.Part{part("a", 1, "a1"), part("b", 1, "b1")}, []persistence.Part{loaded("a", "a1"), loaded("b", "b1")}},
		{2, nil, []persistence.Part{loaded("a", "a1"), loaded("b", "b1")}},
		{5, []persistence.Part{part("a", 4, "a4"), part("c", 5, "c5")}, []persistence.Part{loaded("a", "a4"), loaded("b", "b1"), loaded("c", "c5")}},
		{7, []persistence.Part{part("b", 6, ""), part("d", 7, "")}, []persistence.Part{loaded("a", "a4"), loaded("c", "c5")}},
		{8, []persistence.Part{part("a", 3, "a3"), part("b", 5, "b5"), part("c", 8, "c8")}, []persistence.Part{loaded("a", "a4"), loaded("c", "c8")}},
		{8, []persistence.Part{part("a", 8, "other")}, []persistence.Part{loaded("a", "a4"), loaded("c", "c8")}},
		{10, []persistence.Part{part("b", 9, "b9"), part("c", 9, "c9"), part("c", 10, "")}, []persistence.Part{loaded("a", "a4"), loaded("b", "b9")}},
		{12, []persistence.Part{part("c", 11, ""), part("c", 12, "c12")}, []persistence.Part{loaded("a", "a4"), loaded("b", "b9"), loaded("c", "c12")}},
	}
}

func storeParts(t *testing.T, s *StoreInstance) {
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "other", Position: at(1), Parts: []persistence.Part{part("a", 1, "other")}})
	for i, step := range partSteps() {
		write(t, s, 0, persistence.MailboxWrite{Mailbox: "alice", Position: at(step.offset), State: []byte{byte(i)}, Parts: step.written})
		if diff := cmp.Diff(step.want, mustLoad(t, s, 0, "alice").Parts); diff != "" {
			t.Fatalf("parts after write %d (-want +got):\n%s", i, diff)
		}
	}
	if diff := cmp.Diff([]persistence.Part{loaded("a", "other")}, mustLoad(t, s, 0, "other").Parts); diff != "" {
		t.Fatalf("parts of the other mailbox (-want +got):\n%s", diff)
	}
}

func storeOperations(t *testing.T, s *StoreInstance) {
	all := rows(1, 300, "b")
	for i := range all {
		all[i].Data = make([]byte, 100)
	}
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(1), Rows: all[:100]})
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(2), Rows: all[100:]})
	for _, page := range []struct {
		after, upTo     int64
		limit, maxBytes int
		from, to        int64 // to < from: none
	}{
		{0, persistence.MaxRevision, 1000, 1 << 20, 1, 300},
		{0, 10, 1000, 1 << 20, 1, 10},
		{10, 20, 1000, 1 << 20, 11, 20},
		{298, persistence.MaxRevision, 1000, 1 << 20, 299, 300},
		{300, persistence.MaxRevision, 1000, 1 << 20, 1, 0},
		{20, 20, 1000, 1 << 20, 1, 0},
		{20, 10, 1000, 1 << 20, 1, 0},
		{-5, 3, 1000, 1 << 20, 1, 3},
		{100, persistence.MaxRevision, 7, 1 << 20, 101, 107},
		{100, persistence.MaxRevision, 0, 1 << 20, 1, 0},
		{100, persistence.MaxRevision, 1000, 0, 101, 101},
		{100, persistence.MaxRevision, 1000, 99, 101, 101},
		{100, persistence.MaxRevision, 1000, 250, 101, 102},
		{persistence.MaxRevision, persistence.MaxRevision, 10, 10, 1, 0},
	} {
		got, err := s.Operations(testContext(t), 0, "a", page.after, page.upTo, page.limit, page.maxBytes)
		check(t, err)
		if diff := cmp.Diff(revisions(rows(page.from, page.to, "")), revisions(got)); diff != "" {
			t.Errorf("page %+v (-want +got):\n%s", page, diff)
		}
	}
	if got, err := s.Operations(testContext(t), 0, "unknown", 0, 10, 10, 10); err != nil || len(got) != 0 {
		t.Errorf("an unknown mailbox has %d rows, error %v", len(got), err)
	}
}

func storeFirst(t *testing.T, s *StoreInstance) {
	var mixed []persistence.Row
	for revision := range int64(200) {
		mixed = append(mixed, row(revision+1, []string{"b", "c", ""}[revision%3]))
	}
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "other", Position: at(1), Rows: mixed})
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(1), Rows: mixed[:150]})
	for offset, first := range []int64{0, 1, 3, 4, 120, 50, 151} {
		write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(int64(offset) + 2), First: first})
		kept := map[int64]int64{0: 1, 1: 1, 50: 120}[first]
		if kept == 0 {
			kept = first
		}
		wantRows(t, s, 0, "a", append([]persistence.Row(nil), mixed[kept-1:150]...))
		for _, peer := range []string{"b", "c"} {
			for _, revision := range conversation(t, s, 0, "a", peer) {
				if revision < kept {
					t.Fatalf("the conversation with %s holds revision %d, below %d", peer, revision, kept)
				}
			}
		}
	}
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(100), First: 170, Rows: mixed[150:]})
	wantRows(t, s, 0, "a", mixed[169:])
	wantRows(t, s, 0, "other", mixed)
}

func storeConversation(t *testing.T, s *StoreInstance) {
	var mixed []persistence.Row
	for revision := range int64(90) {
		mixed = append(mixed, persistence.Row{Revision: revision + 1, Peer: []string{"b", "bb", ""}[revision%3], Data: make([]byte, 100)})
	}
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(1), Rows: mixed})
	for _, page := range []struct {
		peer            string
		before          int64
		limit, maxBytes int
		want            []int64
	}{
		{"b", persistence.MaxRevision, 3, 1 << 20, []int64{88, 85, 82}},
		{"bb", persistence.MaxRevision, 3, 1 << 20, []int64{89, 86, 83}},
		{"b", 88, 2, 1 << 20, []int64{85, 82}},
		{"b", 89, 1, 1 << 20, []int64{88}},
		{"b", 7, 10, 1 << 20, []int64{4, 1}},
		{"b", 1, 10, 1 << 20, nil},
		{"b", 0, 10, 1 << 20, nil},
		{"b", -1, 10, 1 << 20, nil},
		{"b", 88, 10, 0, []int64{85}},
		{"b", 88, 10, 250, []int64{85, 82}},
		{"b", 88, 0, 1 << 20, nil},
		{"unknown", persistence.MaxRevision, 10, 1 << 20, nil},
		{"", persistence.MaxRevision, 10, 1 << 20, nil},
	} {
		got, err := s.Conversation(testContext(t), 0, "a", page.peer, page.before, page.limit, page.maxBytes)
		check(t, err)
		if !slices.Equal(revisions(got), page.want) {
			t.Errorf("page %+v holds %v", page, revisions(got))
		}
		for _, row := range got {
			if row.Peer != page.peer || len(row.Data) != 100 {
				t.Errorf("page %+v holds row %d of %q with %d bytes", page, row.Revision, row.Peer, len(row.Data))
			}
		}
	}
}

func storeOddNames(t *testing.T, s *StoreInstance) {
	want := map[string][]persistence.Row{}
	for i, mailbox := range oddNames {
		for k, peer := range oddNames {
			want[mailbox] = append(want[mailbox], row(int64(k+1), peer))
		}
		write(t, s, 1, persistence.MailboxWrite{
			Mailbox: mailbox, Position: at(int64(i)), State: []byte(mailbox), Rows: want[mailbox],
			Dedup:   []persistence.DedupEntry{dedup(i, someDay, 0)},
			Sources: []persistence.Source{{Mailbox: mailbox, Position: at(int64(i))}},
			Parts:   []persistence.Part{{Key: "p" + mailbox, Position: at(int64(i)), Data: []byte("part of " + mailbox)}},
		})
	}
	for i, mailbox := range oddNames {
		wantState(t, s, 1, mailbox, at(int64(i)), mailbox)
		wantRows(t, s, 1, mailbox, want[mailbox])
		loaded := mustLoad(t, s, 1, mailbox)
		if len(loaded.Dedup) != 1 || loaded.Dedup[0].Key != key(i) {
			t.Errorf("mailbox %q has the dedup entries %v", mailbox, loaded.Dedup)
		}
		if diff := cmp.Diff([]persistence.Source{{Mailbox: mailbox, Position: at(int64(i))}}, loaded.Sources); diff != "" {
			t.Errorf("mailbox %q has the sources (-want +got):\n%s", mailbox, diff)
		}
		if diff := cmp.Diff([]persistence.Part{{Key: "p" + mailbox, Data: []byte("part of " + mailbox)}}, loaded.Parts); diff != "" {
			t.Errorf("mailbox %q has the parts (-want +got):\n%s", mailbox, diff)
		}
		for k, peer := range oddNames {
			if got := conversation(t, s, 1, mailbox, peer); !slices.Equal(got, []int64{int64(k + 1)}) {
				t.Errorf("conversation of %q with %q holds %v, want %d", mailbox, peer, got, k+1)
			}
		}
	}
}

func storeShardsApart(t *testing.T, s *StoreInstance) {
	for shard := range uint32(Shards) {
		write(t, s, shard, persistence.MailboxWrite{Mailbox: "a", Position: at(int64(shard)), State: fmt.Append(nil, shard), Rows: rows(1, int64(shard)+1, "b")})
	}
	for shard := range uint32(Shards) {
		wantState(t, s, shard, "a", at(int64(shard)), fmt.Sprint(shard))
		wantRows(t, s, shard, "a", rows(1, int64(shard)+1, "b"))
		if got := len(conversation(t, s, shard, "a", "b")); got != int(shard)+1 {
			t.Errorf("conversation in shard %d holds %d rows, want %d", shard, got, shard+1)
		}
	}
}
