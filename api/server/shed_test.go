package server

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// With more and more requests in flight, catching up is refused first, then new
// polls, and sends last; each is counted, and told when to come again, not all at
// the same time. A poll that is held is not in flight.
func TestWhatMattersLeastIsRefusedFirst(t *testing.T) {
	s, tier, replies, held := edge()
	var shed []Class
	s.opts.Hooks.Shed = func(c Class) { shed = append(shed, c) }
	s.inFlight, s.polls = newGates(Limits{Requests: 8, HeldPolls: 2})
	send := func() {
		request := &tegamiv1.SendMessageRequest{To: "bob", Body: &tegamiv1.SendMessageRequest_Text{Text: "hi"}}
		s.sendMessage(t.Context(), caller, time.Time{}, request, func(r Reply) { replies <- r })
	}
	poll := func(timeout time.Duration) (cancel func()) {
		request := &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(timeout)}
		return s.fetchOps(t.Context(), caller, time.Time{}, request, func(r Reply) { replies <- r })
	}
	after := map[time.Duration]bool{}
	refused := func(want ...Class) {
		t.Helper()
		if !slices.Equal(shed, want) || len(replies) != len(want) {
			t.Fatalf("refused %v with %d replies, want %v", shed, len(replies), want)
		}
		for range want {
			_, err := (<-replies).Message(t.Context())
			r := refusal.From(err)
			if r == nil || r.Reason != refusal.Busy || r.RetryAfter < time.Second || r.RetryAfter > 4*time.Second {
				t.Errorf("got %v", err)
			}
			after[r.RetryAfter] = true
		}
		shed = nil
	}
	for range 6 { // of 8: room for polls and sends alone
		send()
	}
	poll(0)
	refused(CatchUp)
	cancel := poll(time.Minute)
	refused()
	send() // the seventh
	poll(time.Minute)
	refused(Polls)
	send()
	refused()
	send()
	refused(Sends)

	for _, one := range tier.sends {
		one.Answer(talk.Sent{}, nil)
		<-replies
	}
	poll(time.Minute)
	poll(time.Minute)
	refused(Polls) // two are held
	cancel()
	poll(time.Minute)
	refused()
	if held.Load() != 2 {
		t.Errorf("%d are held", held.Load())
	}
	if len(after) < 2 {
		t.Error("all are to come at the same time")
	}
}

// Every method that clients call has a class, and they do not keep operators out.
func TestEveryMethodHasItsClass(t *testing.T) {
	for procedure, who := range rules {
		class, gated := classOf(procedure)
		if gated && int(class) >= len(shares) || who == operator && gated {
			t.Errorf("%s: %v, %v", procedure, class, gated)
		}
	}
	for procedure := range classes {
		if _, ok := rules[procedure]; !ok {
			t.Errorf("%s is no method", procedure)
		}
	}
	for class := Receipts; class <= Handshakes; class++ {
		if class.String() == "" {
			t.Errorf("class %d has no name", class)
		}
	}
}
