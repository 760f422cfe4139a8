package persisttest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence"
)

// Repairer runs the contract of a store that can be read as it lies and mended.
// open returns one with a shard that is empty, and closes it when the test ends.
func Repairer(t *testing.T, open func(t *testing.T) (persistence.Repairer, uint32)) {
	for _, property := range []struct {
		name string
		test func(t *testing.T, s persistence.Repairer, shard uint32)
	}{
		{"a scan visits all, mailbox by mailbox", scanVisitsAll},
		{"a scan ends with the visitor's error", scanEnds},
		{"a scan leaves out what is below First", scanFirst},
		{"a repair puts, removes and replaces", repairChanges},
		{"a repair gives way to later writes", repairGivesWay},
	} {
		t.Run(property.name, func(t *testing.T) {
			s, shard := open(t)
			property.test(t, s, shard)
		})
	}
}

// lying is what lies in a store of one mailbox.
type lying struct {
	Position persistence.Position
	State    string
	Parts    []persistence.Part
	Sources  []persistence.Source
	Dedup    int
	Rows     []persistence.Row
	// Places are rows without data.
	Places []persistence.Row
}

func (l *lying) take(item *persistence.Item) error {
	row := item.Row
	row.Data = slices.Clone(row.Data)
	switch item.Kind {
	case persistence.ItemState:
		l.Position, l.State = item.Position, string(item.State)
	case persistence.ItemPart:
		item.Part.Data = slices.Clone(item.Part.Data)
		l.Parts = append(l.Parts, item.Part)
	case persistence.ItemSource:
		l.Sources = append(l.Sources, item.Source)
	case persistence.ItemDedup:
		l.Dedup++
	case persistence.ItemRow:
		l.Rows = append(l.Rows, row)
	case persistence.ItemPlace:
		row.Data = nil
		l.Places = append(l.Places, row)
	}
	return item.Err
}

// lyingIn scans a shard, and fails when the items of a mailbox are not together
// and in the order of their kinds.
func lyingIn(t *testing.T, s persistence.Repairer, shard uint32) (names []string, all map[string]*lying) {
	t.Helper()
	all = map[string]*lying{}
	last := persistence.ItemState
	err := s.Scan(t.Context(), shard, func(item *persistence.Item) error {
		l := all[item.Mailbox]
		if l == nil {
			l = &lying{}
			all[item.Mailbox] = l
			names = append(names, item.Mailbox)
			last = persistence.ItemState
		}
		if names[len(names)-1] != item.Mailbox || item.Kind < last {
			return fmt.Errorf("%q, kind %d after %d of %q", item.Mailbox, item.Kind, last, names[len(names)-1])
		}
		last = item.Kind
		return l.take(item)
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, all
}

func lyingOf(t *testing.T, s persistence.Repairer, shard uint32, mailbox string) *lying {
	t.Helper()
	l := &lying{}
	err := s.ScanMailbox(t.Context(), shard, mailbox, func(item *persistence.Item) error {
		if item.Mailbox != mailbox {
			return fmt.Errorf("an item of %q", item.Mailbox)
		}
		return l.take(item)
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func writeShard(t *testing.T, s persistence.Store, shard uint32, offset int64, mailboxes ...persistence.MailboxWrite) {
	t.Helper()
	err := s.Write(t.Context(), shard, persistence.Batch{Highest: at(offset), Checkpoint: at(offset), Mailboxes: mailboxes})
	if err != nil {
		t.Fatal(err)
	}
}

func withoutData(rows []persistence.Row) []persistence.Row {
	bare := slices.Clone(rows)
	for i := range bare {
		bare[i].Data = nil
	}
	return bare
}

func scanVisitsAll(t *testing.T, s persistence.Repairer, shard uint32) {
	names := slices.Concat(oddNames, []string{"large"})
	for i, name := range names {
		n := int64(3)
		if name == "large" {
			n = 5000 // more than a page
		}
		writeShard(t, s, shard, int64(i+1), persistence.MailboxWrite{
			Mailbox: name, Position: at(int64(i + 1)), State: []byte("state of " + name), Rows: rows(1, n, "peer"),
			Dedup:   []persistence.DedupEntry{dedup(1, someDay, 1), dedup(2, someDay+day, 1)},
			Sources: []persistence.Source{{Mailbox: "x", Position: at(7)}, {Mailbox: "y", Position: at(8)}},
			Parts:   []persistence.Part{part("a"+name, int64(i+1), "of "+name), part("b", int64(i+1), ""), part("c", int64(i+1), "\x00")},
		})
	}
	seen, all := lyingIn(t, s, shard)
	if slices.Sort(seen); !slices.Equal(seen, slices.Sorted(slices.Values(names))) {
		t.Fatalf("visited %q", seen)
	}
	for i, name := range names {
		n := int64(3)
		if name == "large" {
			n = 5000
		}
		want := &lying{
			Position: at(int64(i + 1)), State: "state of " + name, Dedup: 2,
			Parts:   []persistence.Part{loaded("a"+name, "of "+name), loaded("c", "\x00")},
			Sources: []persistence.Source{{Mailbox: "x", Position: at(7)}, {Mailbox: "y", Position: at(8)}},
			Rows:    rows(1, n, "peer"), Places: withoutData(rows(1, n, "peer")),
		}
		for _, got := range []*lying{all[name], lyingOf(t, s, shard, name)} {
			slices.SortFunc(got.Parts, func(a, b persistence.Part) int { return strings.Compare(a.Key, b.Key) })
			slices.SortFunc(got.Places, func(a, b persistence.Row) int { return int(a.Revision - b.Revision) })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%q: %s", name, diff)
			}
		}
	}
}

func scanEnds(t *testing.T, s persistence.Repairer, shard uint32) {
	writeShard(t, s, shard, 1, persistence.MailboxWrite{Mailbox: "bob", Position: at(1), State: []byte("s"), Rows: rows(1, 9, "p")})
	enough, visited := errors.New("enough"), 0
	err := s.Scan(t.Context(), shard, func(*persistence.Item) error {
		if visited++; visited == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || visited != 3 {
		t.Errorf("%v after %d", err, visited)
	}
}

func scanFirst(t *testing.T, s persistence.Repairer, shard uint32) {
	writeShard(t, s, shard, 1, persistence.MailboxWrite{Mailbox: "bob", Position: at(1), State: []byte("s"), Rows: rows(1, 9, "p")})
	writeShard(t, s, shard, 2, persistence.MailboxWrite{Mailbox: "bob", Position: at(2), State: []byte("s"), First: 4})
	got := lyingOf(t, s, shard, "bob")
	if len(got.Rows) != 6 || len(got.Places) != 6 || got.Rows[0].Revision != 4 {
		t.Errorf("%+v", got)
	}
}

func repairChanges(t *testing.T, s persistence.Repairer, shard uint32) {
	const user = "bob"
	writeShard(t, s, shard, 5, persistence.MailboxWrite{
		Mailbox: user, Position: at(5), State: []byte("s"), Rows: rows(1, 5, "peer"), Dedup: []persistence.DedupEntry{dedup(1, someDay, 1)},
		Parts: []persistence.Part{part("a", 4, "a"), part("b", 5, "b"), part("c", 5, "c")},
	})
	another := row(4, "other")
	err := s.Repair(t.Context(), shard, persistence.Repair{
		Mailbox: user, Through: at(5), State: []byte("older"), Position: at(3),
		Remove: []int64{2}, Places: []persistence.Row{row(2, "peer"), row(4, "peer")}, Rows: []persistence.Row{another},
		Dedup: []persistence.DedupEntry{dedup(2, someDay, 1)}, Sources: []persistence.Source{{Mailbox: "x", Position: at(7)}},
		Parts: []persistence.Part{loaded("b", "older"), loaded("c", ""), loaded("d", "new")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &lying{
		Position: at(3), State: "older", Dedup: 2, Parts: []persistence.Part{loaded("a", "a"), loaded("b", "older"), loaded("d", "new")}, Sources: []persistence.Source{{Mailbox: "x", Position: at(7)}},
		Rows: []persistence.Row{row(1, "peer"), row(3, "peer"), another, row(5, "peer")},
	}
	want.Places = withoutData(want.Rows)
	got := lyingOf(t, s, shard, user)
	slices.SortFunc(got.Places, func(a, b persistence.Row) int { return int(a.Revision - b.Revision) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if loaded, err := s.Load(t.Context(), shard, user, 100); err != nil || string(loaded.State) != "older" || len(loaded.Sources) != 1 || len(loaded.Parts) != 3 {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
}

func repairGivesWay(t *testing.T, s persistence.Repairer, shard uint32) {
	const user = "bob"
	writeShard(t, s, shard, 5, persistence.MailboxWrite{
		Mailbox: user, Position: at(5), State: []byte("s"), Rows: rows(1, 5, "peer"), Parts: []persistence.Part{part("a", 5, "five"), part("b", 5, "five")},
	})
	err := s.Repair(t.Context(), shard, persistence.Repair{
		Mailbox: user, Through: at(5), State: []byte("mended"), Position: at(5), Remove: []int64{6}, Places: []persistence.Row{row(6, "peer")},
		Parts: []persistence.Part{loaded("a", "mended"), loaded("b", "")},
	})
	if err != nil {
		t.Fatal(err)
	}
	writeShard(t, s, shard, 6, persistence.MailboxWrite{Mailbox: user, Position: at(6), State: []byte("next"), Rows: rows(6, 6, "peer"), Parts: []persistence.Part{part("a", 6, ""), part("b", 6, "six")}})
	got := lyingOf(t, s, shard, user)
	if diff := cmp.Diff([]persistence.Part{loaded("b", "six")}, got.Parts); diff != "" {
		t.Error(diff)
	}
	if got.State != "next" || got.Position != at(6) || len(got.Rows) != 6 || len(got.Places) != 6 {
		t.Errorf("%+v", got)
	}
}
