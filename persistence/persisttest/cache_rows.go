package persisttest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence"
)

func cacheOperations(t *testing.T, c *CacheInstance) {
	all := rows(1, 300, "b")
	for i := range all {
		all[i].Data = make([]byte, 100)
	}
	mark := begin(t, c, 0, at(0))
	mark = put(t, c, mark, 1, persistence.MailboxWrite{Mailbox: "a", Position: at(1), Rows: all[:100]})
	put(t, c, mark, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(2), Rows: all[100:]})
	for _, page := range []struct {
		after, upTo     int64
		limit, maxBytes int
		from, to        int64 // to < from: none, and no error
	}{
		{0, persistence.MaxRevision, 1000, 1 << 20, 1, 300},
		{0, 10, 1000, 1 << 20, 1, 10},
		{10, 20, 1000, 1 << 20, 11, 20},
		{298, persistence.MaxRevision, 1000, 1 << 20, 299, 300},
		{20, 20, 1000, 1 << 20, 1, 0},
		{20, 10, 1000, 1 << 20, 1, 0},
		{-5, 3, 1000, 1 << 20, 1, 3},
		{100, persistence.MaxRevision, 7, 1 << 20, 101, 107},
		{100, persistence.MaxRevision, 0, 1 << 20, 1, 0},
		{100, persistence.MaxRevision, 1000, 0, 101, 101},
		{100, persistence.MaxRevision, 1000, 99, 101, 101},
		{100, persistence.MaxRevision, 1000, 250, 101, 102},
		{100, persistence.MaxRevision, 1000, 10_000, 101, 200},
		{persistence.MaxRevision, persistence.MaxRevision, 10, 10, 1, 0},
	} {
		got, err := c.Operations(testContext(t), 0, "a", 0, page.after, page.upTo, page.limit, page.maxBytes)
		check(t, err)
		if diff := cmp.Diff(revisions(rows(page.from, page.to, "")), revisions(got)); diff != "" {
			t.Errorf("page %+v (-want +got):\n%s", page, diff)
		}
	}
	for _, after := range []int64{300, 301, persistence.MaxRevision - 1} {
		wantNotCached(t, c, 0, "a", after)
	}
	wantNotCached(t, c, 0, "unknown", 0)
}

// The filling goes on with its mark, or another begins: what counts is the
// generation of the watermark.
func cacheGenerations(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(0))
	mark = put(t, c, mark, 1, persistence.MailboxWrite{Mailbox: "a", Position: at(1), Rows: rows(1, 3, "b")})
	wantRead := func(generation uint32, want bool) {
		t.Helper()
		got, err := c.Operations(testContext(t), 0, "a", generation, 0, persistence.MaxRevision, 10, 1<<20)
		if want && (err != nil || len(got) != 3) || !want && !errors.Is(err, persistence.ErrNotFound) {
			t.Fatalf("in generation %d: %d rows, %v", generation, len(got), err)
		}
	}
	wantRead(0, true)
	wantRead(1, true)
	wantRead(2, false)
	_, err := c.Write(testContext(t), 0, mark, persistence.Position{Generation: 2}, nil)
	check(t, err)
	wantRead(2, true)
	wantRead(3, false)
}

func cacheDense(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(0))
	offset := int64(0)
	for _, step := range []struct {
		what    string
		written []persistence.Row
		want    []persistence.Row
	}{
		{"rows may begin anywhere", rows(5, 8, "b"), rows(5, 8, "b")},
		{"older ones come too late", rows(1, 4, "b"), rows(5, 8, "b")},
		{"what is known is passed over", rows(7, 10, "b"), rows(5, 10, "b")},
		{"none", nil, rows(5, 10, "b")},
		{"the next one", rows(11, 11, "b"), rows(5, 11, "b")},
		{"a gap before the rows", rows(13, 14, "b"), rows(13, 14, "b")},
		{"the rows of the gap come too late", rows(12, 12, "b"), rows(13, 14, "b")},
		{"a gap within the rows", append(rows(15, 16, "b"), rows(18, 19, "b")...), rows(18, 19, "b")},
		{"an order that is none", append(rows(22, 22, "b"), rows(20, 21, "b")...), rows(18, 22, "b")},
		{"revisions of more digits", rows(23, 105, "b"), rows(18, 105, "b")},
	} {
		offset++
		mark = put(t, c, mark, offset, persistence.MailboxWrite{Mailbox: "a", Position: at(offset), Rows: step.written})
		t.Log(step.what)
		wantCached(t, c, 0, "a", step.want)
	}
	// Numbers that a double cannot tell apart.
	big := rows(1<<53+1, 1<<53+5, "b")
	put(t, c, mark, 100, persistence.MailboxWrite{Mailbox: "big", Position: at(100), Rows: big})
	got, err := c.Operations(testContext(t), 0, "big", 0, 1<<53, persistence.MaxRevision, 100, 1<<20)
	check(t, err)
	if diff := cmp.Diff(big, got); diff != "" {
		t.Fatalf("rows (-want +got):\n%s", diff)
	}
	wantNotCached(t, c, 0, "big", 1<<53-1)
	wantNotCached(t, c, 0, "big", 1<<53+5)
}

func cacheFirst(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(0))
	offset := int64(0)
	for _, step := range []struct {
		written []persistence.Row
		first   int64
		want    []persistence.Row
	}{
		{rows(1, 150, "b"), 0, rows(1, 150, "b")},
		{nil, 1, rows(1, 150, "b")},
		{nil, 3, rows(3, 150, "b")},
		{nil, 120, rows(120, 150, "b")},
		{rows(100, 151, "b"), 50, rows(120, 151, "b")},
		{rows(140, 155, "b"), 150, rows(150, 155, "b")},
		{nil, 156, nil},
		{rows(150, 156, "b"), 0, rows(156, 156, "b")},
		{nil, 170, nil},
		{rows(150, 169, "b"), 0, nil},
		{rows(160, 175, "b"), 0, rows(170, 175, "b")},
		{rows(176, 199, "b"), 180, rows(180, 199, "b")},
		{rows(200, 209, "b"), 205, rows(205, 209, "b")},
	} {
		offset++
		mark = put(t, c, mark, offset, persistence.MailboxWrite{Mailbox: "a", Position: at(offset), Rows: step.written, First: step.first})
		t.Logf("wrote %d rows, First %d", len(step.written), step.first)
		wantCached(t, c, 0, "a", step.want)
		for after := int64(140); after < 210 && len(step.want) == 0; after++ {
			wantNotCached(t, c, 0, "a", after)
		}
	}
	// Of a mailbox that the cache knows nothing of, rows below First do not come in.
	put(t, c, mark, 100, persistence.MailboxWrite{Mailbox: "new", Position: at(100), Rows: rows(1, 9, "b"), First: 5})
	wantCached(t, c, 0, "new", rows(5, 9, "b"))
}
