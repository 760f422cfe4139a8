package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/persistence"
)

// sender sends the appends of the shards that one broker leads, on a connection
// of its own, several requests at a time. Each request takes whatever is ready.
type sender struct {
	j       *Journal
	address string
	ready   []uint32 // guarded by the queue's mutex
	wake    chan struct{}
	slots   chan struct{} // a token for each request on its way

	// link and sent, the time of the last request, belong to the sender's
	// goroutine. unhook keeps the end of the journal from ending the link. broken
	// gets the link on which a request failed.
	link    *link
	unhook  func() bool
	sent    time.Time
	failing outage
	broken  chan *link
}

func newSender(j *Journal, address string) *sender {
	return &sender{
		j:       j,
		address: address,
		wake:    make(chan struct{}, 1),
		slots:   make(chan struct{}, j.options.InFlight),
		broken:  make(chan *link, j.options.InFlight),
	}
}

func (s *sender) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends until the journal ends.
func (s *sender) run() {
	defer s.disconnect()
	for {
		select {
		case <-s.j.running.Done():
			return
		case l := <-s.broken:
			s.giveUp(l)
			continue
		case <-s.wake:
		}
		if !s.drain() {
			return
		}
	}
}

// drain sends until nothing is ready. It reports false when the journal ended.
func (s *sender) drain() bool {
	for s.wanted() {
		// A connection comes first: what is taken is as good as sent.
		if s.link == nil || time.Since(s.link.used) > maxIdle {
			if !s.connect() {
				return false
			}
			continue
		}
		select {
		case <-s.j.running.Done():
			return false
		case l := <-s.broken:
			s.giveUp(l)
			continue
		case s.slots <- struct{}{}:
		}
		if wait := s.j.options.Spacing - time.Since(s.sent); wait > 0 && !pause(s.j.running, wait) {
			<-s.slots
			return false
		}
		flights := s.j.queue.take(s)
		if len(flights) == 0 {
			<-s.slots
			continue
		}
		s.send(flights)
	}
	return true
}

// connect tries once to make a connection, and pauses if it cannot. It reports
// false when the journal ended.
func (s *sender) connect() bool {
	s.disconnect()
	l, err := connect(s.j.running, s.j.config, s.address)
	if err == nil {
		// A write that hangs is not to hold up the end of the journal.
		s.link, s.unhook = l, context.AfterFunc(s.j.running, l.kill)
		s.failing.over()
		return true
	}
	if s.j.running.Err() != nil {
		return false
	}
	// Another broker may lead by now: reroute then empties the list.
	if s.failing.due() {
		s.j.options.Logger.Warn("appends wait for a broker", "broker", s.address, "error", err)
	}
	s.j.routes.refresh()
	return pause(s.j.running, refreshPause)
}

func (s *sender) wanted() bool {
	s.j.queue.mu.Lock()
	defer s.j.queue.mu.Unlock()
	return len(s.ready) > 0
}

func (s *sender) disconnect() {
	if s.link != nil {
		s.unhook()
		s.link.close()
		s.link = nil
	}
}

func (s *sender) giveUp(l *link) {
	if l == s.link {
		s.disconnect()
		s.j.routes.refresh()
	}
}

// request builds the produce request of some flights.
func (s *sender) request(flights []flight) *sarama.ProduceRequest {
	request := newProduceRequest(&s.j.options)
	for _, f := range flights {
		request.AddBatch(s.j.options.Topic, int32(f.shard), newBatch(f))
	}
	return request
}

// newProduceRequest returns a request without batches.
func newProduceRequest(o *Options) *sarama.ProduceRequest {
	return &sarama.ProduceRequest{
		// The last version before the flexible ones, which sarama encodes at
		// greater cost and no use here.
		Version:      8,
		RequiredAcks: sarama.WaitForAll,
		// The leader answers before this side gives up.
		Timeout: int32(max(o.Timeout*2/3/time.Millisecond, 1)),
	}
}

// emptyBatch returns a batch without records.
func emptyBatch(at time.Time) *sarama.RecordBatch {
	return &sarama.RecordBatch{
		Version:        2,
		FirstTimestamp: at,
		MaxTimestamp:   at,
		// No producer: the broker knows of no sequence.
		ProducerID:    -1,
		ProducerEpoch: -1,
		FirstSequence: -1,
	}
}

// newBatch makes one batch of a flight's records.
func newBatch(f flight) *sarama.RecordBatch {
	records := make([]sarama.Record, f.records)
	batch := emptyBatch(f.at)
	batch.LastOffsetDelta = int32(f.records - 1)
	batch.Records = make([]*sarama.Record, f.records)
	n := 0
	for _, p := range f.appends {
		for _, data := range p.records {
			if data == nil {
				data = []byte{} // nil is something else to Kafka
			}
			records[n] = sarama.Record{OffsetDelta: int64(n), Value: data}
			batch.Records[n] = &records[n]
			n++
		}
	}
	return batch
}

// send sends flights in one request. The slot comes back with the answer.
func (s *sender) send(flights []flight) {
	l, topic := s.link, s.j.options.Topic
	s.sent = time.Now()
	l.used = s.sent
	// The answer may come before AsyncProduce returns.
	written := make(chan struct{})
	err := l.broker.AsyncProduce(s.request(flights), func(response *sarama.ProduceResponse, err error) {
		<-written
		// It runs on the connection's own goroutine, which must not close it.
		if err != nil {
			s.lost(l, flights, err)
		} else {
			for _, f := range flights {
				s.land(f, response.GetBlock(topic, int32(f.shard)))
			}
		}
		<-s.slots
	})
	s.j.queue.wrote(flights)
	close(written)
	if err != nil {
		s.lost(l, flights, err)
		<-s.slots
	}
}

// lost ends flights of which no answer will come.
func (s *sender) lost(l *link, flights []flight, err error) {
	select {
	case s.broken <- l:
	default: // it says so already
	}
	s.j.options.Logger.Warn("connection to a broker lost; the outcome of appends is unknown", "broker", s.address, "batches", len(flights), "error", err)
	err = fmt.Errorf("%w: broker %s: %w", persistence.ErrUnknownOutcome, s.address, err)
	for _, f := range flights {
		s.j.queue.landed(f, persistence.Position{}, 0, err)
	}
}

// land ends a flight with the broker's answer.
func (s *sender) land(f flight, answer *sarama.ProduceResponseBlock) {
	first, at, err := s.j.outcome(f, answer)
	if err != nil && errors.Is(err, persistence.ErrUnknownOutcome) {
		s.j.routes.refresh()
	}
	s.j.queue.landed(f, first, at, err)
	if err == nil {
		s.j.tails.grown(f.shard, first.Offset+int64(f.records))
	}
}

// outcome reads a broker's answer about one batch.
func (j *Journal) outcome(f flight, answer *sarama.ProduceResponseBlock) (first persistence.Position, at int64, err error) {
	switch {
	case answer == nil:
		return first, 0, fmt.Errorf("%w: the broker says nothing of shard %d", persistence.ErrUnknownOutcome, f.shard)
	case answer.Err == sarama.ErrNoError && answer.Timestamp.IsZero() && !j.options.senderTime:
		// Written with the sender's time: only reading tells what it says.
		j.options.Logger.Error("the topic no longer has message.timestamp.type=LogAppendTime; set it back", "topic", j.options.Topic)
		return first, 0, fmt.Errorf("%w: the broker gave no log time", persistence.ErrUnknownOutcome)
	case answer.Err == sarama.ErrNoError:
		first = persistence.Position{Generation: j.generations.of(f.shard, answer.Offset), Offset: answer.Offset}
		if j.options.senderTime {
			return first, f.at.UnixMilli(), nil
		}
		return first, answer.Timestamp.UnixMilli(), nil
	case neverWritten(answer.Err):
		return first, 0, fmt.Errorf("append to shard %d refused: %w", f.shard, answer.Err)
	default:
		return first, 0, fmt.Errorf("%w: append to shard %d: %w", persistence.ErrUnknownOutcome, f.shard, answer.Err)
	}
}

// neverWritten tells the errors that a broker finds before it writes, and that
// repeating does not mend. Every other one may stand for records that are in the
// log: a leader that waits for replicas also reports what happens meanwhile, and
// so NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION and KAFKA_STORAGE_ERROR
// prove nothing.
func neverWritten(err sarama.KError) bool {
	switch err {
	case sarama.ErrMessageSizeTooLarge, sarama.ErrMessageSetSizeTooLarge, sarama.ErrInvalidMessage,
		sarama.ErrInvalidRecord, sarama.ErrInvalidTimestamp, sarama.ErrInvalidRequiredAcks,
		sarama.ErrTopicAuthorizationFailed, sarama.ErrUnsupportedForMessageFormat:
		return true
	default:
		return false
	}
}
