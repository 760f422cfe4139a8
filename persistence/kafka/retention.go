package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// truncations remembers when each shard was truncated last: a truncation is
// several requests, and its caller comes every moment.
type truncations struct {
	mu   sync.Mutex // guards last
	last map[uint32]time.Time
}

// due reports whether it is time to truncate a shard, and counts that as done.
func (t *truncations) due(shard uint32, interval time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if last, ok := t.last[shard]; ok && now.Sub(last) < interval {
		return false
	}
	if t.last == nil {
		t.last = make(map[uint32]time.Time)
	}
	t.last[shard] = now
	return true
}

// Truncate implements persistence.Journal. Kafka frees a segment once all of it
// was let go. It writes the new start of a log down every minute: a broker that
// is killed may come back with what was truncated shortly before.
func (j *Journal) Truncate(ctx context.Context, shard uint32, before int64) error {
	ctx, leave, err := j.enter(ctx, shard)
	if err != nil {
		return err
	}
	defer leave()
	if !j.truncations.due(shard, j.options.TruncateInterval) {
		return nil // the next call lets go of it
	}
	if err := j.truncate(ctx, shard, before); err != nil {
		return fmt.Errorf("truncate journal of shard %d: %w", shard, err)
	}
	return nil
}

func (j *Journal) truncate(ctx context.Context, shard uint32, before int64) error {
	first, next, err := j.bounds(ctx, shard)
	if err != nil {
		return err
	}
	if before, err = j.keep(ctx, shard, min(before, next)); err != nil {
		return err
	}
	if before <= first {
		return nil
	}
	request := &sarama.DeleteRecordsRequest{
		Version: 1,
		Topics: map[string]*sarama.DeleteRecordsRequestTopic{
			j.options.Topic: {PartitionOffsets: map[int32]int64{int32(shard): before}},
		},
		Timeout: j.options.Timeout * 2 / 3,
	}
	err = j.ask(ctx, leaderOf(shard), func(broker *sarama.Broker) error {
		response, err := broker.DeleteRecords(request)
		if err != nil {
			return err
		}
		topic := response.Topics[j.options.Topic]
		if topic == nil || topic.Partitions[int32(shard)] == nil {
			return errIncomplete
		}
		return refusal(topic.Partitions[int32(shard)].Err)
	})
	if errors.Is(err, sarama.ErrOffsetOutOfRange) {
		// Another one truncates too, and further.
		if first, _, err := j.bounds(ctx, shard); err == nil && first >= before {
			return nil
		}
	}
	return err
}

// keep returns before, or the first offset that was written less than
// Options.Keep ago, whichever is lower.
func (j *Journal) keep(ctx context.Context, shard uint32, before int64) (int64, error) {
	if j.options.Keep == 0 {
		return before, nil
	}
	since := time.Now().Add(-j.options.Keep).UnixMilli()
	err := j.ask(ctx, leaderOf(shard), func(broker *sarama.Broker) error {
		kept, err := j.offset(broker, shard, since)
		if err == nil && kept >= 0 { // else everything is older
			before = min(before, kept)
		}
		return err
	})
	return before, err
}
