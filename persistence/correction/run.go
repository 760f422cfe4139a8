package correction

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/persistence"
)

// run is one comparison, from shard to shard.
type run struct {
	*Options
	limit  *rate.Limiter
	due    int // operations read, not yet asked of limit
	report *Report
	shard  uint32 // those below it are done, with this result:
	done   Report
	cache  persistence.CacheRepairer // nil once it was away
}

// rateStep is how many operations are asked of the limit at a time.
const rateStep = 64

func newRun(o *Options) *run {
	r := &run{Options: o, report: &Report{Found: map[Kind]int64{}, Repaired: map[Kind]int64{}}, cache: o.Cache}
	if o.Rate > 0 {
		r.limit = rate.NewLimiter(rate.Limit(o.Rate), rateStep)
	}
	return r
}

// read slows the run down to its rate.
func (r *run) read(ctx context.Context) error {
	if r.due++; r.limit == nil || r.due < rateStep {
		return nil
	}
	r.due = 0
	return r.limit.WaitN(ctx, rateStep)
}

func (r *run) tell() {
	r.Progress(Progress{
		Shard: r.shard, Done: r.done,
		Mailboxes: r.report.Mailboxes, Operations: r.report.Operations, Found: Total(r.report.Found),
	})
}

// compareShard compares one shard, once for each window of its journal.
func (r *run) compareShard(ctx context.Context, shard uint32) error {
	marks, err := r.Store.Marks(ctx, shard)
	if err != nil {
		return err
	}
	bounds, err := r.Journal.Bounds(ctx, shard)
	if err != nil {
		return err
	}
	behind := marks.Ahead(bounds)
	if behind {
		r.count(Finding{
			Kind: JournalBehind, Shard: shard, Count: 1, Left: "restore the journal, or accept the loss with tegami generation",
			Text: fmt.Sprintf("the store holds records up to offset %d, the journal ends below %d", marks.Newest().Offset, bounds.Next),
		})
	}
	readable, err := r.cacheMark(ctx, shard)
	if err != nil {
		return err
	}
	r.shard = shard
	v := &view{shard: shard, checkpoint: marks.Checkpoint, first: true, keys: r.Keys}
	v.beyond = func(ctx context.Context, p persistence.Position) (bool, error) {
		if behind || !(persistence.Marks{Highest: p}).Ahead(bounds) {
			return false, nil // where the journal is behind all of it, its states are right
		}
		now, err := r.Journal.Bounds(ctx, shard) // it may have grown
		if err == nil {
			bounds = now
		}
		return (persistence.Marks{Highest: p}).Ahead(bounds), err
	}
	if readable {
		v.load = r.loadCached(shard)
	}
	since := int64(0)
	if !r.Since.IsZero() {
		since = r.Since.UnixMilli()
	}
	for offset := bounds.First; ; offset = v.window.next {
		if v.window, err = readWindow(ctx, r.Journal, shard, offset, marks.Checkpoint, since, r.WindowRecords, r.read); err != nil {
			return err
		}
		r.report.Records += int64(len(v.window.records))
		newest := v.window.newest
		v.keptSince = func() int64 {
			return max(r.Now().UnixMilli(), newest) - mailbox.DedupWindow.Milliseconds() + keptMargin
		}
		if err := r.compare(ctx, v); err != nil {
			return err
		}
		if v.first = false; v.window.next == 0 {
			break
		}
	}
	if marks == (persistence.Marks{}) && v.states && bounds.First > 0 {
		if err := r.missingMarks(ctx, shard); err != nil {
			return err
		}
	}
	r.shard, r.done = shard+1, Report{}
	r.done.Add(r.report) // a copy, also of the maps
	r.tell()
	return nil
}

// keptMargin is how much younger than the dedup window an entry is that must be
// there: clocks may differ, and time passes while a mailbox is read.
const keptMargin = int64(10 * time.Minute / time.Millisecond)

// loadCached reads from the cache until it is away.
func (r *run) loadCached(shard uint32) func(context.Context, string, persistence.Position) (*cachedCopy, error) {
	return func(ctx context.Context, name string, at persistence.Position) (*cachedCopy, error) {
		if r.cache == nil {
			return nil, nil
		}
		held, err := loadCached(ctx, r.cache, shard, name, at)
		return held, r.leaveCache(ctx, err)
	}
}

// leaveCache goes on without a cache that is away: it may be at any time.
func (r *run) leaveCache(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	r.report.CacheAway = err.Error()
	r.cache = nil
	return nil
}

// missingMarks looks again for the marks of a shard that has mailboxes, and whose
// journal was truncated, which is never done without. What Write knows of them is
// put with a Sync.
func (r *run) missingMarks(ctx context.Context, shard uint32) error {
	marks, err := r.Store.Marks(ctx, shard)
	if err != nil || marks != (persistence.Marks{}) {
		return err
	}
	f := Finding{Kind: MissingMarks, Shard: shard, Count: 1, Text: "nothing of it was held against the journal"}
	if r.Hold != nil {
		err = r.Store.Write(ctx, shard, persistence.Batch{})
		if err == nil {
			err = r.Store.Sync(ctx)
		}
		if err == nil {
			marks, err = r.Store.Marks(ctx, shard)
		}
		if f.settle(err); err == nil && marks == (persistence.Marks{}) {
			f.Repaired, f.Left = false, "none is left: a server replays the shard from where the journal begins, and writes them with its next record"
		}
	}
	r.count(f)
	return nil
}

// cacheMark looks at what a cache says of its filling, and reports whether that
// is there to be compared.
func (r *run) cacheMark(ctx context.Context, shard uint32) (readable bool, err error) {
	if r.cache == nil {
		return false, nil
	}
	mark, err := r.cache.Mark(ctx, shard)
	if isDamage(err) {
		r.wrongMark(ctx, Finding{Kind: DamagedMark, Shard: shard, Text: err.Error()})
		return false, nil
	}
	if err != nil {
		return false, r.leaveCache(ctx, err)
	}
	if mark.Fill == "" {
		r.report.Unfilled++
		return false, nil
	}
	bounds, err := r.Journal.Bounds(ctx, shard) // after the mark: it is behind all that was appended
	if err != nil {
		return false, err
	}
	if (persistence.Marks{Checkpoint: mark.Watermark}).Ahead(bounds) {
		r.wrongMark(ctx, Finding{Kind: CacheMark, Shard: shard, Text: fmt.Sprintf("its watermark is %d/%d, and the journal ends below %d/%d",
			mark.Watermark.Generation, mark.Watermark.Offset, bounds.Generation, bounds.Next)})
	}
	return true, nil
}

// wrongMark has a new filling begun: its writer goes on with it, or begins
// another.
func (r *run) wrongMark(ctx context.Context, f Finding) {
	f.Count = 1
	shard := f.Shard
	if r.Hold != nil {
		marks, err := r.Store.Marks(ctx, shard)
		if err == nil {
			_, err = r.cache.Begin(ctx, shard, marks.Checkpoint)
		}
		f.settle(err)
	}
	r.count(f)
}

func (f *Finding) settle(err error) {
	if f.Repaired = err == nil; err != nil {
		f.Left = err.Error()
	}
}

// compare looks at the mailboxes of a shard, and again at those where something
// is wrong.
func (r *run) compare(ctx context.Context, v *view) error {
	if v.window.changed != nil {
		for _, name := range slices.Sorted(maps.Keys(v.window.changed)) {
			if err := r.suspect(ctx, v, name); err != nil {
				return err
			}
		}
		return nil
	}
	created := v.window.created
	var suspects []string
	var b *box
	end := func() {
		if b == nil {
			return
		}
		delete(created, b.name)
		if len(b.end()) > 0 {
			suspects = append(suspects, b.name)
		}
		r.counted(v, b)
	}
	err := r.Store.Scan(ctx, v.shard, func(item *persistence.Item) error {
		if b == nil || b.name != item.Mailbox {
			end()
			b = newBox(v, item.Mailbox)
		}
		if item.Kind == persistence.ItemRow {
			if err := r.read(ctx); err != nil {
				return err
			}
		}
		return b.take(ctx, item)
	})
	if err != nil {
		return err
	}
	end()
	suspects = slices.AppendSeq(suspects, maps.Keys(created))
	for _, name := range suspects {
		if err := r.suspect(ctx, v, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) counted(v *view, b *box) {
	if !v.first {
		return
	}
	r.report.Mailboxes++
	r.report.Operations += b.operated
	if r.report.Mailboxes%1000 == 0 {
		r.tell()
	}
}

// look looks at one mailbox.
func (r *run) look(ctx context.Context, v *view, name string) (*box, error) {
	b := newBox(v, name)
	err := r.Store.ScanMailbox(ctx, v.shard, name, func(item *persistence.Item) error {
		if item.Kind == persistence.ItemRow {
			if err := r.read(ctx); err != nil {
				return err
			}
		}
		return b.take(ctx, item)
	})
	if err != nil {
		return nil, err
	}
	if _, created := v.window.created[name]; created && !b.stored {
		b.foundInJournal(MissingState, 0, 1, "its account was made, and nothing is stored")
	}
	b.end()
	return b, nil
}

// suspect looks at a mailbox twice: what both looks find counts, and is
// repaired.
func (r *run) suspect(ctx context.Context, v *view, name string) error {
	first, err := r.look(ctx, v, name)
	if err != nil {
		return err
	}
	if v.window.changed != nil {
		r.counted(v, first)
	}
	if len(first.findings) == 0 {
		return nil
	}
	second, err := r.look(ctx, v, name)
	if err != nil {
		return err
	}
	both := slices.DeleteFunc(second.findings, func(f Finding) bool {
		return !slices.ContainsFunc(first.findings, func(g Finding) bool { return f.same(&g) })
	})
	if len(both) == 0 {
		return nil
	}
	if r.Hold != nil {
		if err := r.repair(ctx, v, name, both); err != nil {
			return err
		}
	}
	for _, f := range both {
		r.count(f)
	}
	return nil
}

func (r *run) count(f Finding) {
	r.report.Found[f.Kind] += f.Count
	if f.Repaired {
		r.report.Repaired[f.Kind] += f.Count
	}
	r.Found(f)
}
