package server

import (
	"context"
	"crypto/ed25519"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/auth"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/limit"
)

// A session ends and nobody tells this process, as when another gateway signed
// the device out. However the device polls on, it is refused within five
// seconds: a poll says nothing of a session before its mailbox has it.
func TestPollsDoNotKeepAnEndedSessionAlive(t *testing.T) {
	for name, end := range map[string]func(poll talk.Poll, cancel func()){
		"it is refused as unknown": func(poll talk.Poll, _ func()) {
			poll.Answer(talk.Page{}, refusal.Of(refusal.UnknownDevice))
		},
		"its mailbox cannot be asked": func(poll talk.Poll, _ func()) {
			poll.Answer(talk.Page{}, refusal.Of(refusal.NotReady))
		},
		"it cancels before the mailbox can answer": func(_ talk.Poll, cancel func()) { cancel() },
		"it asks for shorter holds than an answer takes": func(poll talk.Poll, _ func()) {
			poll.Answer(talk.Page{Reason: talk.Timeout}, nil)
		},
		"it supersedes before the mailbox can answer": func(poll talk.Poll, _ func()) {
			poll.Answer(talk.Page{Reason: talk.Superseded}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, tier, replies, _ := edge()
				s.admission.sessions = auth.NewSessions(func(context.Context, talk.Session) error {
					return refusal.Of(refusal.UnknownDevice)
				}, auth.SessionOptions{})
				s.admission.sessions.Confirm(caller)
				for began := time.Now(); time.Since(began) <= 5*time.Second; <-time.After(time.Second) {
					if s.admission.sessions.Check(t.Context(), caller) != nil {
						continue
					}
					request := &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(time.Minute)}
					cancel := s.fetchOps(t.Context(), caller, time.Time{}, request, func(r Reply) { replies <- r })
					end(tier.polls[len(tier.polls)-1], cancel)
				}
				if err := s.admission.sessions.Check(t.Context(), caller); err == nil {
					t.Errorf("still live after %d polls", len(tier.polls))
				}
			})
		})
	}
}

// A poll that is held speaks for its session, until its mailbox is lost sight of.
func TestAHeldPollVouchesUntilItIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tier, replies, _ := edge()
		asked := 0
		s.admission.sessions = auth.NewSessions(func(context.Context, talk.Session) error { asked++; return nil }, auth.SessionOptions{})
		s.admission.sessions.Confirm(caller)
		request := &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(time.Minute)}
		cancel := s.fetchOps(t.Context(), caller, time.Time{}, request, func(r Reply) { replies <- r })
		check := func(after time.Duration, want int) {
			t.Helper()
			<-time.After(after)
			if err := s.admission.sessions.Check(t.Context(), caller); err != nil || asked != want {
				t.Errorf("%v, asked %d times, want %d", err, asked, want)
			}
		}
		check(20*time.Second, 0)
		tier.polls[0].Lost()
		check(4*time.Second, 0)
		check(2*time.Second, 1)
		tier.polls[0].Lost()
		check(6*time.Second, 2)
		cancel()
		check(6*time.Second, 3)
	})
}

// A shard that changes hands cannot be asked about a session for a while. A poll
// waits for it, as one that was held before does; other calls are told.
func TestPollsWaitForAMailboxThatCannotBeAsked(t *testing.T) {
	for procedure, admitted := range map[string]bool{
		tegamiv1connect.TalkServiceFetchOpsProcedure:    true,
		tegamiv1connect.TalkServiceSendMessageProcedure: false,
	} {
		key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
		tokens, err := auth.NewTokens(key, auth.TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		token, _, err := tokens.IssueAccess(caller)
		if err != nil {
			t.Fatal(err)
		}
		for reason, passes := range map[refusal.Reason]bool{refusal.NotReady: admitted, refusal.StoreUnavailable: admitted, refusal.UnknownDevice: false} {
			a := &admission{
				tokens: tokens, polls: limit.NewTable[deviceKey](limit.Rate{}, 1), sends: limit.NewTable[string](limit.Rate{}, 1),
				sessions: auth.NewSessions(func(context.Context, talk.Session) error { return refusal.Of(reason) }, auth.SessionOptions{}),
			}
			if _, err := a.admit(t.Context(), procedure, "Bearer "+token, ""); (err == nil) != passes {
				t.Errorf("%s while the answer is %v: %v", procedure, reason, err)
			}
		}
	}
}
