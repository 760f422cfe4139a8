package persisttest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence"
)

// newestOf returns the newest rows that a cache has.
func newestOf(t *testing.T, c *CacheInstance, mailbox string, before int64, limit int) []persistence.Row {
	t.Helper()
	repairer, ok := c.Cache.(persistence.CacheRepairer)
	if !ok {
		t.Fatalf("%T cannot be mended", c.Cache)
	}
	rows, err := repairer.Newest(t.Context(), 0, mailbox, before, limit)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func cacheNewest(t *testing.T, c *CacheInstance) {
	if rows := newestOf(t, c, "bob", 10, 10); len(rows) != 0 {
		t.Errorf("an empty cache has %v", rows)
	}
	mark := begin(t, c, 0, persistence.Position{})
	put(t, c, mark, 1, persistence.MailboxWrite{Mailbox: "bob", Position: at(1), State: []byte("s"), Rows: rows(3, 9, "p")})
	for _, test := range []struct {
		before int64
		limit  int
		want   []persistence.Row
	}{
		{persistence.MaxRevision, 2, []persistence.Row{row(9, "p"), row(8, "p")}},
		{5, 9, []persistence.Row{row(4, "p"), row(3, "p")}},
		{3, 9, nil},
		{1, 9, nil},
		{9, 0, nil},
	} {
		if diff := cmp.Diff(test.want, newestOf(t, c, "bob", test.before, test.limit), equateEmptyRows); diff != "" {
			t.Errorf("before %d, at most %d: %s", test.before, test.limit, diff)
		}
	}
}

var equateEmptyRows = cmp.FilterValues(func(a, b []persistence.Row) bool { return len(a)+len(b) == 0 }, cmp.Comparer(func(_, _ []persistence.Row) bool { return true }))

func cacheDrop(t *testing.T, c *CacheInstance) {
	repairer, ok := c.Cache.(persistence.CacheRepairer)
	if !ok {
		t.Fatalf("%T cannot be mended", c.Cache)
	}
	if err := repairer.Drop(t.Context(), 0, "bob"); err != nil {
		t.Errorf("nothing to drop: %v", err)
	}
	mark := begin(t, c, 0, at(1))
	for _, name := range []string{"bob", "bobby"} {
		fill(t, c, mark, name, stored(1, "state of "+name))
	}
	mark = put(t, c, mark, 2, persistence.MailboxWrite{Mailbox: "bob", Position: at(2), State: []byte("s"), Rows: rows(1, 2, "p")})
	if err := repairer.Drop(t.Context(), 0, "bob"); err != nil {
		t.Fatal(err)
	}
	wantNoCopy(t, c, 0, "bob")
	wantCopy(t, c, 0, "bobby", stored(1, "state of bobby"))
	if rows := newestOf(t, c, "bob", 10, 10); len(rows) != 0 {
		t.Errorf("dropped, and there: %v", rows)
	}
	put(t, c, mark, 3, persistence.MailboxWrite{Mailbox: "bob", Position: at(3), State: []byte("s"), Rows: rows(3, 3, "p")})
	wantNoCopy(t, c, 0, "bob")
}
