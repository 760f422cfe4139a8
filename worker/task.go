package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
)

// Task does something with each event.
type Task interface {
	// Handle handles one event. It is called by many goroutines at a time, for
	// different keys, and must return soon after the context ends, which it does
	// after Options.Timeout, or a while after the partition was taken away.
	//
	// An error has the event handed in again later, after the error's own delay
	// if it came from RetryAfter; one from Permanent, or the last of
	// Options.Attempts, makes it a dead letter. A panic counts as an error.
	//
	// Since an event may come again, what Handle does should be idempotent by
	// Event.ID, or harmless when done twice. The event must not be changed.
	Handle(ctx context.Context, event *Event) error
}

// Flusher is a Task that keeps state between events of a partition, which must
// be durable before the partition's offset is. Its calls for one source come
// one at a time, but beside calls of Handle.
type Flusher interface {
	Task
	// Assigned is called before the first event of a source. An error gives the
	// source back.
	Assigned(ctx context.Context, source Source) error
	// Flush makes durable what was handled of a source below the offset next.
	// Only when it returns nil is next committed. More than that may have been
	// handled: what lies at or above next may be handled again.
	Flush(ctx context.Context, source Source, next int64) error
	// Revoked is called when a source was taken away: it is handled elsewhere.
	Revoked(source Source)
}

// Source is a partition of a topic that events are read from.
type Source struct {
	Topic     string
	Partition int32
}

// String returns TOPIC/PARTITION.
func (s Source) String() string { return fmt.Sprintf("%s/%d", s.Topic, s.Partition) }

// Event is what a task handles.
type Event struct {
	*eventsv1.Event
	// ID names the event for ever: SHARD-GENERATION-OFFSET-INDEX, its place in the
	// journal. It is the same when the event is handed in, or published, again.
	ID string
	// Source and Offset say where the event was read.
	Source Source
	Offset int64
	// Published is when it came to be there.
	Published time.Time
	// Attempt counts from 1.
	Attempt int
	// Retried says that it was a dead letter, so that newer events of its key may
	// have been handled before it.
	Retried bool
}

func eventID(e *eventsv1.Event) string {
	return fmt.Sprintf("%d-%d-%d-%d", e.GetShard(), e.GetGeneration(), e.GetOffset(), e.GetIndex())
}

// Permanent says of an error that trying again is of no use. A nil error stays
// nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func isPermanent(err error) bool {
	_, ok := errors.AsType[permanentError](err)
	return ok
}

// RetryAfter says of an error when to try again. The delay is bounded by
// Options.MaxDelay, and never shorter than the back-off. A nil error stays nil.
func RetryAfter(err error, delay time.Duration) error {
	if err == nil {
		return nil
	}
	return delayedError{err, delay}
}

type delayedError struct {
	error
	delay time.Duration
}

func (e delayedError) Unwrap() error { return e.error }

func delayOf(err error) time.Duration {
	if delayed, ok := errors.AsType[delayedError](err); ok {
		return delayed.delay
	}
	return 0
}

// Judge tells how the processor takes an error of a task: whether it is
// permanent, and otherwise the delay that it asks for.
func Judge(err error) (permanent bool, delay time.Duration) {
	return isPermanent(err), delayOf(err)
}
