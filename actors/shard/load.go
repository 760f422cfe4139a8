package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/writebehind"
	"github.com/tegami-im/tegami/persistence"
)

const (
	minLoadWait = 100 * time.Millisecond
	maxLoadWait = 5 * time.Second
	loadTimeout = 5 * time.Second
	// forwardTimeout is for the journal above a state: after a long outage of
	// the store that is much.
	forwardTimeout = time.Minute
)

// load reads a mailbox's state, and from the journal what was dispatched to it
// beyond that.
func (s *shardActor) load(ctx actor.Context, e *entry) {
	e.loading = true
	root, pid, incarnation := ctx.ActorSystem().Root, e.pid, e.incarnation
	l := loading{
		journal: s.Journal, store: s.Store, cache: s.Cache,
		shard: s.id, mailbox: e.name, through: e.last, untold: e.untold(), checkpoint: s.checkpoint, settled: s.settledFor(e),
	}
	known, dropped := s.known(e), s.dropped
	if s.Cache != nil && s.phase == open { // before, the filling may know of records that this shard does not
		writer := s.writer
		l.fill = func(m *persistence.Mailbox) { root.Send(writer, &writebehind.Fill{Mailbox: l.mailbox, Loaded: m}) }
	}
	m := &loaded{incarnation: incarnation, stored: known, dropped: dropped}
	fromStore := func(ctx context.Context) {
		var stored *persistence.Mailbox
		if stored, m.records, m.err = l.run(ctx, l.fromStore); m.err == nil {
			m.state, m.err = l.decode(stored) // here: it may have thousands of parts
		}
		if stored != nil && m.stored.Less(stored.Position) {
			m.stored = stored.Position
		}
		root.Send(pid, m)
	}
	workers, job := s.Workers.Load, fromStore
	if s.Cache != nil {
		waiting := workers
		workers, job = s.Workers.CacheLoad, func(ctx context.Context) {
			stored, records, err := l.run(ctx, l.fromCache)
			if errors.Is(err, errNotCached) {
				if waiting.Submit(fromStore) {
					return
				}
				err = persistence.ErrBusy
			}
			if m.records, m.err = records, err; err == nil {
				m.state, m.err = l.decode(stored)
			}
			root.Send(pid, m)
		}
	}
	if !workers.Submit(job) {
		s.loadFailed(ctx, &loadFailed{mailbox: e.name})
	}
}

// errNotCached says that the cache has no copy of a mailbox that counts, or is
// away.
var errNotCached = errors.New("not in the cache")

// settledFor returns up to where nothing is left to do for a mailbox's records: see
// loading.
func (s *shardActor) settledFor(e *entry) persistence.Position {
	switch {
	case len(e.unstored) == 0 && s.front.Less(e.last):
		return e.last
	case len(e.unstored) > 0 && e.unstored[0].parked:
		return e.unstored[0].before
	default:
		return s.front
	}
}

// known returns how far the store is known to have a mailbox.
func (s *shardActor) known(e *entry) persistence.Position {
	if len(e.unstored) == 0 && !s.checkpoint.Less(e.dropped.through) && s.checkpoint.Less(e.last) {
		return e.last
	}
	return s.checkpoint
}

// loading is the loading of one mailbox. It runs on a worker, and where the cache
// does not have it, again on one of those that wait for the store.
type loading struct {
	journal persistence.Journal
	store   persistence.Store
	cache   persistence.Cache // nil where there is none
	// fill hands what was loaded to the cache; nil where it is not to be. It
	// comes before whatever is written for the mailbox afterwards.
	fill    func(*persistence.Mailbox)
	shard   uint32
	mailbox string
	// through is the newest record that was dispatched to the mailbox; zero
	// when there is none above the checkpoint.
	through persistence.Position
	// untold is the oldest record that was dispatched to the mailbox and of which
	// it is not known what became; zero when there is none. It may have been
	// dispatched when the mailbox took nothing, so that the mailbox has to hear of
	// it even where the state that is loaded has it.
	untold persistence.Position
	// checkpoint is the shard's: what the cache has counts when it reaches that
	// far, since all that is above it is known by through.
	checkpoint persistence.Position
	// settled is up to where nothing is left to do for the mailbox's records:
	// they are stored, or dropped, and then read again for the store whatever
	// becomes of the mailbox. A copy that is ahead of that does not count:
	// records that it has, and the store has not, would be skipped by the mailbox
	// that is to bring them there.
	settled persistence.Position
}

// errUntold says that another owner has stored, and the journal let go of, records
// of which it is not known what became.
var errUntold = errors.New("what became of records is known to another owner alone")

// run reads a mailbox's state, nil when it was never stored, and the records of
// the mailbox above it, up to and with through. The start of the log is asked
// for first: what is truncated after that may not be in the state that is read,
// and is missed when it is to be read. A journal that is away is not needed for a
// state that has it all.
func (l *loading) run(ctx context.Context, state func(context.Context) (*persistence.Mailbox, error)) (*persistence.Mailbox, []applyRecord, error) {
	var bounds persistence.Bounds
	var away error
	short, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	if !l.through.IsZero() {
		bounds, away = l.journal.Bounds(short, l.shard)
		l.start(bounds.First)
	}
	stored, err := state(short)
	if err != nil {
		return nil, nil, err
	}
	var from persistence.Position
	if stored != nil {
		from = stored.Position
	}
	if !from.Less(l.through) && l.untold.IsZero() {
		return stored, nil, nil
	}
	if away != nil {
		return nil, nil, away
	}
	if l.untold.Generation == l.through.Generation && !l.untold.IsZero() && l.untold.Offset < bounds.First {
		return nil, nil, fmt.Errorf("%w: offset %d, the journal begins at %d", errUntold, l.untold.Offset, bounds.First)
	}
	offset := bounds.First
	if from.Generation == l.through.Generation {
		next := from.Offset + 1
		if l.untold.Generation == l.through.Generation {
			next = min(next, l.untold.Offset)
		}
		offset = max(offset, next)
	}
	if l.checkpoint.Generation == l.through.Generation { // what lies below is in any state that counts
		offset = max(offset, l.checkpoint.Offset+1)
	}
	ctx, cancel = context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	records, err := l.forward(ctx, offset)
	return stored, records, err
}

// decode returns the state that was read; that of a mailbox that was never seen
// for nil.
func (l *loading) decode(stored *persistence.Mailbox) (*mailbox.State, error) {
	if stored == nil {
		return mailbox.New(l.mailbox), nil
	}
	return mailbox.Decode(l.mailbox, stored)
}

// start has only that count of the cache which reaches up to the journal's start:
// the journal may have let go of more than lay below the checkpoint when the load
// was asked for. What lies below the start in an older generation counts as the
// newest one's, so that the store is asked.
func (l *loading) start(first int64) {
	below := persistence.Position{Generation: l.through.Generation, Offset: first - 1}
	if first > 0 && l.checkpoint.Less(below) {
		l.checkpoint = below
	}
}

// fromCache reads the state from the cache. Error: errNotCached.
func (l *loading) fromCache(ctx context.Context) (*persistence.Mailbox, error) {
	cached, err := l.cache.Load(ctx, l.shard, l.mailbox, mailbox.MaxDedupLoaded, l.checkpoint)
	if err != nil || l.settled.Less(cached.Position) && !takeCachedForStored {
		return nil, errNotCached
	}
	if _, err := mailbox.Decode(l.mailbox, cached); err != nil { // it is damaged
		return nil, errNotCached
	}
	return cached, nil
}

// fromStore reads the state from the store, and gives it to the cache.
func (l *loading) fromStore(ctx context.Context) (*persistence.Mailbox, error) {
	stored, err := l.store.Load(ctx, l.shard, l.mailbox, mailbox.MaxDedupLoaded)
	if errors.Is(err, persistence.ErrNotFound) {
		stored, err = nil, nil
	}
	if err == nil && l.fill != nil && l.whole(stored) {
		l.fill(stored)
	}
	return stored, err
}

// whole reports whether what the store has is all that was ever written of the
// mailbox.
func (l *loading) whole(stored *persistence.Mailbox) bool {
	if stored == nil {
		return l.through.IsZero()
	}
	return !stored.Position.Less(l.through)
}

// forward reads the records of the mailbox from an offset on, up to and with
// through.
func (l *loading) forward(ctx context.Context, offset int64) ([]applyRecord, error) {
	var records []applyRecord
	for offset <= l.through.Offset {
		entries, err := l.journal.Read(ctx, l.shard, offset, readBytes)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			return nil, fmt.Errorf("the journal ends at offset %d, and %d was dispatched", offset, l.through.Offset)
		}
		for _, entry := range entries {
			if l.through.Less(entry.Position) {
				break
			}
			r, err := mailbox.DecodeRecord(entry.Data)
			if err != nil {
				return nil, err
			}
			if r.GetMailbox() == l.mailbox {
				records = append(records, applyRecord{position: entry.Position, time: entry.Time, record: r, read: true})
			}
		}
		offset = entries[len(entries)-1].Position.Offset + 1
	}
	return records, nil
}
