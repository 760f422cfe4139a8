package webhook_test

import (
	"context"
	"slices"
	"testing"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/worker"
	"github.com/tegami-im/tegami/worker/webhook"
)

// posts notes what is posted.
type posts []string

func (p *posts) Post(_ context.Context, id string, body []byte) error {
	*p = append(*p, id+" "+string(body))
	return nil
}

func TestEventsArePostedByKind(t *testing.T) {
	received := &eventsv1.Event{
		User: "bob", Shard: 3, Offset: 12, Time: 1_700_000_000_000,
		Kind: &eventsv1.Event_MessageReceived{MessageReceived: &eventsv1.MessageReceived{From: "alice", Revision: 7}},
	}
	created := &eventsv1.Event{User: "bob", Kind: &eventsv1.Event_AccountCreated{AccountCreated: &eventsv1.AccountCreated{}}}
	newer := &eventsv1.Event{User: "bob"} // of a kind that this version does not know
	const (
		receivedPost = `id {"user":"bob","shard":3,"offset":"12","time":"1700000000000","messageReceived":{"from":"alice","revision":"7"}}`
		createdPost  = `id {"user":"bob","accountCreated":{}}`
	)
	for _, test := range []struct {
		kinds []string
		want  []string
	}{
		{nil, []string{receivedPost, createdPost}},
		{[]string{"message_received"}, []string{receivedPost}},
		{[]string{"account_created", "session_ended"}, []string{createdPost}},
	} {
		var got posts
		task, err := webhook.New(&got, test.kinds)
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range []*eventsv1.Event{received, created, newer} {
			if err := task.Handle(t.Context(), &worker.Event{Event: event, ID: "id"}); err != nil {
				t.Error(err)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%v: posted %q", test.kinds, got)
		}
	}
}

func TestUnknownKindsAreRefused(t *testing.T) {
	if _, err := webhook.New(&posts{}, []string{"message_read"}); err == nil {
		t.Error("accepted")
	}
	if kinds := webhook.Kinds(); !slices.Contains(kinds, "message_received") || len(kinds) < 5 {
		t.Errorf("kinds are %v", kinds)
	}
}
