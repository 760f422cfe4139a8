// Package analytics is the task that counts messages by the minute of their log
// time: an example of a task that keeps state.
//
// The counts lie in a compacted topic, a record for each minute of each
// partition of the events. Beside the count a record holds the offset up to
// which that minute's events are in it, so that one which is handed in again
// after a crash, or to another worker, counts once. The messages of a minute are
// the sum over its records. Events that were published again after a change of
// owner are other records of the topic of events, and may count twice.
package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/worker"
)

// DefaultTopic is the topic of the counts.
const DefaultTopic = "tegami.analytics.minutes"

// Keep is how long counts are kept.
const Keep = 7 * 24 * time.Hour

// Spec returns how the topic is made.
func Spec(topic string) worker.TopicSpec {
	return worker.TopicSpec{Name: topic, Partitions: 16, Compact: true, Keep: Keep}
}

// Count is the value of a record of the topic, as JSON.
type Count struct {
	// Topic and Partition that the events were read from.
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Minute begins then, in seconds since 1970.
	Minute int64 `json:"minute"`
	// Messages received in it, of the events below the offset Next.
	Messages int64 `json:"messages"`
	Next     int64 `json:"next"`
}

func (c Count) key() string { return fmt.Sprintf("%s/%d/%d", c.Topic, c.Partition, c.Minute) }

// Log holds the counts; worker.Log does.
type Log interface {
	Partitions(topic string) (int32, error)
	Append(ctx context.Context, records ...*sarama.ProducerMessage) error
	ReadAll(ctx context.Context, topic string, partition int32, take func(*sarama.ConsumerMessage)) error
}

// Task is a worker.Flusher.
type Task struct {
	log     Log
	topic   string
	counted func(messages int64)

	mu      sync.Mutex // guards the following
	sources map[worker.Source]*counts
}

// counts of a source. What is durable is in minutes; what was handled since
// waits until all before it is handled too.
type counts struct {
	minutes map[int64]Count
	pending map[int64]int64 // minute by offset
}

// New returns a task that keeps its counts in a topic and tells counted of each
// increase.
func New(log Log, topic string, counted func(messages int64)) *Task {
	return &Task{log: log, topic: topic, counted: counted, sources: map[worker.Source]*counts{}}
}

// partition is where the counts of a source lie.
func (t *Task) partition(source worker.Source) (int32, error) {
	n, err := t.log.Partitions(t.topic)
	if err != nil {
		return 0, err
	}
	return source.Partition % n, nil
}

// Assigned implements worker.Flusher: it reads the source's counts.
func (t *Task) Assigned(ctx context.Context, source worker.Source) error {
	partition, err := t.partition(source)
	if err != nil {
		return err
	}
	c := &counts{minutes: map[int64]Count{}, pending: map[int64]int64{}}
	var bad error
	err = t.log.ReadAll(ctx, t.topic, partition, func(m *sarama.ConsumerMessage) {
		var count Count
		if err := json.Unmarshal(m.Value, &count); err != nil {
			bad = fmt.Errorf("count %q at offset %d: %w", m.Key, m.Offset, err)
			return
		}
		if count.Topic == source.Topic && count.Partition == source.Partition {
			c.minutes[count.Minute] = count
		}
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sources[source] = c
	return nil
}

// Revoked implements worker.Flusher.
func (t *Task) Revoked(source worker.Source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sources, source)
}

// Handle implements worker.Task.
func (t *Task) Handle(_ context.Context, event *worker.Event) error {
	if event.GetMessageReceived() == nil {
		return nil
	}
	at := time.UnixMilli(event.GetTime()).Unix()
	minute := at - at%60
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.sources[event.Source]
	if c == nil {
		return errNotAssigned
	}
	if event.Offset >= c.minutes[minute].Next {
		c.pending[event.Offset] = minute
	}
	return nil
}

// errNotAssigned says that a call outlived the assignment of its source.
var errNotAssigned = errors.New("the source is not assigned")

// Flush implements worker.Flusher: it writes the minutes that changed.
func (t *Task) Flush(ctx context.Context, source worker.Source, next int64) error {
	changed, err := t.changes(source, next)
	if err != nil || len(changed) == 0 {
		return err
	}
	partition, err := t.partition(source)
	if err != nil {
		return err
	}
	var records []*sarama.ProducerMessage
	for _, count := range changed {
		value, err := json.Marshal(count)
		if err != nil {
			return err
		}
		records = append(records, &sarama.ProducerMessage{
			Topic: t.topic, Partition: partition,
			Key: sarama.StringEncoder(count.key()), Value: sarama.ByteEncoder(value),
		})
	}
	// After an error some may be there. They are written again with what came
	// since, or found with their Next by the next owner.
	if err := t.log.Append(ctx, records...); err != nil {
		return err
	}
	t.take(source, changed, next)
	return nil
}

// changes returns the new counts of the minutes that have pending events below
// next.
func (t *Task) changes(source worker.Source, next int64) (map[int64]Count, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.sources[source]
	if c == nil {
		return nil, errNotAssigned
	}
	changed := map[int64]Count{}
	for offset, minute := range c.pending {
		if offset >= next {
			continue
		}
		count, known := changed[minute]
		if !known {
			count = c.minutes[minute]
			count.Topic, count.Partition, count.Minute, count.Next = source.Topic, source.Partition, minute, next
		}
		count.Messages++
		changed[minute] = count
	}
	return changed, nil
}

// take takes over what is durable, and forgets what the topic does too.
func (t *Task) take(source worker.Source, changed map[int64]Count, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.sources[source]
	if c == nil {
		return
	}
	newest := int64(0)
	for minute, count := range changed {
		t.counted(count.Messages - c.minutes[minute].Messages)
		c.minutes[minute] = count
		newest = max(newest, minute)
	}
	maps.DeleteFunc(c.pending, func(offset, _ int64) bool { return offset < next })
	oldest := newest - int64(Keep/time.Second)
	maps.DeleteFunc(c.minutes, func(minute int64, _ Count) bool { return minute < oldest })
}
