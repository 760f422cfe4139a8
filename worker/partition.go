package worker

import (
	"context"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// flow is what a partition does to where it is read from.
type flow interface {
	// Mark has everything below an offset committed.
	Mark(next int64)
	// Pause and Resume stop and start the reading; what was read already still
	// comes.
	Pause()
	Resume()
}

// partition works on what is read from one source, from its assignment until it
// is taken away.
type partition struct {
	source    Source
	processor *processor
	flow      flow
	// retries: the source's records are for the tasks that they name.
	retries bool

	// These belong to run. What is waiting is less than one fetch, since the
	// reading is paused as soon as anything waits.
	waiting   []*sarama.ConsumerMessage
	paused    bool
	committed int64

	contexts contexts
	work     sync.WaitGroup
	changed  chan struct{} // there may be room again

	mu     sync.Mutex // guards the following
	window window
	lanes  map[string]*lane
	seen   *seen
}

// lane holds the events of a key that are not finished, the one that is being
// handled first. Its goroutine ends with the last one.
type lane struct{ queue []*record }

func newPartition(p *processor, source Source, retries bool, flow flow) *partition {
	return &partition{
		source: source, processor: p, flow: flow, retries: retries,
		committed: -1, changed: make(chan struct{}, 1),
		window: window{next: -1}, lanes: map[string]*lane{}, seen: newSeen(p.options.SeenKeys),
	}
}

// drainGrace is how long a task may take to return once its context has ended.
const drainGrace = time.Second

// run works until messages is closed, which is how the partition is taken away,
// and returns when no handling goes on and the progress is marked, or when a
// task does not return in time.
func (p *partition) run(ctx context.Context, messages <-chan *sarama.ConsumerMessage) error {
	ctx = context.WithoutCancel(ctx) // its end closes messages, and work ends in steps
	going, stop := context.WithCancel(ctx)
	calls, abort := context.WithCancel(ctx)
	defer stop()
	defer abort()
	p.contexts = contexts{going: going, calls: calls}
	if f, ok := p.processor.task.(Flusher); ok {
		if err := p.assign(ctx, f); err != nil {
			return err
		}
		defer f.Revoked(p.source)
	}
	tick := time.NewTicker(p.processor.options.CommitInterval)
	defer tick.Stop()
	for {
		p.admitWaiting()
		select {
		case m, more := <-messages:
			if !more {
				stop()
				p.drain(abort)
				p.commit(ctx)
				return nil
			}
			p.waiting = append(p.waiting, m)
		case <-p.changed:
		case <-tick.C:
			p.commit(ctx)
		}
	}
}

func (p *partition) assign(ctx context.Context, f Flusher) error {
	ctx, cancel := context.WithTimeout(ctx, p.processor.options.SessionTimeout)
	defer cancel()
	return f.Assigned(ctx, p.source)
}

// admitWaiting admits what there is room for, and has the reading go on only
// when nothing waits.
func (p *partition) admitWaiting() {
	admitted := 0
	for admitted < len(p.waiting) && p.admit(p.waiting[admitted]) {
		admitted++
	}
	p.waiting = p.waiting[admitted:]
	switch full := len(p.waiting) > 0; {
	case full && !p.paused:
		p.flow.Pause()
		p.paused = true
	case !full && p.paused:
		p.flow.Resume()
		p.paused = false
	}
}

// admit puts a message into the lane of its key, if there is room.
func (p *partition) admit(m *sarama.ConsumerMessage) bool {
	options := &p.processor.options
	key := string(m.Key)
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[key]
	if p.window.len() >= options.Window || l != nil && len(l.queue) >= options.KeyQueue {
		return false
	}
	p.window.begin(m.Offset, m.Timestamp)
	if p.retries && taskOf(m) != options.Name {
		p.window.finish(m.Offset)
		return true
	}
	r := decode(m)
	if !p.retries && r.event != nil && !p.seen.add(key, placeOf(r.event.Event)) {
		p.window.finish(m.Offset)
		options.Observe.Event(options.Name, Skipped)
		return true
	}
	if l != nil {
		l.queue = append(l.queue, r)
		return true
	}
	l = &lane{queue: []*record{r}}
	p.lanes[key] = l
	p.work.Go(func() { p.runLane(key, l, r) })
	return true
}

// runLane handles the events of a key, from its first on, until there are none,
// or until the partition is taken away.
func (p *partition) runLane(key string, l *lane, r *record) {
	for r != nil {
		if !p.processor.process(p.contexts, r) {
			return
		}
		r = p.finish(key, l, r)
	}
}

// finish takes the end of a lane's first record and returns the next; nil when
// the lane has ended.
func (p *partition) finish(key string, l *lane, r *record) *record {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.window.finish(r.offset)
	select {
	case p.changed <- struct{}{}:
	default:
	}
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		delete(p.lanes, key)
		return nil
	}
	return l.queue[0]
}

// drain waits for the calls that are running, first in patience, then with
// their contexts ended.
func (p *partition) drain(abort func()) {
	done := make(chan struct{})
	go func() {
		p.work.Wait()
		close(done)
	}()
	timer := time.AfterFunc(p.processor.options.DrainTimeout, abort)
	defer timer.Stop()
	limit := time.NewTimer(p.processor.options.DrainTimeout + drainGrace)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		p.processor.options.Logger.Error("a task does not return though its context has ended", "source", p.source)
	}
}

// commit marks what is finished, after a Flusher made it durable.
func (p *partition) commit(ctx context.Context) {
	p.mu.Lock()
	next := p.window.next
	p.mu.Unlock()
	if next == p.committed || next < 0 {
		return
	}
	if f, ok := p.processor.task.(Flusher); ok {
		ctx, cancel := context.WithTimeout(ctx, p.processor.options.DrainTimeout)
		defer cancel()
		if err := f.Flush(ctx, p.source, next); err != nil {
			p.processor.options.Logger.Error("flush failed; nothing is committed", "source", p.source, "error", err)
			return
		}
	}
	p.flow.Mark(next)
	p.committed = next
}

// progress is where a partition stands.
func (p *partition) progress() (next int64, oldest time.Time, busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest, busy = p.window.oldest()
	return p.window.next, oldest, busy
}
