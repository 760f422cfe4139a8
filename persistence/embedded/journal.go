package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tegami-im/tegami/persistence"
)

// Journal is the persistence.Journal of a data folder. One goroutine commits:
// it takes whatever queued, over all shards, while its last commit was in
// flight, and makes one batch and one fsync of it.
type Journal struct {
	db         *database
	volume     *volume
	durability persistence.Durability
	now        func() time.Time
	queueBytes int
	logs       []shardLog // by shard

	queue queue

	// time is the newest log time, in milliseconds since 1970. Only the
	// committer uses it.
	time     int64
	unsynced atomic.Bool // something was committed since the last sync

	commits, records, bytes atomic.Int64

	stopSync  context.CancelFunc
	goroutine sync.WaitGroup
	closing   sync.Once
	closeErr  error
}

// shardLog is one shard's log. Its limits are raised by the committer (next,
// generation) and under the queue's mutex (first); anyone reads them.
type shardLog struct {
	first, next atomic.Int64
	generation  atomic.Uint32
	tails       atomic.Pointer[[]*tail]
	// deleted: the offsets below it are gone from the database. Guarded by the
	// queue's mutex.
	deleted int64
	// end and touched belong to the committer: where the batch that it builds
	// ends, and in which commit that was.
	end     int64
	touched int64
}

type tail struct{ notify func(next int64) }

var _ persistence.Journal = (*Journal)(nil)

func openJournal(db *database, v *volume, o *Options, shards int) (*Journal, error) {
	j := &Journal{
		db:         db,
		volume:     v,
		durability: o.Durability,
		now:        o.Now,
		queueBytes: o.QueueBytes,
		logs:       make([]shardLog, shards),
	}
	j.queue.init()
	db.deferred = o.Durability == persistence.DurabilityOS
	if err := j.load(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j.goroutine.Go(j.commitLoop)
	syncing, stop := context.WithCancel(context.Background())
	j.stopSync = stop
	if j.durability == persistence.DurabilityOS {
		j.goroutine.Go(func() { j.syncLoop(syncing) })
	}
	return j, nil
}

// load finds the limits of every shard's log.
func (j *Journal) load() error {
	iter, err := j.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { _ = iter.Close() }()
	for shard := range j.logs {
		log := &j.logs[shard]
		meta, err := j.loadMeta(uint32(shard))
		if err != nil {
			return err
		}
		next, time := meta.first, meta.time
		generation := meta.generation
		if iter.SeekLT(entryKey(uint32(shard), -1)) && iter.Key()[0] == rowEntry && binary.BigEndian.Uint16(iter.Key()[1:]) == uint16(shard) {
			_, entryTime, _, err := decodeEntry(iter.Value())
			if err != nil {
				return fmt.Errorf("shard %d, offset %d: %w", shard, entryOffset(iter.Key()), err)
			}
			next, time = max(next, entryOffset(iter.Key())+1), max(time, entryTime)
		}
		log.first.Store(meta.first)
		log.next.Store(next)
		log.generation.Store(generation)
		j.time = max(j.time, time)
	}
	return j.db.readError(iter.Error())
}

// journalMeta is what a shard's log must know when its entries are gone.
type journalMeta struct {
	first      int64
	generation uint32
	time       int64
}

func (m journalMeta) encode() []byte {
	b := binary.AppendUvarint(nil, uint64(m.first))
	b = binary.AppendUvarint(b, uint64(m.generation))
	return binary.AppendUvarint(b, uint64(m.time))
}

func (j *Journal) loadMeta(shard uint32) (journalMeta, error) {
	value, found, err := j.db.get(metaKey(shard))
	if err != nil || !found {
		return journalMeta{generation: 1}, err
	}
	d := decoder{rest: value}
	meta := journalMeta{first: int64(d.uvarint()), generation: uint32(d.uvarint()), time: int64(d.uvarint())}
	if d.err != nil {
		return meta, fmt.Errorf("shard %d: %w", shard, d.err)
	}
	return meta, nil
}

// log returns a shard's log.
func (j *Journal) log(shard uint32) (*shardLog, error) {
	if int64(shard) >= int64(len(j.logs)) {
		return nil, fmt.Errorf("shard %d: there are %d", shard, len(j.logs))
	}
	return &j.logs[shard], nil
}

// Append implements persistence.Journal.
func (j *Journal) Append(shard uint32, records [][]byte, done func(persistence.Appended, error)) {
	request := appendRequest{shard: shard, records: records, done: done}
	for _, record := range records {
		request.size += len(record) + entryOverhead
	}
	_, err := j.log(shard)
	switch {
	case err != nil:
	case j.volume.refusesAppends():
		err = persistence.ErrFull
	case request.size > j.queueBytes:
		err = fmt.Errorf("append of %d bytes: the queue takes %d", request.size, j.queueBytes)
	default:
		err = j.queue.append(request, j.queueBytes)
	}
	if err != nil {
		done(persistence.Appended{}, err)
	}
}

// Read implements persistence.Journal.
func (j *Journal) Read(ctx context.Context, shard uint32, offset int64, maxBytes int) ([]persistence.Entry, error) {
	log, err := j.enter(ctx, shard)
	if err != nil {
		return nil, err
	}
	defer j.db.leave()
	if offset < log.first.Load() {
		return nil, persistence.ErrTruncated
	}
	// What is in the database above next may not be durable yet.
	entries, err := j.read(shard, offset, log.next.Load(), maxBytes)
	if err != nil && offset < log.first.Load() {
		return nil, persistence.ErrTruncated // meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("read journal of shard %d: %w", shard, err)
	}
	return entries, nil
}

func (j *Journal) read(shard uint32, offset, next int64, maxBytes int) ([]persistence.Entry, error) {
	if offset >= next {
		return nil, nil
	}
	iter, err := j.db.NewIter(&pebble.IterOptions{
		LowerBound: entryKey(shard, offset),
		UpperBound: entryKey(shard, next),
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = iter.Close() }()
	var (
		entries []persistence.Entry
		arena   []byte // the entries' data, in few allocations
		size    int
	)
	for valid := iter.First(); valid; valid = iter.Next() {
		generation, time, data, err := decodeEntry(iter.Value())
		if err != nil {
			return nil, fmt.Errorf("offset %d: %w", offset, err)
		}
		if entryOffset(iter.Key()) != offset {
			break
		}
		size += len(data)
		if len(entries) > 0 && size > maxBytes {
			return entries, nil
		}
		if cap(arena)-len(arena) < len(data) {
			arena = make([]byte, 0, max(len(data), min(2*cap(arena), 256<<10), 4<<10))
		}
		arena = append(arena, data...)
		entries = append(entries, persistence.Entry{
			Position: persistence.Position{Generation: generation, Offset: offset},
			Time:     time,
			Data:     slices.Clip(arena[len(arena)-len(data):]),
		})
		offset++
	}
	if err := iter.Error(); err != nil {
		return nil, j.db.readError(err)
	}
	if offset < next {
		return nil, fmt.Errorf("offset %d is missing, though the log goes on to %d: %w: restore it from a backup", offset, next, persistence.ErrDamaged)
	}
	return entries, nil
}

// Bounds implements persistence.Journal.
func (j *Journal) Bounds(ctx context.Context, shard uint32) (persistence.Bounds, error) {
	log, err := j.enter(ctx, shard)
	if err != nil {
		return persistence.Bounds{}, err
	}
	defer j.db.leave()
	return persistence.Bounds{
		First:      log.first.Load(),
		Next:       log.next.Load(),
		Generation: log.generation.Load(),
	}, nil
}

// enter returns a shard's log and keeps the database open, unless the context
// or the journal has ended.
func (j *Journal) enter(ctx context.Context, shard uint32) (*shardLog, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	log, err := j.log(shard)
	if err != nil {
		return nil, err
	}
	return log, j.db.enter()
}

// Tail implements persistence.Journal.
func (j *Journal) Tail(shard uint32, notify func(next int64)) (stop func()) {
	log, err := j.log(shard)
	if err != nil {
		return func() {} // a shard that there is not never grows
	}
	added := &tail{notify}
	log.changeTails(func(tails []*tail) []*tail { return append(tails, added) })
	return func() {
		log.changeTails(func(tails []*tail) []*tail {
			return slices.DeleteFunc(tails, func(t *tail) bool { return t == added })
		})
	}
}

// changeTails replaces the tails by what change makes of a copy of them.
func (l *shardLog) changeTails(change func([]*tail) []*tail) {
	for {
		current := l.tails.Load()
		var changed []*tail
		if current != nil {
			changed = slices.Clone(*current)
		}
		changed = change(changed)
		if l.tails.CompareAndSwap(current, &changed) {
			return
		}
	}
}

func (l *shardLog) notifyTails(next int64) {
	if tails := l.tails.Load(); tails != nil {
		for _, tail := range *tails {
			tail.notify(next)
		}
	}
}

// Sync implements persistence.Journal.
func (j *Journal) Sync(ctx context.Context) error {
	if _, err := j.enter(ctx, 0); err != nil {
		return err
	}
	j.db.leave()
	if j.durability == persistence.DurabilityFsync {
		return nil
	}
	return j.control(ctx, func(*pebble.Batch) {})
}

// syncEvery is how much a power cut can take with durability os, and half as
// much again.
const syncEvery = 500 * time.Millisecond

func (j *Journal) syncLoop(ctx context.Context) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if j.unsynced.Load() {
				_ = j.Sync(ctx) // a disk that fails ends the process
			}
		case <-ctx.Done():
			return
		}
	}
}

// truncateStep is how many entries must be gained before they are deleted:
// each deletion is a row that reads must step over until it is compacted.
const truncateStep = 4096

// Truncate implements persistence.Journal. Offsets are out of reach at once;
// they are deleted by the commit that comes next, when they are worth it, and
// with the journal's close.
func (j *Journal) Truncate(ctx context.Context, shard uint32, before int64) error {
	log, err := j.enter(ctx, shard)
	if err != nil {
		return err
	}
	defer j.db.leave()
	j.queue.truncate(shard, log, min(before, log.next.Load()))
	return nil
}

// StartGeneration implements persistence.Journal.
func (j *Journal) StartGeneration(ctx context.Context, shard uint32) error {
	log, err := j.log(shard)
	if err != nil {
		return err
	}
	return j.control(ctx, func(batch *pebble.Batch) {
		meta := journalMeta{first: log.first.Load(), generation: log.generation.Add(1), time: j.time}
		_ = batch.Set(metaKey(shard), meta.encode(), nil)
	})
}

// control has the committer add something to its next batch, and returns when
// that is on disk.
func (j *Journal) control(ctx context.Context, prepare func(*pebble.Batch)) error {
	request := controlRequest{prepare: prepare, done: make(chan error, 1)}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := j.queue.control(request); err != nil {
		return err
	}
	select {
	case err := <-request.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements persistence.Journal. When the disk is full it gives up
// waiting and returns persistence.ErrFull: what is in flight gets
// ErrUnknownOutcome.
func (j *Journal) Close() error {
	j.closing.Do(func() {
		j.closeErr = j.volume.closeWith(func() error {
			j.queue.close()
			j.stopSync()
			j.goroutine.Wait()
			return j.db.close()
		})
		if j.closeErr != nil {
			j.abandon()
		}
	})
	return j.closeErr
}
