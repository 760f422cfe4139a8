// Package push is the task that tells a push gateway of messages for devices
// that hold no poll.
package push

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tegami-im/tegami/worker"
)

// Poster sends a body under an id; hook.Client does.
type Poster interface {
	Post(ctx context.Context, id string, body []byte) error
}

// Notification is the body that is posted.
type Notification struct {
	User string `json:"user"`
	// Devices that held no poll when the message came.
	Devices   []string `json:"devices"`
	MessageID string   `json:"message_id"`
	From      string   `json:"from"`
	// Time of the message, in milliseconds since 1970.
	Time int64 `json:"time"`
}

// Task is a worker.Task.
type Task struct {
	poster Poster
	maxAge time.Duration
	now    func() time.Time
}

// New returns a task that posts notifications of messages that are not older
// than maxAge: after an outage nobody wants to be told of what is long past.
func New(poster Poster, maxAge time.Duration) *Task {
	return &Task{poster: poster, maxAge: maxAge, now: time.Now}
}

// Handle implements worker.Task. The event's id is that of the request.
func (t *Task) Handle(ctx context.Context, event *worker.Event) error {
	received := event.GetMessageReceived()
	if len(received.GetAbsentDevices()) == 0 || t.now().Sub(time.UnixMilli(event.GetTime())) > t.maxAge {
		return nil
	}
	body, err := json.Marshal(Notification{
		User: event.GetUser(), Devices: received.GetAbsentDevices(),
		MessageID: received.GetMessageId(), From: received.GetFrom(), Time: event.GetTime(),
	})
	if err != nil {
		return worker.Permanent(err)
	}
	return t.poster.Post(ctx, event.ID, body)
}
