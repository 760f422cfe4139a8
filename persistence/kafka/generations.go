package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/persistence"
)

// generations says which generation an offset of a shard belongs to. It is what
// the topic of the generations holds: for the key shard/N a list of spans in
// JSON, the newest record of a key counting, and for the key topic the id that
// Kafka gave to the topic of the records.
type generations struct {
	reading chan struct{} // holds a token while somebody reads on; guards next
	next    int64
	state   atomic.Pointer[generationState]
}

// generationState never changes once it is stored.
type generationState struct {
	next  int64 // records below it are in it
	spans map[uint32][]span
	topic string
}

// span is a generation and the offset that it starts at.
type span struct {
	Generation uint32 `json:"generation"`
	From       int64  `json:"from"`
}

const (
	shardKey = "shard/"
	topicKey = "topic"
)

func (g *generations) load() *generationState {
	if s := g.state.Load(); s != nil {
		return s
	}
	return &generationState{}
}

// known returns the offset up to which the topic of the generations was read.
func (g *generations) known() int64 { return g.load().next }

// of returns the generation of an offset.
func (g *generations) of(shard uint32, offset int64) uint32 {
	return generationOf(g.load().spans[shard], offset)
}

func generationOf(spans []span, offset int64) uint32 {
	generation := uint32(1)
	for _, s := range spans {
		if s.From <= offset {
			generation = s.Generation
		}
	}
	return generation
}

// last returns the newest generation of a shard. It is that of the next append,
// unless the log went back to before it: then the store's positions lie beyond
// the log's end in it, and the shard does not open.
func (g *generations) last(shard uint32) uint32 {
	spans := g.load().spans[shard]
	if len(spans) == 0 {
		return 1
	}
	return spans[len(spans)-1].Generation
}

// follow returns a shard's spans with a new generation that starts at next.
// Those that would start there or later have no records, or lost them.
func follow(spans []span, next int64) []span {
	generation := uint32(1)
	var kept []span
	for _, s := range spans {
		generation = s.Generation
		if s.From < next {
			kept = append(kept, s)
		}
	}
	return append(kept, span{Generation: generation + 1, From: next})
}

// read takes one record of the topic into the state.
func (s *generationState) read(key, value string) error {
	switch name, isShard := strings.CutPrefix(key, shardKey); {
	case key == topicKey:
		s.topic = value
		return nil
	case isShard:
		shard, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		var spans []span
		if err := json.Unmarshal([]byte(value), &spans); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		for i := range spans {
			if i > 0 && (spans[i].Generation <= spans[i-1].Generation || spans[i].From <= spans[i-1].From) || spans[i].Generation == 0 {
				return fmt.Errorf("key %q: generations %v do not rise", key, spans)
			}
		}
		s.spans[uint32(shard)] = spans
		return nil
	default:
		return fmt.Errorf("unknown key %q", key)
	}
}

// refreshGenerations reads on in the topic of the generations, to its end.
func (j *Journal) refreshGenerations(ctx context.Context) error {
	g := &j.generations
	select {
	case g.reading <- struct{}{}:
		defer func() { <-g.reading }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		var block *sarama.FetchResponseBlock
		err := j.ask(ctx, func(t *table) string { return t.generations }, func(broker *sarama.Broker) (err error) {
			block, err = fetch(broker, j.options.generationsTopic(), 0, g.next, 1<<20)
			return err
		})
		if errors.Is(err, sarama.ErrOffsetOutOfRange) {
			return fmt.Errorf("%w: topic %s was deleted or cut: restart this process, or make the topics with schema apply", persistence.ErrDamaged, j.options.generationsTopic())
		}
		if err != nil {
			return err
		}
		if err := j.takeGenerations(block); err != nil {
			return fmt.Errorf("%w: topic %s: %w", persistence.ErrDamaged, j.options.generationsTopic(), err)
		}
		if g.next >= block.HighWaterMarkOffset {
			return nil
		}
		if len(block.RecordsSet) == 0 {
			return errIncomplete
		}
	}
}

// takeGenerations takes a page of the topic. The caller holds reading.
func (j *Journal) takeGenerations(block *sarama.FetchResponseBlock) error {
	g := &j.generations
	before := g.load()
	if len(block.RecordsSet) == 0 && before.spans != nil {
		return nil
	}
	after := &generationState{next: g.next, spans: map[uint32][]span{}, topic: before.topic}
	maps.Copy(after.spans, before.spans)
	for _, set := range block.RecordsSet {
		batch := set.RecordBatch
		if batch == nil || batch.PartialTrailingRecord {
			continue
		}
		for _, record := range batch.Records {
			if batch.FirstOffset+record.OffsetDelta < g.next {
				continue
			}
			if err := after.read(string(record.Key), string(record.Value)); err != nil {
				return err
			}
		}
		// Compaction takes records out, but leaves the batch its last offset.
		after.next = max(after.next, batch.LastOffset()+1)
	}
	g.next = after.next
	g.state.Store(after)
	return nil
}

// write appends one record to the topic of the generations, and reads it back.
func (j *Journal) write(ctx context.Context, key, value string) error {
	now := time.Now()
	request := &sarama.ProduceRequest{
		Version:      8,
		RequiredAcks: sarama.WaitForAll,
		Timeout:      int32(max(j.options.Timeout*2/3/time.Millisecond, 1)),
	}
	request.AddBatch(j.options.generationsTopic(), 0, &sarama.RecordBatch{
		Version: 2, FirstTimestamp: now, MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		Records: []*sarama.Record{{Key: []byte(key), Value: []byte(value)}},
	})
	// Twice the same record is the same as once.
	err := j.ask(ctx, func(t *table) string { return t.generations }, func(broker *sarama.Broker) error {
		response, err := broker.Produce(request)
		if err != nil {
			return err
		}
		block := response.GetBlock(j.options.generationsTopic(), 0)
		if block == nil {
			return errIncomplete
		}
		return refusal(block.Err)
	})
	if err != nil {
		return err
	}
	return j.refreshGenerations(ctx)
}

// StartGeneration implements persistence.Journal. It is for a shard that no
// owner appends to: another node learns of the new generation a moment later.
func (j *Journal) StartGeneration(ctx context.Context, shard uint32) error {
	ctx, leave, err := j.enter(ctx, shard)
	if err != nil {
		return err
	}
	defer leave()
	if err := j.startGeneration(ctx, shard); err != nil {
		return fmt.Errorf("start a generation of shard %d: %w", shard, err)
	}
	return nil
}

func (j *Journal) startGeneration(ctx context.Context, shard uint32) error {
	if err := j.refreshGenerations(ctx); err != nil {
		return err
	}
	_, next, err := j.bounds(ctx, shard)
	if err != nil {
		return err
	}
	spans, err := json.Marshal(follow(j.generations.load().spans[shard], next))
	if err != nil {
		return err
	}
	return j.write(ctx, shardKey+strconv.FormatUint(uint64(shard), 10), string(spans))
}
