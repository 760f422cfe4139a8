package client_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/client"
)

const send = "TalkService/SendMessage"

// first has a fault happen to the first calls of a method.
func first(method string, n int, wrong fault) func(string, int) fault {
	return func(called string, i int) fault {
		if called == method && i < n {
			return wrong
		}
		return fault{}
	}
}

func TestSendIsRepeatedUntilItIsAnsweredAndHappensOnce(t *testing.T) {
	for _, test := range []struct {
		name  string
		wrong fault
		// At least and at most this much time passes for three failures.
		least, most time.Duration
	}{
		{"answer lost", fault{lost: true}, 0, 700 * time.Millisecond},
		{"unreachable", fault{offline: true}, 0, 700 * time.Millisecond},
		{"unavailable", fault{code: client.CodeUnavailable}, 0, 700 * time.Millisecond},
		{"rate limited", fault{code: client.CodeResourceExhausted, refuse: &tegamiv1.ErrorDetail{RetryAfter: after(2 * time.Second)}}, 6 * time.Second, 7 * time.Second},
		{"a proxy's 503", fault{gateway: true, status: 503, header: http.Header{"Retry-After": {"1"}}}, 3 * time.Second, 4 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newFakeServer()
				server.fault = first(send, 3, test.wrong)
				var waits []time.Duration
				c, err := server.login(client.WithOnRetry(func(_ error, wait time.Duration) { waits = append(waits, wait) }))
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				sent, err := c.Send(t.Context(), "bob", "hello")
				if err != nil || sent.MessageID != "message-1" {
					t.Fatal(sent, err)
				}
				if took := time.Since(began); took < test.least || took > test.most {
					t.Errorf("took %v, want %v to %v", took, test.least, test.most)
				}
				if server.count(send) != 4 || len(waits) != 3 || len(server.ops) != 1 {
					t.Errorf("%d calls, %d waits, %d messages; want 4, 3, 1", server.count(send), len(waits), len(server.ops))
				}
			})
		})
	}
}

func TestSendReturnsWhatWaitingDoesNotMend(t *testing.T) {
	server := newFakeServer()
	for _, test := range []struct {
		name  string
		wrong fault
	}{
		{"unknown recipient", fault{code: client.CodeNotFound, refuse: &tegamiv1.ErrorDetail{Field: "to", Reason: "unknown_recipient"}}},
		{"too large, which is resource_exhausted without a time", fault{code: client.CodeResourceExhausted, refuse: &tegamiv1.ErrorDetail{Field: "to", Reason: "unknown_recipient"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server.fault = first(send, 1000, test.wrong)
			c, err := server.login()
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Send(t.Context(), "bob", "hello")
			refused, ok := errors.AsType[*client.Error](err)
			if !ok || refused.Code != test.wrong.code || refused.Field != "to" || refused.Reason != "unknown_recipient" {
				t.Errorf("got %#v", err)
			}
		})
	}
	if server.count(send) != 2 {
		t.Errorf("%d calls, want one each", server.count(send))
	}
}

func TestSendGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		server.fault = first(send, 1000, fault{offline: true})
		c, err := server.login()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		_, err = c.Send(ctx, "bob", "hello")
		if !errors.Is(err, context.DeadlineExceeded) || client.CodeOf(err) != client.CodeUnavailable {
			t.Errorf("the error %v does not tell both that time ran out and why", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %v", took)
		}
		// Bounds of 0.1, 0.2, 0.4 … 6.4, 15, 15 … s: the attempts are few.
		if n := server.count(send); n < 8 || n > 40 {
			t.Errorf("%d attempts in a minute", n)
		}
	})
}

// A server that takes a connection and never answers must not hold a send for
// ever.
func TestAnAttemptEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		c, err := server.login(client.WithHTTPClient(server.client()))
		if err != nil {
			t.Fatal(err)
		}
		stuck := &stuckOnce{next: server}
		c, err = client.New(c.Session(), client.WithHTTPClient(&http.Client{Transport: stuck}))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := c.Send(t.Context(), "bob", "hello"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

type stuckOnce struct {
	next http.RoundTripper
	used bool
}

func (s *stuckOnce) RoundTrip(r *http.Request) (*http.Response, error) {
	if !s.used {
		s.used = true
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return s.next.RoundTrip(r)
}

func TestWithIDNamesTheMessage(t *testing.T) {
	server := newFakeServer()
	c, err := server.login()
	if err != nil {
		t.Fatal(err)
	}
	one, err1 := c.Send(t.Context(), "bob", "hello", client.WithID("one"))
	again, err2 := c.Send(t.Context(), "bob", "hello", client.WithID("one"))
	other, err3 := c.Send(t.Context(), "bob", "hello")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if one != again || one == other {
		t.Errorf("%v, %v, %v", one, again, other)
	}
}
