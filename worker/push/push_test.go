package push

import (
	"context"
	"slices"
	"testing"
	"time"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/worker"
)

// posts notes what is posted.
type posts []string

func (p *posts) Post(_ context.Context, id string, body []byte) error {
	*p = append(*p, id+" "+string(body))
	return nil
}

// Absent devices are told of messages that are not too old, and of nothing else.
func TestNotifications(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	message := func(age time.Duration, devices ...string) *eventsv1.Event {
		return &eventsv1.Event{
			User: "bob", Time: now.Add(-age).UnixMilli(),
			Kind: &eventsv1.Event_MessageReceived{MessageReceived: &eventsv1.MessageReceived{
				MessageId: "m1", From: "alice", AbsentDevices: devices,
			}},
		}
	}
	var got posts
	task := New(&got, time.Hour)
	task.now = func() time.Time { return now }
	for i, event := range []*eventsv1.Event{
		message(0, "phone", "tablet"),
		message(0),
		message(59*time.Minute, "phone"),
		message(61*time.Minute, "phone"),
		{User: "bob", Time: now.UnixMilli(), Kind: &eventsv1.Event_AccountCreated{AccountCreated: &eventsv1.AccountCreated{}}},
	} {
		if err := task.Handle(t.Context(), &worker.Event{Event: event, ID: string(rune('0' + i))}); err != nil {
			t.Error(err)
		}
	}
	if want := []string{
		`0 {"user":"bob","devices":["phone","tablet"],"message_id":"m1","from":"alice","time":1700000000000}`,
		`2 {"user":"bob","devices":["phone"],"message_id":"m1","from":"alice","time":1699996460000}`,
	}; !slices.Equal(got, want) {
		t.Errorf("posted %q", got)
	}
}
