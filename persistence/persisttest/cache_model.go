package persisttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/persistence"
)

// CacheModel compares a cache with a naive model in random runs of calls by
// several writers, with old marks, and of a cache that is emptied or set back.
// open returns a cache that the model empties before each run.
func CacheModel(t *testing.T, open func(t *testing.T) *CacheInstance) {
	c, ctx := open(t), t.Context()
	rapid.Check(t, func(t *rapid.T) {
		c.Empty()
		run := &cacheRun{c: c, ctx: ctx, shards: map[uint32]history{}}
		t.Repeat(map[string]func(*rapid.T){
			"begin":      run.begin,
			"write":      run.write,
			"fill":       run.fill,
			"load":       run.load,
			"operations": run.operations,
			"mark":       run.readMark,
			"empty":      run.empty,
			"snapshot":   run.snapshot,
			"set back":   run.setBack,
		})
	})
}

// history is what was done to a shard's filling, in order. Nothing else is
// kept: what the cache should hold is worked out from the beginning each time.
type history struct {
	mark   persistence.CacheMark
	events []event
}

// event is a mailbox that was handed over, or written.
type event struct {
	mailbox string
	fill    bool
	m       *persistence.Mailbox // of a fill
	write   persistence.MailboxWrite
}

type cacheRun struct {
	c   *CacheInstance
	ctx context.Context //nolint:containedctx // one run is one call of rapid.Check

	shards map[uint32]history
	marks  []persistence.CacheMark // all that were seen
	// saved is what the shards were at the last snapshot.
	saved   map[uint32]history
	restore func()
	// serial numbers everything that is written, so that no two are alike.
	serial int
}

var (
	cacheShards    = []uint32{0, 0, 0, 1}
	cacheMailboxes = []string{"a", "a:c:b"}
)

func drawShard(t *rapid.T) uint32   { return rapid.SampledFrom(cacheShards).Draw(t, "shard") }
func drawMailbox(t *rapid.T) string { return rapid.SampledFrom(cacheMailboxes).Draw(t, "mailbox") }

// drawMark is the current mark mostly, or one that it was once.
func (r *cacheRun) drawMark(t *rapid.T, shard uint32) persistence.CacheMark {
	if len(r.marks) > 0 && rapid.IntRange(0, 2).Draw(t, "old mark") == 0 {
		return rapid.SampledFrom(r.marks).Draw(t, "mark")
	}
	return r.shards[shard].mark
}

func drawPosition(t *rapid.T, what string) persistence.Position {
	return persistence.Position{
		Generation: rapid.Uint32Range(1, 2).Draw(t, what+" generation"),
		Offset:     rapid.SampledFrom([]int64{0, 1 << 53}).Draw(t, what+" base") + rapid.Int64Range(0, 5).Draw(t, what+" offset"),
	}
}

// drawDedup draws entries at or below a position. A record makes one entry,
// and its time does not go back.
func (r *cacheRun) drawDedup(t *rapid.T, position persistence.Position) (entries []persistence.DedupEntry) {
	for range rapid.IntRange(0, 2).Draw(t, "dedup entries") {
		r.serial++
		entry := dedup(r.serial, timeOf(position), 0)
		entry.Position = position
		entries = append(entries, entry)
	}
	return entries
}

// timeOf is log time: it grows with the position.
func timeOf(p persistence.Position) int64 {
	time := someDay + int64(p.Generation)*20*day + (p.Offset&0xff)*8*hour
	if p.Offset >= 1<<53 {
		time += 10 * day
	}
	return time
}

func drawSources(t *rapid.T) (sources []persistence.Source) {
	for _, mailbox := range cacheMailboxes {
		if rapid.IntRange(0, 3).Draw(t, "source") == 0 {
			sources = append(sources, persistence.Source{Mailbox: mailbox, Position: drawPosition(t, "source")})
		}
	}
	return sources
}

// drawParts draws parts that changed at or below a position.
func (r *cacheRun) drawParts(t *rapid.T, position persistence.Position) (parts []persistence.Part) {
	for range rapid.IntRange(0, 3).Draw(t, "parts") {
		r.serial++
		part := persistence.Part{Key: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "part"), Position: drawPosition(t, "part's position")}
		if position.Less(part.Position) {
			part.Position = position
		}
		if rapid.IntRange(0, 3).Draw(t, "removed") > 0 {
			part.Data = fmt.Append(nil, r.serial)
		}
		parts = append(parts, part)
	}
	return parts
}

// storedParts returns parts as a store has them.
func storedParts(parts []persistence.Part) (stored []persistence.Part) {
	for _, part := range parts {
		stored = putPart(stored, part)
	}
	return stored
}

func putPart(parts []persistence.Part, part persistence.Part) []persistence.Part {
	parts = slices.DeleteFunc(slices.Clone(parts), func(p persistence.Part) bool { return p.Key == part.Key })
	if part.Position = (persistence.Position{}); len(part.Data) > 0 {
		return append(parts, part)
	}
	if len(parts) == 0 {
		return nil // as it is loaded
	}
	return parts
}

func (r *cacheRun) begin(t *rapid.T) {
	shard, watermark := drawShard(t), drawPosition(t, "watermark")
	if r.shards[shard].mark.Fill != "" && rapid.IntRange(0, 5).Draw(t, "another") > 0 {
		t.Skip("not so often")
	}
	mark, err := r.c.Begin(r.ctx, shard, watermark)
	noError(t, err)
	if mark.Watermark != watermark || slices.ContainsFunc(r.marks, func(other persistence.CacheMark) bool { return other.Fill == mark.Fill }) {
		t.Fatalf("a filling begins with the mark %v", mark)
	}
	r.marks = append(r.marks, mark)
	r.shards[shard] = history{mark: mark}
}

func (r *cacheRun) write(t *rapid.T) {
	shard := drawShard(t)
	from, watermark := r.drawMark(t, shard), drawPosition(t, "watermark")
	var batch []persistence.MailboxWrite
	for _, mailbox := range cacheMailboxes {
		if rapid.Bool().Draw(t, "written") {
			batch = append(batch, r.drawWrite(t, shard, mailbox))
		}
	}
	mark, err := r.c.Write(r.ctx, shard, from, watermark, batch)
	h := r.shards[shard]
	if from != h.mark || from.Fill == "" {
		if !errors.Is(err, persistence.ErrMarkMoved) {
			t.Fatalf("a write from %v to %v returns %v", from, h.mark, err)
		}
		return
	}
	noError(t, err)
	if h.mark.Watermark.Less(watermark) {
		h.mark.Watermark = watermark
	}
	if mark.Fill != h.mark.Fill || mark.Watermark != h.mark.Watermark || slices.Contains(r.marks, mark) {
		t.Fatalf("a write from %v to the watermark %v returns the mark %v", from, watermark, mark)
	}
	h.mark = mark
	h.events = slices.Clip(h.events)
	for _, write := range batch {
		h.events = append(h.events, event{mailbox: write.Mailbox, write: write})
	}
	r.marks = append(r.marks, mark)
	r.shards[shard] = h
}

func (r *cacheRun) drawWrite(t *rapid.T, shard uint32, mailbox string) persistence.MailboxWrite {
	r.serial++
	position := drawPosition(t, "position")
	write := persistence.MailboxWrite{
		Mailbox: mailbox, Position: position, State: fmt.Append(nil, r.serial),
		First:   rapid.SampledFrom([]int64{0, 0, 0, 0, 1, 5, 9}).Draw(t, "first"),
		Dedup:   r.drawDedup(t, position),
		Sources: drawSources(t),
		Parts:   r.drawParts(t, position),
	}
	if held := r.shards[shard].copyOf(mailbox); held != nil && len(held.Dedup) > 0 && rapid.Bool().Draw(t, "known entry") {
		// As an owner that another has overtaken joins them.
		write.Dedup = append(write.Dedup, held.Dedup[0])
	}
	from := rapid.Int64Range(1, 12).Draw(t, "first row")
	write.Rows = rows(from, from+rapid.Int64Range(-1, 5).Draw(t, "rows"), "peer")
	if n := len(write.Rows); n > 2 && rapid.IntRange(0, 3).Draw(t, "gap") == 0 {
		write.Rows = slices.Delete(write.Rows, n/2, n/2+1)
	}
	return write
}

func (r *cacheRun) fill(t *rapid.T) {
	shard, mailbox := drawShard(t), drawMailbox(t)
	from := r.drawMark(t, shard)
	var m *persistence.Mailbox
	if rapid.Bool().Draw(t, "stored") {
		r.serial++
		position := drawPosition(t, "position")
		m = &persistence.Mailbox{
			Position: position, State: fmt.Append(nil, r.serial), Sources: drawSources(t), Parts: storedParts(r.drawParts(t, position)),
			Dedup: r.drawDedup(t, position), DedupComplete: rapid.IntRange(0, 4).Draw(t, "incomplete") > 0,
		}
	}
	err := r.c.Fill(r.ctx, shard, from, mailbox, m)
	h := r.shards[shard]
	switch {
	case m != nil && !m.DedupComplete:
		if err != nil && !errors.Is(err, persistence.ErrMarkMoved) {
			t.Fatalf("fill: %v", err)
		}
	case from != h.mark || from.Fill == "":
		if !errors.Is(err, persistence.ErrMarkMoved) {
			t.Fatalf("a fill from %v to %v returns %v", from, h.mark, err)
		}
	default:
		noError(t, err)
		h.events = append(slices.Clip(h.events), event{mailbox: mailbox, fill: true, m: m})
		r.shards[shard] = h
	}
}

// copyOf works out the copy of a mailbox; nil for none.
func (h history) copyOf(mailbox string) *persistence.Mailbox {
	var held *persistence.Mailbox
	for _, e := range h.events {
		switch {
		case e.mailbox != mailbox:
		case e.fill && held == nil:
			held = &persistence.Mailbox{DedupComplete: true}
			if e.m != nil {
				*held = *e.m
				held.Dedup, held.Sources, held.Parts = slices.Clone(e.m.Dedup), slices.Clone(e.m.Sources), slices.Clone(e.m.Parts)
			}
		case !e.fill && held != nil && held.Position.Less(e.write.Position):
			for _, part := range e.write.Parts {
				if held.Position.Less(part.Position) {
					held.Parts = putPart(held.Parts, part)
				}
			}
			held.Position, held.State = e.write.Position, e.write.State
			for _, entry := range e.write.Dedup {
				if !slices.Contains(held.Dedup, entry) {
					held.Dedup = append(held.Dedup, entry)
				}
			}
			held.Sources = append(held.Sources, e.write.Sources...)
		}
	}
	if held == nil || held.Position.IsZero() {
		return nil
	}
	newest := map[string]persistence.Position{}
	for _, source := range held.Sources {
		if old, ok := newest[source.Mailbox]; !ok || old.Less(source.Position) {
			newest[source.Mailbox] = source.Position
		}
	}
	held.Sources = nil
	for mailbox, position := range newest {
		held.Sources = append(held.Sources, persistence.Source{Mailbox: mailbox, Position: position})
	}
	sortMailbox(held)
	return held
}

// rowsOf works out the rows of a mailbox: the newest without a gap.
func (h history) rowsOf(mailbox string) []persistence.Row {
	held := map[int64]persistence.Row{}
	newest := int64(0)
	for _, e := range h.events {
		if e.mailbox != mailbox || e.fill {
			continue
		}
		if newest > 0 {
			newest = max(newest, e.write.First-1)
		}
		for _, row := range e.write.Rows {
			if row.Revision > newest && row.Revision >= e.write.First {
				if row.Revision != newest+1 {
					clear(held)
				}
				held[row.Revision] = row
				newest = row.Revision
			}
		}
		maps.DeleteFunc(held, func(revision int64, _ persistence.Row) bool { return revision < e.write.First })
	}
	var rows []persistence.Row
	for _, revision := range slices.Sorted(maps.Keys(held)) {
		rows = append(rows, held[revision])
	}
	return rows
}

func (r *cacheRun) load(t *rapid.T) {
	shard, mailbox, notBelow := drawShard(t), drawMailbox(t), drawPosition(t, "not below")
	h := r.shards[shard]
	if rapid.Bool().Draw(t, "any") {
		notBelow = h.mark.Watermark
	}
	got, err := r.c.Load(r.ctx, shard, mailbox, 100, notBelow)
	want := h.copyOf(mailbox)
	if want == nil || h.mark.Watermark.Less(notBelow) {
		if !errors.Is(err, persistence.ErrNotFound) {
			t.Fatalf("load returns %+v, error %v, want ErrNotFound", got, err)
		}
		return
	}
	noError(t, err)
	sortMailbox(got)
	// Entries of the last 24 hours are there, those before the last 48 are not,
	// and those between may be.
	newest := int64(0)
	for _, entry := range want.Dedup {
		newest = max(newest, entry.Time)
	}
	for _, entry := range got.Dedup {
		if entry.Time < newest-2*day {
			t.Fatalf("loaded an entry that is %d hours old", (newest-entry.Time)/hour)
		}
	}
	recent := func(all []persistence.DedupEntry) []persistence.DedupEntry {
		return slices.DeleteFunc(all, func(entry persistence.DedupEntry) bool { return entry.Time < newest-day })
	}
	got.Dedup, want.Dedup = recent(got.Dedup), recent(want.Dedup)
	if diff := cmp.Diff(want, got, emptyIsNil); diff != "" {
		t.Fatalf("copy (-want +got):\n%s", diff)
	}
}

// emptyIsNil compares slices by their content alone.
var emptyIsNil = cmp.FilterValues(func(a, b []persistence.DedupEntry) bool { return len(a)+len(b) == 0 }, cmp.Ignore())

func (r *cacheRun) operations(t *rapid.T) {
	shard, mailbox := drawShard(t), drawMailbox(t)
	after, upTo := rapid.Int64Range(0, 20).Draw(t, "after"), rapid.SampledFrom([]int64{3, 9, 15, persistence.MaxRevision}).Draw(t, "up to")
	limit := rapid.IntRange(0, 20).Draw(t, "limit")
	got, err := r.c.Operations(r.ctx, shard, mailbox, 0, after, upTo, limit, 1<<20)
	if after >= upTo || limit == 0 {
		noError(t, err)
		if len(got) > 0 {
			t.Fatalf("nothing was asked for, and %d rows are returned", len(got))
		}
		return
	}
	var want []persistence.Row
	for _, row := range r.shards[shard].rowsOf(mailbox) {
		if row.Revision == after+int64(len(want))+1 && row.Revision <= upTo && len(want) < limit {
			want = append(want, row)
		}
	}
	if len(want) == 0 {
		if !errors.Is(err, persistence.ErrNotFound) {
			t.Fatalf("operations after %d: %v, error %v, want ErrNotFound", after, revisions(got), err)
		}
		return
	}
	noError(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("rows (-want +got):\n%s", diff)
	}
}

func (r *cacheRun) readMark(t *rapid.T) {
	shard := drawShard(t)
	mark, err := r.c.Mark(r.ctx, shard)
	noError(t, err)
	if mark != r.shards[shard].mark {
		t.Fatalf("the mark is %v, want %v", mark, r.shards[shard].mark)
	}
}

func (r *cacheRun) empty(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "emptied") > 0 {
		t.Skip("not so often")
	}
	r.c.Empty()
	r.shards = map[uint32]history{}
}

func (r *cacheRun) snapshot(*rapid.T) {
	r.restore = r.c.Snapshot()
	r.saved = maps.Clone(r.shards)
}

func (r *cacheRun) setBack(t *rapid.T) {
	if r.restore == nil || rapid.IntRange(0, 3).Draw(t, "set back") > 0 {
		t.Skip("not so often")
	}
	r.restore()
	r.shards = maps.Clone(r.saved)
}

func noError(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
