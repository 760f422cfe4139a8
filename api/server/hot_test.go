package server

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/auth"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// scriptedTalk is a talk tier whose answers the test gives.
type scriptedTalk struct {
	Talk
	polls     []talk.Poll
	sends     []talk.Send
	cancelled atomic.Int32
}

func (s *scriptedTalk) Poll(poll talk.Poll) (cancel func()) {
	s.polls = append(s.polls, poll)
	return func() { s.cancelled.Add(1) }
}

func (s *scriptedTalk) Send(_ context.Context, send talk.Send) { s.sends = append(s.sends, send) }

var caller = talk.Session{User: "alice", Device: "phone", Epoch: 1}

// edge returns a server without listeners before a scripted tier, the replies
// of its calls, and how many polls it holds.
func edge() (s *Server, tier *scriptedTalk, replies chan Reply, held *atomic.Int64) {
	tier, replies, held = &scriptedTalk{}, make(chan Reply, 8), new(atomic.Int64)
	s = &Server{
		opts: Options{Hooks: Hooks{Held: func(delta int) { held.Add(int64(delta)) }}}.withDefaults(),
		talk: tier,
		admission: &admission{sessions: auth.NewSessions(func(context.Context, talk.Session) error {
			return errors.New("asked though the poll is held")
		}, auth.SessionOptions{})},
	}
	return s, tier, replies, held
}

func message(t *testing.T, replies <-chan Reply) *tegamiv1.FetchOpsResponse {
	t.Helper()
	got, err := (<-replies).Message(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got.(*tegamiv1.FetchOpsResponse)
}

func TestAPollIsHeldUntilItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tier, replies, held := edge()
		request := &tegamiv1.FetchOpsRequest{AfterRevision: 3, Timeout: durationpb.New(30 * time.Second)}
		s.fetchOps(t.Context(), caller, time.Time{}, request, func(r Reply) { replies <- r })
		if poll := tier.polls[0]; poll.After != 3 || poll.Limit != 100 || poll.Timeout != 30*time.Second || poll.Session != caller {
			t.Errorf("the tier was asked %v", poll)
		}
		<-time.After(10 * time.Second)
		if held.Load() != 1 {
			t.Errorf("%d polls are held", held.Load())
		}
		if err := s.admission.sessions.Check(t.Context(), caller); err != nil {
			t.Errorf("a session that holds a poll: %v", err)
		}
		tier.polls[0].Answer(talk.Page{Revision: 3, Reason: talk.Draining}, nil)
		if got := message(t, replies); got.GetReason() != tegamiv1.FetchOpsResponse_DRAINING || held.Load() != 0 {
			t.Errorf("got %v with %d polls held", got, held.Load())
		}
		<-time.After(time.Hour) // no timer of the poll is left to answer it again
		if len(replies) != 0 || tier.cancelled.Load() != 0 {
			t.Error("the poll was answered twice or cancelled")
		}
	})
}

// A poll that the talk tier forgot is answered some seconds after its end.
func TestALostPollIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tier, replies, held := edge()
		request := &tegamiv1.FetchOpsRequest{AfterRevision: 3, Timeout: durationpb.New(30 * time.Second)}
		cancel := s.fetchOps(t.Context(), caller, time.Time{}, request, func(r Reply) { replies <- r })
		began := time.Now()
		got := message(t, replies)
		if got.GetReason() != tegamiv1.FetchOpsResponse_TIMEOUT || got.GetRevision() != 3 || time.Since(began) != 30*time.Second+lostPollMargin {
			t.Errorf("got %v after %v", got, time.Since(began))
		}
		tier.polls[0].Answer(talk.Page{}, nil) // too late
		cancel()
		if tier.cancelled.Load() != 1 || held.Load() != 0 || len(replies) != 0 {
			t.Errorf("cancelled %d times, %d held, %d further replies", tier.cancelled.Load(), held.Load(), len(replies))
		}
	})
}

// A poll that asks what there is must not be told that there is nothing when
// nobody looked.
func TestALostReadIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tier, replies, _ := edge()
		s.fetchOps(t.Context(), caller, time.Time{}, &tegamiv1.FetchOpsRequest{AfterRevision: 3}, func(r Reply) { replies <- r })
		page, err := (<-replies).Message(t.Context())
		if refused, ok := errors.AsType[*refusal.Refusal](err); !ok || refused.Reason != refusal.NotReady || tier.cancelled.Load() != 1 {
			t.Errorf("got %v, %v, cancelled %d times", page, err, tier.cancelled.Load())
		}
	})
}

// A poll whose client has gone must not end the one that came instead of it.
func TestAPollWithoutAClientIsNotMade(t *testing.T) {
	s, tier, replies, held := edge()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	s.fetchOps(gone, caller, time.Time{}, &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(time.Minute)}, func(r Reply) { replies <- r })
	if _, err := (<-replies).Message(t.Context()); !errors.Is(err, context.Canceled) || len(tier.polls) != 0 || held.Load() != 0 {
		t.Errorf("got %v, %d polls were made, %d are held", err, len(tier.polls), held.Load())
	}
}

// A hold ends a little before the client's deadline.
func TestAHoldEndsBeforeTheDeadline(t *testing.T) {
	for _, c := range []struct{ timeout, deadline, want time.Duration }{
		{30 * time.Second, 10 * time.Second, 10*time.Second - deadlineMargin},
		{5 * time.Second, 10 * time.Second, 5 * time.Second},
		{30 * time.Second, deadlineMargin / 2, 0},
		{0, time.Minute, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, tier, replies, held := edge()
			cancel := s.fetchOps(t.Context(), caller, time.Now().Add(c.deadline),
				&tegamiv1.FetchOpsRequest{Timeout: durationpb.New(c.timeout)}, func(r Reply) { replies <- r })
			if got := tier.polls[0].Timeout; got != c.want {
				t.Errorf("%v within %v is held for %v, want %v", c.timeout, c.deadline, got, c.want)
			}
			if holds := held.Load() == 1; holds != (c.want > 0) {
				t.Errorf("%v within %v: %d are held", c.timeout, c.deadline, held.Load())
			}
			cancel()
			cancel()
			if tier.cancelled.Load() != 1 || held.Load() != 0 {
				t.Errorf("cancelled %d times, %d held", tier.cancelled.Load(), held.Load())
			}
		})
	}
}

func TestASendWaitsForItsAnswerOrItsDeadline(t *testing.T) {
	for _, c := range []struct {
		deadline time.Duration // 0: none
		want     time.Duration
	}{
		{0, 5 * time.Second},
		{time.Second, time.Second},
		{time.Minute, time.Minute},
		{time.Hour, 2 * time.Minute},
		{-time.Second, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, tier, replies, _ := edge()
			var deadline time.Time
			if c.deadline != 0 {
				deadline = time.Now().Add(c.deadline)
			}
			request := &tegamiv1.SendMessageRequest{To: "bob", Body: &tegamiv1.SendMessageRequest_Text{Text: "hi"}}
			s.sendMessage(t.Context(), caller, deadline, request, func(r Reply) { replies <- r })
			if send := tier.sends[0]; send.From != "alice" || send.FromDevice != "phone" || send.To != "bob" || send.ClientMessageID == "" || send.Body.Text != "hi" {
				t.Errorf("the tier was asked %+v", send)
			}
			began := time.Now()
			_, err := (<-replies).Message(t.Context())
			if refused := refusal.From(err); refused.Reason != refusal.OutcomeUnknown || time.Since(began) != c.want {
				t.Errorf("got %v after %v, want it after %v", err, time.Since(began), c.want)
			}
			tier.sends[0].Answer(talk.Sent{}, nil) // too late
			if len(replies) != 0 {
				t.Error("answered twice")
			}
		})
	}
}
