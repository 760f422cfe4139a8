package persisttest

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence"
)

// Cache runs the contract of a cache. open returns an empty one, which it
// closes when the test ends.
func Cache(t *testing.T, open func(t *testing.T) *CacheInstance) {
	for _, property := range []struct {
		name string
		test func(t *testing.T, c *CacheInstance)
	}{
		{"an empty cache has no mark, no copies and no rows", cacheEmpty},
		{"a filling starts empty at its watermark", cacheBegin},
		{"what an earlier filling left is not read", cacheFillingsApart},
		{"without a filling nothing is written", cacheNoFilling},
		{"a mark that has moved refuses writes and fills", cacheMarkMoved},
		{"of two writers with one mark one writes", cacheTwoWriters},
		{"each write moves the mark, and the watermark only forward", cacheWatermark},
		{"a load asks for a watermark", cacheNotBelow},
		{"a cache that was set back shows it", cacheSetBack},
		{"a cache that was emptied shows it", cacheEmptied},
		{"a mailbox that was handed over is loaded", cacheFill},
		{"a copy follows the writes", cacheFollows},
		{"a mailbox that the store does not have begins with its first write", cacheFillNil},
		{"an incomplete mailbox is not kept", cacheFillIncomplete},
		{"a copy is handed over once", cacheFillOnce},
		{"of a mailbox without a copy only the rows are kept", cacheRowsOnly},
		{"a state only moves forward", cacheForwardOnly},
		{"sources keep their newest position", cacheSources},
		{"parts are of the state's position", cacheParts},
		{"a batch may be written again", cacheAgain},
		{"a mailbox is in a batch once", cacheBatchOnce},
		{"a load holds all dedup entries or nothing", cacheDedupComplete},
		{"a load holds the dedup entries of a day at least", cacheDedupDays},
		{"operations come in order, by page", cacheOperations},
		{"operations have no gap", cacheDense},
		{"operations of an older generation are not read", cacheGenerations},
		{"rows below First are gone and stay so", cacheFirst},
		{"the caller may reuse its slices", cacheCopies},
		{"the newest rows come newest first", cacheNewest},
		{"what is dropped is gone", cacheDrop},
		{"names do not mix, however odd", cacheOddNames},
		{"shards do not mix", cacheShardsApart},
		{"a batch of 512 records in 300 mailboxes is written", cacheLargeBatch},
		{"a closed cache says so", cacheClosed},
		{"an ended context ends a call", cacheContext},
	} {
		t.Run(property.name, func(t *testing.T) { property.test(t, open(t)) })
	}
}

func begin(t *testing.T, c persistence.Cache, shard uint32, watermark persistence.Position) persistence.CacheMark {
	t.Helper()
	mark, err := c.Begin(testContext(t), shard, watermark)
	check(t, err)
	if mark.Fill == "" || mark.Watermark != watermark {
		t.Fatalf("a filling that begins at %v has the mark %v", watermark, mark)
	}
	return mark
}

// put writes mailboxes and moves the watermark to an offset of generation 1.
func put(t *testing.T, c persistence.Cache, from persistence.CacheMark, offset int64, mailboxes ...persistence.MailboxWrite) persistence.CacheMark {
	t.Helper()
	mark, err := c.Write(testContext(t), 0, from, at(offset), mailboxes)
	check(t, err)
	return mark
}

func fill(t *testing.T, c persistence.Cache, from persistence.CacheMark, mailbox string, m *persistence.Mailbox) {
	t.Helper()
	check(t, c.Fill(testContext(t), 0, from, mailbox, m))
}

func wantMark(t *testing.T, c persistence.Cache, shard uint32, want persistence.CacheMark) {
	t.Helper()
	got, err := c.Mark(testContext(t), shard)
	check(t, err)
	if got != want {
		t.Fatalf("the mark of shard %d is %v, want %v", shard, got, want)
	}
}

func wantCopy(t *testing.T, c persistence.Cache, shard uint32, mailbox string, want *persistence.Mailbox) {
	t.Helper()
	got, err := c.Load(testContext(t), shard, mailbox, 1000, persistence.Position{})
	check(t, err)
	sortMailbox(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("copy of %q (-want +got):\n%s", mailbox, diff)
	}
}

func wantNoCopy(t *testing.T, c persistence.Cache, shard uint32, mailbox string) {
	t.Helper()
	if m, err := c.Load(testContext(t), shard, mailbox, 1000, persistence.Position{}); !errors.Is(err, persistence.ErrNotFound) {
		t.Fatalf("loading %q returns %+v, error %v, want ErrNotFound", mailbox, m, err)
	}
}

// wantCached checks that the cache holds just these rows.
func wantCached(t *testing.T, c persistence.Cache, shard uint32, mailbox string, want []persistence.Row) {
	t.Helper()
	if len(want) > 0 {
		got, err := c.Operations(testContext(t), shard, mailbox, 0, want[0].Revision-1, persistence.MaxRevision, math.MaxInt, math.MaxInt)
		check(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("rows of %q (-want +got):\n%s", mailbox, diff)
		}
	}
	held := map[int64]bool{}
	highest := int64(0)
	for _, row := range want {
		held[row.Revision] = true
		highest = row.Revision
	}
	wantNotCached(t, c, shard, mailbox, highest)
	for after := range highest {
		if !held[after+1] {
			wantNotCached(t, c, shard, mailbox, after)
		}
	}
}

func wantNotCached(t *testing.T, c persistence.Cache, shard uint32, mailbox string, after int64) {
	t.Helper()
	if rows, err := c.Operations(testContext(t), shard, mailbox, 0, after, persistence.MaxRevision, 10, 1000); !errors.Is(err, persistence.ErrNotFound) {
		t.Fatalf("rows of %q after %d: %v, error %v, want ErrNotFound", mailbox, after, revisions(rows), err)
	}
}

func stored(offset int64, state string) *persistence.Mailbox {
	return &persistence.Mailbox{Position: at(offset), State: []byte(state), DedupComplete: true}
}

func cacheEmpty(t *testing.T, c *CacheInstance) {
	wantMark(t, c, 0, persistence.CacheMark{})
	wantNoCopy(t, c, 0, "a")
	wantNotCached(t, c, 0, "a", 0)
}

func cacheBegin(t *testing.T, c *CacheInstance) {
	for _, watermark := range []persistence.Position{{}, at(0), {Generation: math.MaxUint32, Offset: math.MaxInt64}} {
		mark := begin(t, c, 0, watermark)
		wantMark(t, c, 0, mark)
		wantNoCopy(t, c, 0, "a")
		wantNotCached(t, c, 0, "a", 0)
	}
}

func cacheFillingsApart(t *testing.T, c *CacheInstance) {
	first := begin(t, c, 0, at(1))
	fill(t, c, first, "a", stored(1, "one"))
	put(t, c, first, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(2), Rows: rows(1, 2, "b")})
	second := begin(t, c, 0, at(1))
	if second.Fill == first.Fill {
		t.Fatal("two fillings have one name")
	}
	wantNoCopy(t, c, 0, "a")
	wantNotCached(t, c, 0, "a", 0)
	put(t, c, second, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(3), Rows: rows(3, 3, "b")})
	wantNoCopy(t, c, 0, "a")
	wantCached(t, c, 0, "a", rows(3, 3, "b"))
}

// refused checks that neither a write nor a mailbox is taken with a mark.
func refused(t *testing.T, c persistence.Cache, from persistence.CacheMark) {
	t.Helper()
	_, err := c.Write(testContext(t), 0, from, at(1000), []persistence.MailboxWrite{
		{Mailbox: "a", Position: at(1000), State: []byte("refused"), Rows: rows(1, 1000, "refused")},
	})
	if !errors.Is(err, persistence.ErrMarkMoved) {
		t.Fatalf("a write from %v returns %v, want ErrMarkMoved", from, err)
	}
	if err := c.Fill(testContext(t), 0, from, "refused", stored(1000, "refused")); !errors.Is(err, persistence.ErrMarkMoved) {
		t.Fatalf("a fill from %v returns %v, want ErrMarkMoved", from, err)
	}
	wantNotCached(t, c, 0, "a", 500)
	wantNoCopy(t, c, 0, "refused")
}

func cacheNoFilling(t *testing.T, c *CacheInstance) {
	refused(t, c, persistence.CacheMark{})
	refused(t, c, persistence.CacheMark{Fill: "unknown", Watermark: at(1)})
	wantMark(t, c, 0, persistence.CacheMark{})
}

func cacheMarkMoved(t *testing.T, c *CacheInstance) {
	first := begin(t, c, 0, at(1))
	fill(t, c, first, "a", stored(1, "one"))
	second := put(t, c, first, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(2), State: []byte("two"), Rows: rows(1, 2, "b")})
	for _, from := range []persistence.CacheMark{
		first,
		{},
		{Watermark: second.Watermark, Write: second.Write},
		{Fill: "other", Watermark: second.Watermark, Write: second.Write},
		{Fill: second.Fill, Watermark: at(3), Write: second.Write},
		{Fill: second.Fill, Watermark: persistence.Position{Generation: 2, Offset: 2}, Write: second.Write},
		{Fill: second.Fill, Watermark: second.Watermark, Write: "other"},
	} {
		refused(t, c, from)
		wantMark(t, c, 0, second)
		wantCopy(t, c, 0, "a", stored(2, "two"))
		wantCached(t, c, 0, "a", rows(1, 2, "b"))
	}
	begin(t, c, 0, at(1))
	refused(t, c, second)
}

func cacheTwoWriters(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(0))
	const writers = 8
	ctx := testContext(t)
	errs := make(chan error, writers)
	for i := range int64(writers) {
		go func() {
			_, err := c.Write(ctx, 0, mark, at(i+1), []persistence.MailboxWrite{{Mailbox: fmt.Sprint(i), Position: at(i + 1), Rows: rows(1, 1, "b")}})
			errs <- err
		}()
	}
	written := 0
	for range writers {
		switch err := <-errs; {
		case err == nil:
			written++
		case !errors.Is(err, persistence.ErrMarkMoved):
			t.Errorf("a write returns %v", err)
		}
	}
	if written != 1 {
		t.Errorf("%d writers of one mark have written", written)
	}
}

func cacheWatermark(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(5))
	for _, watermark := range []int64{5, 4, 0} {
		same := put(t, c, mark, watermark)
		if same == mark || same.Fill != mark.Fill || same.Watermark != at(5) {
			t.Fatalf("a write to offset %d moves the mark %v to %v", watermark, mark, same)
		}
		refused(t, c, mark)
		wantMark(t, c, 0, same)
		mark = same
	}
	for _, watermark := range []persistence.Position{at(6), at(1 << 53), at(1<<53 + 1), at(math.MaxInt64), {Generation: 2}, {Generation: 10, Offset: 9}} {
		next, err := c.Write(testContext(t), 0, mark, watermark, nil)
		check(t, err)
		if next.Fill != mark.Fill || next.Watermark != watermark {
			t.Fatalf("a write to %v has the mark %v", watermark, next)
		}
		refused(t, c, mark)
		wantMark(t, c, 0, next)
		mark = next
	}
}

func cacheNotBelow(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(3))
	fill(t, c, mark, "a", stored(2, "two"))
	watermark := persistence.Position{Generation: 2, Offset: 1 << 53}
	_, err := c.Write(testContext(t), 0, mark, watermark, nil)
	check(t, err)
	for _, ask := range []struct {
		notBelow persistence.Position
		found    bool
	}{
		{persistence.Position{}, true},
		{at(math.MaxInt64), true},
		{persistence.Position{Generation: 2, Offset: 1<<53 - 1}, true},
		{watermark, true},
		{persistence.Position{Generation: 2, Offset: 1<<53 + 1}, false},
		{persistence.Position{Generation: 3}, false},
	} {
		_, err := c.Load(testContext(t), 0, "a", 10, ask.notBelow)
		if found := err == nil; found != ask.found || !found && !errors.Is(err, persistence.ErrNotFound) {
			t.Errorf("a load not below %v returns %v", ask.notBelow, err)
		}
	}
}

func cacheSetBack(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	fill(t, c, mark, "a", stored(1, "one"))
	old := put(t, c, mark, 5, persistence.MailboxWrite{Mailbox: "a", Position: at(5), State: []byte("five"), Rows: rows(1, 5, "b")})
	setBack := c.Snapshot()
	current := put(t, c, old, 9, persistence.MailboxWrite{Mailbox: "a", Position: at(9), State: []byte("nine"), Rows: rows(6, 9, "b")})
	setBack()
	wantMark(t, c, 0, old)
	refused(t, c, current)
	if _, err := c.Load(testContext(t), 0, "a", 10, at(6)); !errors.Is(err, persistence.ErrNotFound) {
		t.Fatalf("an old copy is loaded: %v", err)
	}
	wantCached(t, c, 0, "a", rows(1, 5, "b"))
	// Another owner that writes to the same watermark does not bring back the
	// mark of what was lost.
	other := put(t, c, old, 9, persistence.MailboxWrite{Mailbox: "b", Position: at(9), Rows: rows(1, 1, "b")})
	refused(t, c, current)
	wantMark(t, c, 0, other)
	setBack()
	// A filling that began after the snapshot is unknown again.
	begun := begin(t, c, 0, at(9))
	put(t, c, begun, 10, persistence.MailboxWrite{Mailbox: "a", Position: at(10), Rows: rows(10, 10, "b")})
	setBack()
	wantCached(t, c, 0, "a", rows(1, 5, "b"))
	refused(t, c, begun)
}

func cacheEmptied(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	fill(t, c, mark, "a", stored(1, "one"))
	mark = put(t, c, mark, 2, persistence.MailboxWrite{Mailbox: "a", Position: at(2), State: []byte("two"), Rows: rows(1, 2, "b")})
	c.Empty()
	refused(t, c, mark)
	cacheEmpty(t, c)
	mark = begin(t, c, 0, at(2))
	fill(t, c, mark, "a", stored(2, "two"))
	put(t, c, mark, 3, persistence.MailboxWrite{Mailbox: "a", Position: at(3), State: []byte("three"), Rows: rows(3, 3, "b")})
	wantCopy(t, c, 0, "a", stored(3, "three"))
	wantCached(t, c, 0, "a", rows(3, 3, "b"))
}
