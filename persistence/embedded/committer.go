package embedded

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tegami-im/tegami/persistence"
)

const (
	// entryOverhead is what an entry takes beside its data, about.
	entryOverhead = 48
	// maxQueued bounds the appends that wait, whatever their size.
	maxQueued = 1 << 16
	// maxCommitBytes bounds one commit, well below the size at which Pebble
	// gives a batch a write buffer of its own.
	maxCommitBytes = 4 << 20
)

type appendRequest struct {
	shard    uint32
	records  [][]byte
	size     int
	done     func(persistence.Appended, error)
	appended persistence.Appended
}

type controlRequest struct {
	prepare func(*pebble.Batch)
	done    chan error // takes one without waiting
}

// round is what goes into one commit.
type round struct {
	appends     []appendRequest
	controls    []controlRequest
	truncations []truncation
}

// truncation deletes a shard's entries from one offset up to another.
type truncation struct {
	shard    uint32
	from, to int64
}

// queue is what waits for the committer.
type queue struct {
	mu       sync.Mutex // guards the following
	work     sync.Cond
	appends  []appendRequest
	bytes    int
	controls []controlRequest
	// truncated are shards with entries that are worth deleting.
	truncated map[uint32]*shardLog
	// held: no entry is deleted, since a backup is being made.
	held   int
	closed bool
	// inFlight is the round that is being committed. Who answers it takes it
	// away.
	inFlight *round
	spare    []appendRequest
}

func (q *queue) init() {
	q.work.L = &q.mu
	q.truncated = map[uint32]*shardLog{}
}

func (q *queue) append(request appendRequest, maxBytes int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return persistence.ErrClosed
	}
	if q.bytes+request.size > maxBytes || len(q.appends) >= maxQueued {
		return persistence.ErrBusy
	}
	q.appends = append(q.appends, request)
	q.bytes += request.size
	q.work.Signal()
	return nil
}

func (q *queue) control(request controlRequest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return persistence.ErrClosed
	}
	q.controls = append(q.controls, request)
	q.work.Signal()
	return nil
}

func (q *queue) truncate(shard uint32, log *shardLog, before int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if before <= log.first.Load() {
		return
	}
	log.first.Store(before)
	if before-log.deleted >= truncateStep {
		q.truncated[shard] = log
		q.work.Signal()
	}
}

// hold keeps entries from being deleted until release is called.
func (q *queue) hold() (release func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held++
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.held--
		q.work.Signal()
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.work.Signal()
}

func (q *queue) depth() (appends, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.appends), q.bytes
}

// take waits for work and takes as much as goes into one commit. It returns nil
// when the queue is closed and empty.
func (q *queue) take() *round {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.appends) == 0 && len(q.controls) == 0 && (len(q.truncated) == 0 || q.held > 0) {
		if q.closed {
			return nil
		}
		q.work.Wait()
	}
	r := &round{controls: q.controls}
	q.controls = nil
	if q.held == 0 {
		for shard, log := range q.truncated {
			first := log.first.Load()
			r.truncations = append(r.truncations, truncation{shard, log.deleted, first})
			log.deleted = first
		}
		clear(q.truncated)
	}
	r.appends = q.takeAppends()
	q.inFlight = r
	return r
}

func (q *queue) takeAppends() []appendRequest {
	bytes, n := 0, 0
	for n < len(q.appends) && (n == 0 || bytes+q.appends[n].size <= maxCommitBytes) {
		bytes += q.appends[n].size
		n++
	}
	q.bytes -= bytes
	taken := q.appends
	if n == len(taken) {
		q.appends, q.spare = q.spare[:0], nil
		return taken
	}
	q.appends = append([]appendRequest(nil), taken[n:]...)
	return taken[:n]
}

// finish returns whether the round is still to be answered.
func (q *queue) finish(r *round) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.inFlight == r
	q.inFlight = nil
	return mine
}

// reuse takes a slice back whose requests were answered.
func (q *queue) reuse(appends []appendRequest) {
	clear(appends)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare = appends
}

// commitLoop ends when the queue is closed and empty.
func (j *Journal) commitLoop() {
	for r := j.queue.take(); r != nil; r = j.queue.take() {
		j.commit(r)
	}
	j.commitLeftovers()
}

func (j *Journal) commit(r *round) {
	size := 0
	for i := range r.appends {
		size += r.appends[i].size
	}
	batch := j.db.newBatch(size)
	for _, t := range r.truncations {
		j.addTruncation(batch, t)
	}
	for i := range r.controls {
		r.controls[i].prepare(batch)
	}
	touched := j.addAppends(batch, r.appends)

	wanted := withProcess
	switch {
	case len(r.controls) > 0, len(r.appends) > 0 && j.durability == persistence.DurabilityFsync:
		wanted = onDisk
	case len(r.appends) > 0:
		wanted = withSystem
	}
	if acknowledgeEarly > 0 && len(r.controls) == 0 && j.queue.finish(r) {
		j.answer(r)
		time.Sleep(acknowledgeEarly)
	}
	j.unsynced.Store(wanted != onDisk)
	if err := j.db.commit(batch, wanted); err != nil {
		j.volume.fail(err)
	}
	j.commits.Add(1)
	j.bytes.Add(int64(size))

	for _, shard := range touched {
		log := &j.logs[shard]
		log.next.Store(log.end)
	}
	if j.queue.finish(r) {
		j.answer(r)
		j.queue.reuse(r.appends)
	}
	for _, shard := range touched {
		j.logs[shard].notifyTails(j.logs[shard].end)
	}
}

// addAppends gives the appends their places and adds them to the batch.
func (j *Journal) addAppends(batch *pebble.Batch, appends []appendRequest) (touched []uint32) {
	j.time = max(j.time, j.now().UnixMilli())
	commit := j.commits.Load() + 1
	var head [16]byte
	for i := range appends {
		request := &appends[i]
		log := &j.logs[request.shard]
		if log.touched != commit {
			log.touched, log.end = commit, log.next.Load()
			touched = append(touched, request.shard)
		}
		generation := log.generation.Load()
		request.appended = persistence.Appended{
			First: persistence.Position{Generation: generation, Offset: log.end},
			Time:  j.time,
		}
		head := appendEntryHead(head[:0], generation, j.time)
		for _, record := range request.records {
			op := batch.SetDeferred(entryKeySize, len(head)+len(record))
			putEntryKey(op.Key, request.shard, log.end)
			copy(op.Value[copy(op.Value, head):], record)
			_ = op.Finish() // fails for indexed batches only
			log.end++
		}
		j.records.Add(int64(len(request.records)))
	}
	return touched
}

func (j *Journal) addTruncation(batch *pebble.Batch, t truncation) {
	_ = batch.DeleteRange(entryKey(t.shard, t.from), entryKey(t.shard, t.to), nil)
	meta := journalMeta{first: t.to, generation: j.logs[t.shard].generation.Load(), time: j.time}
	_ = batch.Set(metaKey(t.shard), meta.encode(), nil)
}

func (j *Journal) answer(r *round) {
	for i := range r.appends {
		r.appends[i].done(r.appends[i].appended, nil)
	}
	for i := range r.controls {
		r.controls[i].done <- nil
	}
}

// commitLeftovers deletes, with the last commit, what was not worth a deletion
// before.
func (j *Journal) commitLeftovers() {
	batch := j.db.newBatch(0)
	j.queue.mu.Lock()
	for shard := range j.logs {
		if log := &j.logs[shard]; log.first.Load() > log.deleted {
			j.addTruncation(batch, truncation{uint32(shard), log.deleted, log.first.Load()})
			log.deleted = log.first.Load()
		}
	}
	j.queue.mu.Unlock()
	if err := j.db.commit(batch, withProcess); err != nil {
		j.volume.fail(err)
	}
}

// abandon answers all that waits for a disk that stayed full.
func (j *Journal) abandon() {
	q := &j.queue
	q.mu.Lock()
	waiting := []*round{{appends: q.appends, controls: q.controls}}
	if q.inFlight != nil {
		waiting = append(waiting, q.inFlight)
	}
	q.appends, q.controls, q.inFlight = nil, nil, nil
	q.mu.Unlock()
	for _, r := range waiting {
		for i := range r.appends {
			r.appends[i].done(persistence.Appended{}, persistence.ErrUnknownOutcome)
		}
		for i := range r.controls {
			r.controls[i].done <- persistence.ErrUnknownOutcome
		}
	}
}
