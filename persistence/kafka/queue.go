package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// queue holds the appends whose outcome is not known yet. Those of a shard wait
// in order, and one batch of them is on its way at a time. A shard that has
// something to send and nothing on its way is ready: it stands in the list of
// the sender to its leader.
type queue struct {
	j *Journal

	mu      sync.Mutex // guards the following
	shards  []shardQueue
	senders map[string]*sender
	// order has every pending append, oldest first; answered ones are dropped
	// when they come to the front.
	order  []*pending
	bytes  int
	open   int // appends not answered
	closed bool
	empty  chan struct{} // closed when closed and nothing is open
}

type shardQueue struct {
	waiting []*pending
	flying  bool // a batch is on its way
	listed  bool // it stands in a sender's list
}

// state of an append. Its slices are used while it is queued or taken.
type state uint8

const (
	queued state = iota
	taken        // a sender encodes and writes it
	sent
	answered
)

type pending struct {
	shard   uint32
	records [][]byte
	size    int
	expires time.Time
	state   state
	done    func(persistence.Appended, error)
}

func newQueue(j *Journal) *queue {
	return &queue{
		j:       j,
		shards:  make([]shardQueue, j.options.Shards),
		senders: map[string]*sender{},
		empty:   make(chan struct{}),
	}
}

// Append implements persistence.Journal.
func (j *Journal) Append(shard uint32, records [][]byte, done func(persistence.Appended, error)) {
	if err := j.append(shard, records, done); err != nil {
		done(persistence.Appended{}, err)
	}
}

func (j *Journal) append(shard uint32, records [][]byte, done func(persistence.Appended, error)) error {
	if err := j.checkShard(shard); err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("an append of no records")
	}
	p := &pending{shard: shard, records: records, done: done}
	for _, record := range records {
		p.size += len(record) + entryOverhead
	}
	if p.size > j.options.MaxAppendBytes {
		return fmt.Errorf("append of %d bytes: at most %d", p.size, j.options.MaxAppendBytes)
	}
	return j.queue.add(p)
}

func (q *queue) add(p *pending) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return persistence.ErrClosed
	}
	if q.bytes+p.size > q.j.options.QueueBytes {
		return persistence.ErrBusy
	}
	// A tenth less than promised: expire looks that often.
	p.expires = time.Now().Add(q.j.options.Timeout - q.j.options.Timeout/10)
	q.bytes += p.size
	q.open++
	q.order = append(q.order, p)
	s := &q.shards[p.shard]
	s.waiting = append(s.waiting, p)
	q.list(p.shard)
	return nil
}

// list puts a shard into the list of the sender to its leader, if it is ready.
// The caller holds mu.
func (q *queue) list(shard uint32) {
	s := &q.shards[shard]
	if s.flying || s.listed || len(s.waiting) == 0 {
		return
	}
	leader := q.j.routes.current.Load().shards[shard]
	if leader == "" {
		q.j.routes.refresh() // reroute lists it
		return
	}
	to := q.senders[leader]
	if to == nil {
		to = newSender(q.j, leader)
		if !q.j.goWith(to.run) {
			return
		}
		q.senders[leader] = to
	}
	s.listed = true
	to.ready = append(to.ready, shard)
	to.signal()
}

// reroute lists every ready shard anew: leaders may have changed.
func (q *queue) reroute() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, to := range q.senders {
		to.ready = to.ready[:0]
	}
	for shard := range q.shards {
		q.shards[shard].listed = false
		q.list(uint32(shard))
	}
}

// flight is a batch of one shard's appends on its way.
type flight struct {
	shard   uint32
	at      time.Time // when it was taken
	records int
	appends []*pending
}

// requestBytes bounds a request to a broker beyond its first batch, and
// batchBytes a batch beyond its first append.
const (
	requestBytes = 8 << 20
	batchBytes   = 1 << 20
)

// take takes what is ready for a sender, a batch of each shard.
func (q *queue) take(to *sender) []flight {
	q.mu.Lock()
	defer q.mu.Unlock()
	var flights []flight
	size, now := 0, time.Now()
	// The topic takes no larger batch than the largest append.
	limit := min(batchBytes, q.j.options.MaxAppendBytes)
	for len(to.ready) > 0 && (size == 0 || size < requestBytes) {
		shard := to.ready[0]
		to.ready = to.ready[1:]
		s := &q.shards[shard]
		s.listed = false
		f := flight{shard: shard, at: now}
		batch := 0
		for len(s.waiting) > 0 {
			p := s.waiting[0]
			if p.state == queued {
				if batch > 0 && batch+p.size > limit {
					break
				}
				batch += p.size
				p.state = taken
				f.records += len(p.records)
				f.appends = append(f.appends, p)
			}
			s.waiting[0] = nil
			s.waiting = s.waiting[1:]
		}
		if len(f.appends) > 0 {
			s.flying = true
			size += batch
			flights = append(flights, f)
		}
	}
	if len(to.ready) == 0 {
		to.ready = nil // let go of the array that was sliced away
	}
	return flights
}

// wrote notes that the slices of flights are no longer needed.
func (q *queue) wrote(flights []flight) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range flights {
		for _, p := range f.appends {
			if p.state == taken {
				p.state = sent
			}
		}
	}
}

// landed ends a flight with what became of it, and answers its appends.
func (q *queue) landed(f flight, first persistence.Position, time int64, err error) {
	q.mu.Lock()
	q.shards[f.shard].flying = false
	open := f.appends[:0]
	offsets := make([]int64, 0, len(f.appends))
	for _, p := range f.appends {
		if p.state != answered {
			q.answer(p)
			open = append(open, p)
			offsets = append(offsets, first.Offset)
		}
		first.Offset += int64(len(p.records))
	}
	q.list(f.shard)
	q.mu.Unlock()
	for i, p := range open {
		appended := persistence.Appended{}
		if err == nil {
			appended = persistence.Appended{
				First: persistence.Position{Generation: first.Generation, Offset: offsets[i]},
				Time:  time,
			}
		}
		p.done(appended, err)
	}
	q.answeredAll(len(open))
}

// answer takes an append out of the counts; its done is to be called. The
// caller holds mu.
func (q *queue) answer(p *pending) {
	p.state = answered
	q.bytes -= p.size
}

// answeredAll notes that n calls of done have returned.
func (q *queue) answeredAll(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open -= n
	for len(q.order) > 0 && q.order[0].state == answered {
		q.order[0] = nil
		q.order = q.order[1:]
	}
	if q.closed && q.open == 0 && n > 0 {
		close(q.empty)
	}
}

// expire answers as unknown what has no outcome in time, wherever it is.
func (q *queue) expire(ctx context.Context) {
	ticker := time.NewTicker(max(q.j.options.Timeout/10, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if q.giveUp(now) > 0 {
				q.j.routes.refresh()
			}
		}
	}
}

// giveUp answers as unknown what has no outcome and expires by a time, and
// returns how many that were.
func (q *queue) giveUp(by time.Time) int {
	late := q.late(by)
	for _, p := range late {
		p.done(persistence.Appended{}, fmt.Errorf("%w: no answer from Kafka in time", persistence.ErrUnknownOutcome))
	}
	q.answeredAll(len(late))
	return len(late)
}

func (q *queue) late(by time.Time) []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	var late []*pending
	for _, p := range q.order {
		if p.expires.After(by) {
			break
		}
		// What is being written is left until the write has ended: its slices
		// are in use.
		if p.state == queued || p.state == sent {
			q.answer(p)
			late = append(late, p)
		}
		// With no broker to send to, nobody else takes it out of the line.
		s := &q.shards[p.shard]
		for len(s.waiting) > 0 && s.waiting[0].state == answered {
			s.waiting[0] = nil
			s.waiting = s.waiting[1:]
		}
	}
	return late
}

// close refuses further appends, waits for the outcome of those that there are,
// and reports whether all had one in time.
func (q *queue) close(within time.Duration) bool {
	q.mu.Lock()
	q.closed = true
	open := q.open
	q.mu.Unlock()
	if open == 0 {
		return true
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-q.empty:
		return true
	case <-timer.C:
		return false
	}
}

// abandon answers as unknown what has no outcome, after the journal ended: what
// is being written then fails with its connection.
func (q *queue) abandon() {
	q.giveUp(time.Now().Add(q.j.options.Timeout))
	<-q.empty
}
