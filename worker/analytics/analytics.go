// Package analytics is the task that counts messages by the minute of their log
// time: an example of a task that keeps state.
//
// The counts lie in a compacted topic, a record for each minute of each
// partition of the events. Beside the count a record holds the offset up to
// which that minute's events are in it, so that one which is handed in again
// after a crash, or to another worker, counts once. The messages of a minute are
// the sum over its records.
//
// An event that was published again is another record of the topic of events. It
// is known by the place of the newest one of its user, which lies in a record of
// the counts' topic too: a user's events come in order, so that one which is not
// above that was counted. Places are kept for a day of log time.
package analytics

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/worker"
)

// DefaultTopic is the topic of the counts.
const DefaultTopic = "tegami.analytics.minutes"

// Keep is how long counts are kept, keepPlaces how long places are, in log time.
const (
	Keep       = 7 * 24 * time.Hour
	keepPlaces = 24 * time.Hour
)

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

// place is the newest event of a user that was counted, as it lies in the topic
// among the counts: it has no messages.
type place struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	User      string `json:"user"`
	// Generation, Offset and Index are those of the event, Time is its log time in
	// milliseconds since 1970.
	Generation uint32 `json:"generation"`
	Offset     int64  `json:"offset"`
	Index      uint32 `json:"index"`
	Time       int64  `json:"time"`
}

func (p *place) key() string { return fmt.Sprintf("%s/%d/user/%s", p.Topic, p.Partition, p.User) }

// above reports whether an event is newer.
func (p *place) above(newest *place) bool {
	return cmp.Or(cmp.Compare(p.Generation, newest.Generation), cmp.Compare(p.Offset, newest.Offset), cmp.Compare(p.Index, newest.Index)) > 0
}

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
	places  map[string]place  // by user
	pending map[int64]message // by offset in the topic of events
	newest  int64             // minute, when the old ones were last dropped
}

// message is one that is to be counted.
type message struct {
	minute int64
	place  place
	// retried: it was a dead letter, and comes in no order.
	retried bool
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
	c := &counts{minutes: map[int64]Count{}, places: map[string]place{}, pending: map[int64]message{}}
	var bad error
	err = t.log.ReadAll(ctx, t.topic, partition, func(m *sarama.ConsumerMessage) {
		if err := c.read(source, m.Value); err != nil {
			bad = fmt.Errorf("count %q at offset %d: %w", m.Key, m.Offset, err)
		}
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return err
	}
	newest := int64(0)
	for minute := range c.minutes {
		newest = max(newest, minute)
	}
	c.forget(newest)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sources[source] = c
	return nil
}

// read takes in a record of the topic, if it is of the source.
func (c *counts) read(source worker.Source, value []byte) error {
	var p place
	if err := json.Unmarshal(value, &p); err != nil || p.Topic != source.Topic || p.Partition != source.Partition {
		return err
	}
	if p.User != "" {
		c.places[p.User] = p
		return nil
	}
	var count Count
	if err := json.Unmarshal(value, &count); err != nil {
		return err
	}
	c.minutes[count.Minute] = count
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
	c.pending[event.Offset] = message{minute: minute, retried: event.Retried, place: place{
		Topic: event.Source.Topic, Partition: event.Source.Partition, User: event.GetUser(),
		Generation: event.GetGeneration(), Offset: event.GetOffset(), Index: event.GetIndex(), Time: event.GetTime(),
	}}
	return nil
}

// errNotAssigned says that a call outlived the assignment of its source.
var errNotAssigned = errors.New("the source is not assigned")

// Flush implements worker.Flusher: it writes the minutes that changed, and then the
// places. A place without its minute would have a message not counted; a minute
// without its places only has them found out again.
func (t *Task) Flush(ctx context.Context, source worker.Source, next int64) error {
	minutes, places, err := t.changes(source, next)
	if err != nil {
		return err
	}
	partition, err := t.partition(source)
	if err != nil {
		return err
	}
	var counted, placed []*sarama.ProducerMessage
	for _, count := range minutes {
		if counted, err = t.append(counted, partition, count.key(), count); err != nil {
			return err
		}
	}
	for _, place := range places {
		if placed, err = t.append(placed, partition, place.key(), place); err != nil {
			return err
		}
	}
	// After an error some may be there. They are written again with what came
	// since, or found with their Next by the next owner.
	for _, records := range [][]*sarama.ProducerMessage{counted, placed} {
		if len(records) == 0 {
			continue
		}
		if err := t.log.Append(ctx, records...); err != nil {
			return err
		}
	}
	t.take(source, minutes, places, next)
	return nil
}

// append appends a record of the topic.
func (t *Task) append(records []*sarama.ProducerMessage, partition int32, key string, value any) ([]*sarama.ProducerMessage, error) {
	encoded, err := json.Marshal(value)
	return append(records, &sarama.ProducerMessage{
		Topic: t.topic, Partition: partition, Key: sarama.StringEncoder(key), Value: sarama.ByteEncoder(encoded),
	}), err
}

// changes returns the new counts of the minutes that have pending events below
// next, and the new places of their users.
func (t *Task) changes(source worker.Source, next int64) (minutes map[int64]Count, places map[string]place, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.sources[source]
	if c == nil {
		return nil, nil, errNotAssigned
	}
	minutes, places = map[int64]Count{}, map[string]place{}
	for _, offset := range slices.Sorted(maps.Keys(c.pending)) {
		if offset >= next {
			break
		}
		m := c.pending[offset]
		if !m.retried {
			newest, known := places[m.place.User]
			if !known {
				newest, known = c.places[m.place.User]
			}
			if known && !m.place.above(&newest) {
				continue // published again
			}
			places[m.place.User] = m.place
		}
		if offset < c.minutes[m.minute].Next {
			continue
		}
		count, known := minutes[m.minute]
		if !known {
			count = c.minutes[m.minute]
			count.Topic, count.Partition, count.Minute, count.Next = source.Topic, source.Partition, m.minute, next
		}
		count.Messages++
		minutes[m.minute] = count
	}
	return minutes, places, nil
}

// take takes over what is durable, and forgets what the topic does too.
func (t *Task) take(source worker.Source, changed map[int64]Count, places map[string]place, next int64) {
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
	maps.Copy(c.places, places)
	maps.DeleteFunc(c.pending, func(offset int64, _ message) bool { return offset < next })
	c.forget(newest)
}

// forget drops minutes and places that are old beside a minute, which is 0 for
// none, and is not the newest one: then they were dropped before.
func (c *counts) forget(newest int64) {
	if newest <= c.newest {
		return
	}
	c.newest = newest
	oldest, oldestPlace := newest-int64(Keep/time.Second), (newest-int64(keepPlaces/time.Second))*1000
	maps.DeleteFunc(c.minutes, func(minute int64, _ Count) bool { return minute < oldest })
	maps.DeleteFunc(c.places, func(_ string, p place) bool { return p.Time < oldestPlace })
}
