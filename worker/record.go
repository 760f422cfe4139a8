package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
)

// record is one that was read, with the event in it.
type record struct {
	source     Source
	offset     int64
	time       time.Time
	key, value []byte
	// event is nil when err says why there is none.
	event *Event
	err   error
}

// taskHeader names the task that a record of the topic of retries is for.
const taskHeader = "tegami-task"

// taskOf returns the task that a record is for; empty for all.
func taskOf(m *sarama.ConsumerMessage) string {
	for _, header := range m.Headers {
		if string(header.Key) == taskHeader {
			return string(header.Value)
		}
	}
	return ""
}

func decode(m *sarama.ConsumerMessage) *record {
	r := &record{
		source: Source{m.Topic, m.Partition}, offset: m.Offset, time: m.Timestamp,
		key: m.Key, value: m.Value,
	}
	event := new(eventsv1.Event)
	err := proto.Unmarshal(m.Value, event)
	switch {
	case err != nil:
		r.err = Permanent(fmt.Errorf("decode the event: %w", err))
	case event.GetUser() == "":
		r.err = Permanent(errors.New("decode the event: it names no user"))
	default:
		r.event = &Event{
			Event: event, ID: eventID(event), Source: r.source, Offset: m.Offset, Published: m.Timestamp,
			Retried: taskOf(m) != "",
		}
	}
	return r
}
