package writebehind

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/persistence"
)

const (
	// cacheAge is how long a write waits for others to go to the cache with
	// it: the cache is what is read where memory ends, so not long.
	cacheAge = 5 * time.Millisecond
	// cacheRecords and cacheBytes bound one step of the cache, which holds up
	// its others and takes only so much.
	cacheRecords = 512
	cacheBytes   = 4 << 20
	// cachePending bounds the records that wait for the cache: twice as many as
	// a shard has unstored at most, so that a replay, which hands over all of
	// these at once and follow-ups besides, does not cost the filling.
	cachePending = 8192
	// cacheFills bounds the mailboxes that were loaded: further ones are not
	// copied.
	cacheFills   = 256
	cacheTimeout = 2 * time.Second
)

type (
	cacheDue struct{ incarnation uint64 }
	cached   struct {
		incarnation uint64
		mark        persistence.CacheMark
		err         error
		took        time.Duration
	}
)

// cacheLane writes to the cache, as long as it takes what it is given.
type cacheLane struct {
	*writer
	pending pending
	fills   map[string]*persistence.Mailbox // to be copied, before what is pending
	through persistence.Position            // everything up to there was put
	flushed persistence.Position            // through, when a write was last begun
	skipped persistence.Position            // the newest that was not put, since then
	state   cacheState
	mark    persistence.CacheMark // that the lane left, when following
	floor   persistence.Position  // what was put begins above it, when adopting
	end     persistence.Position  // of the journal, when adopting

	taken   load // in flight
	writing bool
	armed   bool
	retry   time.Duration
}

// cacheState says what the lane knows of the filling.
type cacheState uint8

const (
	// beginning: something is missing, or may be: a new one is to be begun.
	beginning cacheState = iota
	// adopting: one that is found is gone on with, if nothing is missing
	// between its watermark and the floor.
	adopting
	// following: it holds all that was put and is not pending or in flight.
	following
)

// opened has the lane look at what the cache holds from before.
func (l *cacheLane) opened(m *Opened) {
	l.state, l.floor, l.end = adopting, m.Checkpoint, m.End
	l.through, l.flushed = m.Checkpoint, m.Checkpoint
}

// skip notes that a record is not put. Copies that do not have it would never
// get it.
func (l *cacheLane) skip(position persistence.Position) {
	if l.skipped.Less(position) {
		l.skipped = position
	}
}

func (l *cacheLane) put(ctx actor.Context, write persistence.MailboxWrite) {
	if l.pending.records >= cachePending {
		l.giveUp()
	}
	l.pending.put(write)
	l.Lag.Cache.set(l.pending.load, l.taken)
	l.arm(ctx, cacheAge)
}

func (l *cacheLane) fill(ctx actor.Context, m *Fill) {
	if len(l.fills) >= cacheFills {
		return
	}
	if l.fills == nil {
		l.fills = make(map[string]*persistence.Mailbox)
	}
	l.fills[m.Mailbox] = m.Loaded
	l.arm(ctx, cacheAge)
}

// giveUp drops what waits: the next write begins a new filling.
func (l *cacheLane) giveUp() {
	l.pending.clear()
	l.Lag.Cache.set(l.pending.load, l.taken)
	l.fills = nil
	l.state = beginning
}

func (l *cacheLane) reached(ctx actor.Context, position persistence.Position) {
	if l.through.Less(position) {
		l.through = position
		l.arm(ctx, cacheAge)
	}
}

func (l *cacheLane) due(ctx actor.Context) {
	l.armed = false
	l.flush(ctx)
}

func (l *cacheLane) arm(ctx actor.Context, d time.Duration) {
	if l.armed || l.writing {
		return
	}
	l.armed = true
	after(ctx, d, &cacheDue{l.incarnation})
}

// flush starts writing what waits, unless something is in flight. What fails is
// given up with the filling: a write whose outcome is not known may have moved
// the mark.
func (l *cacheLane) flush(ctx actor.Context) {
	if l.writing || l.pending.records == 0 && len(l.fills) == 0 && l.state == following && !l.mark.Watermark.Less(l.through) {
		return
	}
	f := l.take()
	f.cache, f.shard = l.Cache, l.Shard
	root, self, incarnation := ctx.ActorSystem().Root, ctx.Self(), l.incarnation
	l.writing = l.CacheWorkers.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, cacheTimeout)
		defer cancel()
		began := time.Now()
		mark, err := f.write(ctx)
		root.Send(self, &cached{incarnation: incarnation, mark: mark, err: err, took: time.Since(began)})
	})
	if !l.writing {
		l.taken = load{}
		l.giveUp()
		l.again(ctx)
	}
}

// take returns what is to be written by now.
func (l *cacheLane) take() filling {
	if l.state == following && l.mark.Watermark.Less(l.skipped) {
		l.state = beginning
	}
	f := filling{state: l.state, mark: l.mark, end: l.end, since: l.flushed, through: l.through, fills: l.fills}
	if f.floor = l.floor; f.floor.Less(l.skipped) {
		f.floor = l.skipped
	}
	f.writes, l.taken, _ = l.pending.take()
	l.fills = nil
	l.flushed, l.skipped = l.through, persistence.Position{}
	l.state = following // unless something is given up meanwhile
	return f
}

func (l *cacheLane) done(ctx actor.Context, m *cached) {
	l.writing = false
	written := l.taken
	l.taken = load{}
	l.Lag.Cache.set(l.pending.load, l.taken)
	if m.err != nil {
		if l.retry == 0 && !errors.Is(m.err, persistence.ErrClosed) { // the first of a row
			l.Logger.Warn("the cache takes no writes; a new filling is begun when it does", "shard", l.Shard, "error", m.err)
		}
		l.giveUp()
		if !errors.Is(m.err, persistence.ErrClosed) {
			l.again(ctx)
		}
		return
	}
	l.retry, l.mark = 0, m.mark
	if l.Cached != nil {
		l.Cached(written.records, m.took)
	}
	if l.pending.records > 0 || len(l.fills) > 0 || l.state != following || l.mark.Watermark.Less(l.through) {
		l.arm(ctx, cacheAge)
	}
}

// again comes back after a back-off that doubles.
func (l *cacheLane) again(ctx actor.Context) {
	l.retry = nextRetry(l.retry)
	l.armed = true
	after(ctx, l.retry, &cacheDue{l.incarnation})
}

// filling is one round of writing to the cache. It runs on a worker.
type filling struct {
	cache   persistence.Cache
	shard   uint32
	state   cacheState
	mark    persistence.CacheMark
	floor   persistence.Position
	end     persistence.Position
	since   persistence.Position // what is to be written lies above it
	through persistence.Position
	fills   map[string]*persistence.Mailbox
	writes  []persistence.MailboxWrite
}

// write goes on from the mark, or begins anew, also where what it finds is
// damaged, and moves the watermark with the last of its steps. An empty filling is complete up to wherever it begins;
// one that has the mailboxes that were loaded is only below what is still to be
// written of them.
func (f *filling) write(ctx context.Context) (persistence.CacheMark, error) {
	if f.state == adopting {
		mark, err := f.cache.Mark(ctx, f.shard)
		if err != nil && !errors.Is(err, persistence.ErrDamaged) {
			return mark, err
		}
		if f.mark = mark; err == nil && f.goesOn() {
			f.state = following
		}
	}
	if f.state == following {
		if err := f.steps(ctx); !errors.Is(err, persistence.ErrMarkMoved) && !errors.Is(err, persistence.ErrDamaged) {
			return f.mark, err
		}
	}
	mark, err := f.cache.Begin(ctx, f.shard, f.since)
	if err != nil {
		return mark, err
	}
	f.mark = mark
	return f.mark, f.steps(ctx)
}

// goesOn reports whether the filling that was found misses nothing between its
// watermark and what is put from here on. Records of a journal that went back
// are of another history: neither an older generation's filling nor one that is
// ahead of the journal is gone on with.
func (f *filling) goesOn() bool {
	watermark := f.mark.Watermark
	return f.mark.Fill != "" && f.floor.Generation == f.end.Generation &&
		watermark.Generation == f.end.Generation && !watermark.Less(f.floor) && watermark.Less(f.end)
}

// steps copies the mailboxes that were loaded, then writes. It may be run again.
func (f *filling) steps(ctx context.Context) error {
	for name, loaded := range f.fills {
		if err := f.cache.Fill(ctx, f.shard, f.mark, name, loaded); err != nil {
			return err
		}
	}
	rest := f.writes
	for {
		n := step(rest)
		watermark := f.mark.Watermark
		if n == len(rest) && watermark.Less(f.through) {
			watermark = f.through
		}
		mark, err := f.cache.Write(ctx, f.shard, f.mark, watermark, rest[:n])
		if err != nil {
			return err
		}
		f.mark = mark
		if rest = rest[n:]; len(rest) == 0 {
			return nil
		}
	}
}

// step returns how many of the writes go in one step.
func step(writes []persistence.MailboxWrite) int {
	records, bytes := 0, 0
	for n := range writes {
		records += len(writes[n].Rows) + 1
		bytes += len(writes[n].State)
		for i := range writes[n].Rows {
			bytes += len(writes[n].Rows[i].Data)
		}
		for i := range writes[n].Parts {
			bytes += len(writes[n].Parts[i].Data)
		}
		if (records > cacheRecords || bytes > cacheBytes) && n > 0 {
			return n
		}
	}
	return len(writes)
}
