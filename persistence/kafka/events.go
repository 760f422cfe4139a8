package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/persistence"
)

// EventsOptions are those of the topic of events.
type EventsOptions struct {
	// Connection has the brokers, how to connect to them and the replicas of a
	// new topic. Its topic, shards and what concerns appends are not looked at.
	Connection Options
	// Topic must be given.
	Topic string
	// Partitions of the topic, 1 to 32,767. It never changes: it decides in which
	// one the events of a user lie.
	Partitions int
	// Retention is for how long ApplyEventsSchema has Kafka keep events, at least
	// a second.
	Retention time.Duration
	// Spacing is the least time between two requests: what comes in between goes
	// together. Default 5 ms; negative for none.
	Spacing time.Duration
}

// Events publishes events to a topic, by the hash of the user that Kafka's own
// clients use. It is a persistence.Publisher.
//
// One round is under way at a time, a request to each broker that leads a
// partition of it, with acks=all; what waits meanwhile goes in the next. So
// everything published by one process has one order, and nothing is sent again
// here: a publication of which not every partition has its part fails, and is
// its owner's to repeat.
type Events struct {
	options Options // Topic and Shards are the events' topic and its partitions
	spacing time.Duration
	config  *sarama.Config
	routes  *routes
	links   *pool

	// running ends when the publisher closes.
	running    context.Context //nolint:containedctx // the publisher's life
	end        context.CancelFunc
	goroutines sync.WaitGroup
	wake       chan struct{} // holds at most one token

	mu      sync.Mutex // guards the following
	waiting []*publication
	closed  bool
}

var _ persistence.Publisher = (*Events)(nil)

// publication is a call of Publish.
type publication struct {
	events []persistence.Event
	size   int
	done   func(error)
}

// OpenEvents opens the topic of events, which ApplyEventsSchema made. It fails
// when no broker answers in time (ErrUnavailable), and when the topic is not there or has another
// number of partitions.
func OpenEvents(ctx context.Context, options EventsOptions) (*Events, error) {
	e, err := startEvents(ctx, &options)
	if err == nil {
		if err = e.checkPartitions(); err == nil {
			e.goroutines.Go(e.run)
			return e, nil
		}
		_ = e.Close()
	}
	return nil, fmt.Errorf("open events: %w", err)
}

// startEvents connects without looking at the topic.
func startEvents(ctx context.Context, options *EventsOptions) (*Events, error) {
	connection, err := options.complete()
	if err != nil {
		return nil, err
	}
	config, err := connection.config(connection.ClientID + "-events")
	if err != nil {
		return nil, err
	}
	e := &Events{
		options: connection, spacing: options.Spacing, config: config,
		links: newPool(config), wake: make(chan struct{}, 1),
	}
	e.running, e.end = context.WithCancel(context.WithoutCancel(ctx))
	e.routes = newRoutes(&e.options, config, []string{e.options.Topic}, func() {})
	if err := e.routes.fetch(ctx); err != nil {
		e.end()
		return nil, Unanswered(ctx, err)
	}
	e.goroutines.Go(func() { e.routes.run(e.running) })
	return e, nil
}

// complete checks the options and fills in the defaults.
func (o *EventsOptions) complete() (Options, error) {
	orDefault(&o.Spacing, 5*time.Millisecond)
	connection := o.Connection
	connection.Topic, connection.Shards = o.Topic, o.Partitions
	switch {
	case o.Topic == "":
		return connection, errors.New("no topic given")
	case o.Partitions < 1 || o.Partitions > math.MaxInt16:
		return connection, fmt.Errorf("%d partitions: must be 1 to %d", o.Partitions, math.MaxInt16)
	case o.Retention < time.Second:
		return connection, fmt.Errorf("retention of %v: must be at least a second", o.Retention)
	}
	return connection, connection.complete()
}

// Publish implements persistence.Publisher.
func (e *Events) Publish(events []persistence.Event, done func(error)) {
	p := &publication{events: events, done: done}
	for _, event := range events {
		p.size += len(event.User) + len(event.Data) + entryOverhead
	}
	e.mu.Lock()
	closed := e.closed
	if !closed {
		e.waiting = append(e.waiting, p)
	}
	e.mu.Unlock()
	if closed {
		done(persistence.ErrClosed)
		return
	}
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Close ends the publisher. What is under way may be published or not.
func (e *Events) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.end()
	e.goroutines.Wait()
	e.links.close()
	return nil
}

// run publishes what waits, round after round, until the publisher closes.
func (e *Events) run() {
	defer e.refuseWaiting()
	var began time.Time
	var failing outage
	for {
		select {
		case <-e.running.Done():
			return
		case <-e.wake:
		}
		for {
			if wait := e.spacing - time.Since(began); wait > 0 && !pause(e.running, wait) {
				return
			}
			began = time.Now()
			round := e.take()
			if len(round) == 0 {
				break
			}
			e.publish(round, &failing)
		}
	}
}

func (e *Events) refuseWaiting() {
	e.mu.Lock()
	waiting := e.waiting
	e.waiting = nil
	e.mu.Unlock()
	for _, p := range waiting {
		p.done(persistence.ErrClosed)
	}
}

// roundBytes bounds a round beyond its first publication, so that no partition
// gets a larger batch than its topic takes.
const roundBytes = 512 << 10

// take takes the publications of the next round.
func (e *Events) take() []*publication {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, size := 0, 0
	for n < len(e.waiting) && (n == 0 || size+e.waiting[n].size <= roundBytes) {
		size += e.waiting[n].size
		n++
	}
	round := e.waiting[:n:n]
	if e.waiting = e.waiting[n:]; len(e.waiting) == 0 {
		e.waiting = nil
	}
	return round
}

// publish sends a round and ends its publications.
func (e *Events) publish(round []*publication, failing *outage) {
	ctx, cancel := context.WithTimeoutCause(e.running, e.options.Timeout, errNoAnswer)
	defer cancel()
	failed := e.send(ctx, round)
	if len(failed) == 0 {
		failing.over()
	} else {
		e.routes.refresh()
		if e.running.Err() == nil && failing.due() {
			e.options.Logger.Warn("events are not published; it is repeated until it succeeds", "error", anyOf(failed))
		}
	}
	for _, p := range round {
		p.done(e.outcome(p, failed))
	}
}

// outcome returns what became of a publication: an error when one of its
// partitions has one.
func (e *Events) outcome(p *publication, failed map[int32]error) error {
	if len(failed) == 0 {
		return nil
	}
	if e.running.Err() != nil {
		return persistence.ErrClosed
	}
	for i := range p.events {
		if err := failed[e.partition(p.events[i].User)]; err != nil {
			return err
		}
	}
	return nil
}

func anyOf(failed map[int32]error) error {
	for _, err := range failed {
		return err
	}
	return nil
}

func (e *Events) partition(user string) int32 {
	return partitionOf(user, int32(e.options.Shards))
}

// send sends the events of a round, each partition's in one batch, and returns
// the errors by partition.
func (e *Events) send(ctx context.Context, round []*publication) map[int32]error {
	requests, failed := e.requests(round)
	var sending sync.WaitGroup
	var mu sync.Mutex // guards failed
	for address, r := range requests {
		sending.Go(func() {
			var response *sarama.ProduceResponse
			err := e.links.call(ctx, address, func(broker *sarama.Broker) (err error) {
				response, err = broker.Produce(r.request)
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			for _, partition := range r.partitions {
				if err := e.landed(response, partition, err); err != nil {
					failed[partition] = fmt.Errorf("events to partition %d at broker %s: %w", partition, address, err)
				}
			}
		})
	}
	sending.Wait()
	return failed
}

func (e *Events) landed(response *sarama.ProduceResponse, partition int32, err error) error {
	if err != nil {
		return err
	}
	block := response.GetBlock(e.options.Topic, partition)
	if block == nil {
		return errIncomplete
	}
	return refusal(block.Err)
}

// eventsRequest is what one broker gets of a round.
type eventsRequest struct {
	request    *sarama.ProduceRequest
	partitions []int32
}

// requests builds a request for each broker. Partitions that nobody leads have
// failed already.
func (e *Events) requests(round []*publication) (requests map[string]*eventsRequest, failed map[int32]error) {
	requests, failed = make(map[string]*eventsRequest), make(map[int32]error)
	table, now := e.routes.current.Load(), time.Now()
	for partition, batch := range e.batches(round, now) {
		leader := table.shards[partition]
		if leader == "" {
			failed[partition] = fmt.Errorf("events to partition %d: no broker leads it", partition)
			continue
		}
		r := requests[leader]
		if r == nil {
			r = &eventsRequest{request: newProduceRequest(&e.options)}
			requests[leader] = r
		}
		r.request.AddBatch(e.options.Topic, partition, batch)
		r.partitions = append(r.partitions, partition)
	}
	return requests, failed
}

// batches sorts the events of a round by partition, in their order.
func (e *Events) batches(round []*publication, now time.Time) map[int32]*sarama.RecordBatch {
	batches := make(map[int32]*sarama.RecordBatch)
	for _, p := range round {
		for i := range p.events {
			partition := e.partition(p.events[i].User)
			batch := batches[partition]
			if batch == nil {
				batch = emptyBatch(now)
				batches[partition] = batch
			}
			batch.LastOffsetDelta = int32(len(batch.Records))
			batch.Records = append(batch.Records, &sarama.Record{
				OffsetDelta: int64(len(batch.Records)), Key: []byte(p.events[i].User), Value: p.events[i].Data,
			})
		}
	}
	return batches
}
