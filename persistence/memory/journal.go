// Package memory keeps journal, store and keys in memory, for tests and for
// trying things out. It behaves exactly as the contracts in package persistence
// say, and can cut the power: Crash returns what a power cut leaves.
package memory

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// Journal is a persistence.Journal in memory. Appends wait in a queue for one
// committer, as in a journal on disk, so that done is never called by the
// goroutine that appends.
type Journal struct {
	durability persistence.Durability
	wake       chan struct{} // holds at most one token: something is queued, or closed
	stopped    chan struct{} // closed when the committer has ended

	mu     sync.Mutex // guards the following
	logs   map[uint32]*log
	queue  []appendRequest
	time   int64 // the newest log time
	closed bool
	cut    bool // the power is gone: what is queued is not committed
}

type log struct {
	generation  uint32
	first       int64
	synced      int64 // offsets below it survive a power cut
	entries     []persistence.Entry
	tails       map[int]func(int64)
	tailsOpened int
}

func (l *log) next() int64 { return l.first + int64(len(l.entries)) }

type appendRequest struct {
	shard   uint32
	records [][]byte
	done    func(persistence.Appended, error)
}

var _ persistence.Journal = (*Journal)(nil)

// NewJournal returns an empty journal. Log time is the system's clock, or the
// fake one of a testing/synctest bubble. Close it to end its goroutine.
func NewJournal(durability persistence.Durability) *Journal {
	return startJournal(durability, map[uint32]*log{})
}

func startJournal(durability persistence.Durability, logs map[uint32]*log) *Journal {
	j := &Journal{
		durability: durability,
		logs:       logs,
		wake:       make(chan struct{}, 1),
		stopped:    make(chan struct{}),
	}
	for _, l := range logs {
		if n := len(l.entries); n > 0 {
			j.time = max(j.time, l.entries[n-1].Time)
		}
	}
	go j.commitLoop()
	return j
}

// Crash cuts the power: it ends this journal and returns one that holds what
// survives. With durability os that is what was synced. Appends in flight are
// answered persistence.ErrUnknownOutcome.
func (j *Journal) Crash() *Journal {
	j.mu.Lock()
	j.cut = true
	j.mu.Unlock()
	_ = j.Close()

	j.mu.Lock()
	defer j.mu.Unlock()
	survivors := make(map[uint32]*log, len(j.logs))
	for shard, l := range j.logs {
		kept := max(0, l.synced-l.first)
		survivors[shard] = &log{
			generation: l.generation,
			first:      l.first,
			synced:     l.first + kept,
			entries:    append([]persistence.Entry(nil), l.entries[:kept]...),
		}
	}
	return startJournal(j.durability, survivors)
}

// Append implements persistence.Journal.
func (j *Journal) Append(shard uint32, records [][]byte, done func(persistence.Appended, error)) {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		done(persistence.Appended{}, persistence.ErrClosed)
		return
	}
	j.queue = append(j.queue, appendRequest{shard, records, done})
	j.mu.Unlock()
	j.signal()
}

func (j *Journal) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *Journal) commitLoop() {
	defer close(j.stopped)
	for range j.wake {
		calls, closed := j.commit()
		for _, call := range calls {
			call()
		}
		if closed {
			return
		}
	}
}

// commit appends what is queued and returns the calls that tell so: the answers
// in the order of the log, then the notifications.
func (j *Journal) commit() (calls []func(), closed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	grown := map[uint32]*log{}
	for _, request := range j.queue {
		if j.cut {
			calls = append(calls, func() { request.done(persistence.Appended{}, persistence.ErrUnknownOutcome) })
			continue
		}
		l := j.log(request.shard)
		appended := j.extend(l, request.records)
		calls = append(calls, func() { request.done(appended, nil) })
		grown[request.shard] = l
	}
	j.queue = nil
	for _, l := range grown {
		next := l.next()
		for _, notify := range l.tails {
			calls = append(calls, func() { notify(next) })
		}
	}
	return calls, j.closed
}

func (j *Journal) extend(l *log, records [][]byte) persistence.Appended {
	j.time = max(j.time, time.Now().UnixMilli())
	appended := persistence.Appended{
		First: persistence.Position{Generation: l.generation, Offset: l.next()},
		Time:  j.time,
	}
	for _, data := range records {
		l.entries = append(l.entries, persistence.Entry{
			Position: persistence.Position{Generation: l.generation, Offset: l.next()},
			Time:     j.time,
			Data:     bytes.Clone(data),
		})
	}
	if j.durability == persistence.DurabilityFsync {
		l.synced = l.next()
	}
	return appended
}

// log returns a shard's log. The caller holds mu.
func (j *Journal) log(shard uint32) *log {
	l := j.logs[shard]
	if l == nil {
		l = &log{generation: 1}
		j.logs[shard] = l
	}
	return l
}

// Read implements persistence.Journal.
func (j *Journal) Read(ctx context.Context, shard uint32, offset int64, maxBytes int) ([]persistence.Entry, error) {
	l, unlock, err := j.open(ctx, shard)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if offset < l.first {
		return nil, persistence.ErrTruncated
	}
	var read []persistence.Entry
	for size := 0; offset < l.next(); offset++ {
		entry := l.entries[offset-l.first]
		size += len(entry.Data)
		if len(read) > 0 && size > maxBytes {
			break
		}
		entry.Data = bytes.Clone(entry.Data)
		read = append(read, entry)
	}
	return read, nil
}

// Bounds implements persistence.Journal.
func (j *Journal) Bounds(ctx context.Context, shard uint32) (persistence.Bounds, error) {
	l, unlock, err := j.open(ctx, shard)
	if err != nil {
		return persistence.Bounds{}, err
	}
	defer unlock()
	return persistence.Bounds{First: l.first, Next: l.next(), Generation: l.generation}, nil
}

// Tail implements persistence.Journal.
func (j *Journal) Tail(shard uint32, notify func(next int64)) (stop func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l := j.log(shard)
	if l.tails == nil {
		l.tails = map[int]func(int64){}
	}
	l.tailsOpened++
	id := l.tailsOpened
	l.tails[id] = notify
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(l.tails, id)
	}
}

// Sync implements persistence.Journal.
func (j *Journal) Sync(ctx context.Context) error {
	_, unlock, err := j.open(ctx, 0)
	if err != nil {
		return err
	}
	defer unlock()
	for _, l := range j.logs {
		l.synced = l.next()
	}
	return nil
}

// Truncate implements persistence.Journal.
func (j *Journal) Truncate(ctx context.Context, shard uint32, before int64) error {
	l, unlock, err := j.open(ctx, shard)
	if err != nil {
		return err
	}
	defer unlock()
	if before = min(before, l.next()); before > l.first {
		l.entries = append([]persistence.Entry(nil), l.entries[before-l.first:]...)
		l.first = before
		l.synced = max(l.synced, before)
	}
	return nil
}

// StartGeneration implements persistence.Journal.
func (j *Journal) StartGeneration(ctx context.Context, shard uint32) error {
	l, unlock, err := j.open(ctx, shard)
	if err != nil {
		return err
	}
	defer unlock()
	l.generation++
	return nil
}

// open returns a shard's log with the journal locked, unless the context or the
// journal has ended.
func (j *Journal) open(ctx context.Context, shard uint32) (l *log, unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil, nil, persistence.ErrClosed
	}
	return j.log(shard), j.mu.Unlock, nil
}

// Close implements persistence.Journal.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.signal()
	<-j.stopped
	return nil
}

// Reopen closes the journal and returns one that holds all of it, as the next
// start of a process finds it.
func (j *Journal) Reopen() *Journal {
	_ = j.Close()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.logs {
		l.tails = nil
	}
	return startJournal(j.durability, j.logs)
}
