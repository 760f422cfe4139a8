package client_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/client"
)

const fetch = "TalkService/FetchOps"

var errStop = errors.New("seen enough")

// until collects texts and ends Run after n.
func until(n int, texts *[]string) client.Handler {
	return func(_ context.Context, op *client.Operation) error {
		*texts = append(*texts, op.GetReceiveMessage().GetText())
		if len(*texts) == n {
			return errStop
		}
		return nil
	}
}

func TestRunHandsOverInOrderAndHoldsThePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		c, err := server.login()
		if err != nil {
			t.Fatal(err)
		}
		var sender sync.WaitGroup
		defer sender.Wait() // the last text may arrive before its send is answered
		sender.Go(func() {
			for _, text := range []string{"one", "two", "three"} {
				<-time.After(70 * time.Second) // longer than a poll is held
				if _, err := c.Send(t.Context(), "alice", text); err != nil {
					t.Error(err)
				}
			}
		})
		var texts []string
		cursor := new(client.MemoryCursor)
		if err := c.Run(t.Context(), cursor, until(3, &texts)); !errors.Is(err, errStop) {
			t.Fatal(err)
		}
		if !slices.Equal(texts, []string{"one", "two", "three"}) {
			t.Error(texts)
		}
		// Each message took one poll that timed out and one that it ended.
		if n := server.count(fetch); n < 5 || n > 7 {
			t.Errorf("%d polls in 210 s", n)
		}
		// The handler failed on the third: the cursor stays before it.
		if at, _ := cursor.Load(t.Context()); at != 2 {
			t.Errorf("cursor at %d, want 2", at)
		}
	})
}

func TestRunWaitsOutWhatPasses(t *testing.T) {
	for _, test := range []struct {
		name  string
		wrong fault
		most  time.Duration
	}{
		{"unreachable", fault{offline: true}, 1500 * time.Millisecond},
		{"answer lost", fault{lost: true}, 1500 * time.Millisecond},
		{"not ready", fault{code: client.CodeUnavailable}, 1500 * time.Millisecond},
		{"superseding too often", fault{code: client.CodeResourceExhausted, refuse: &tegamiv1.ErrorDetail{RetryAfter: after(time.Second)}}, 5500 * time.Millisecond},
		{"draining", fault{page: &tegamiv1.FetchOpsResponse{Reason: tegamiv1.FetchOpsResponse_DRAINING}}, 4 * time.Second},
		{"timeout", fault{page: &tegamiv1.FetchOpsResponse{Reason: tegamiv1.FetchOpsResponse_TIMEOUT}}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newFakeServer()
				server.fault = first(fetch, 4, test.wrong)
				c, err := server.login()
				if err != nil {
					t.Fatal(err)
				}
				server.deliver("one")
				began := time.Now()
				var texts []string
				if err := c.Run(t.Context(), new(client.MemoryCursor), until(1, &texts)); !errors.Is(err, errStop) {
					t.Fatal(err)
				}
				if took := time.Since(began); took > test.most {
					t.Errorf("took %v, want at most %v", took, test.most)
				}
			})
		})
	}
}

func TestRunEndsOnWhatDoesNotPass(t *testing.T) {
	outOfRange := func(reason string) fault {
		return fault{code: client.CodeOutOfRange, refuse: &tegamiv1.ErrorDetail{Reason: reason, ResumeRevision: 7}}
	}
	op := func(revision int64) *client.Operation { return &client.Operation{Revision: revision} }
	page := func(ops ...*client.Operation) fault {
		return fault{page: &tegamiv1.FetchOpsResponse{Ops: ops, Reason: tegamiv1.FetchOpsResponse_OPERATIONS}}
	}
	for _, test := range []struct {
		name   string
		wrong  fault
		is     func(error) bool
		cursor int64
	}{
		{"superseded", fault{page: &tegamiv1.FetchOpsResponse{Reason: tegamiv1.FetchOpsResponse_SUPERSEDED}}, is(client.ErrSuperseded), 0},
		{"cursor too old", outOfRange("cursor_too_old"), is(client.ErrCursorTooOld), 0},
		{"cursor ahead", outOfRange("cursor_ahead"), is(client.ErrCursorAhead), 0},
		{"resume revision", outOfRange("cursor_ahead"), func(err error) bool {
			refused, ok := errors.AsType[*client.Error](err)
			return ok && refused.ResumeRevision == 7
		}, 0},
		{"gap", page(op(1), op(3)), outOfStep(2, 3), 1},
		{"again", page(op(1), op(1)), outOfStep(2, 1), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newFakeServer()
			server.fault = first(fetch, 1, test.wrong)
			c, err := server.login()
			if err != nil {
				t.Fatal(err)
			}
			cursor := new(client.MemoryCursor)
			err = c.Run(t.Context(), cursor, func(context.Context, *client.Operation) error { return nil })
			if !test.is(err) {
				t.Errorf("got %v", err)
			}
			if at, _ := cursor.Load(t.Context()); at != test.cursor {
				t.Errorf("cursor at %d, want %d", at, test.cursor)
			}
			if n := server.count(fetch); n != 1 {
				t.Errorf("%d polls", n)
			}
		})
	}
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func outOfStep(want, got int64) func(error) bool {
	return func(err error) bool {
		found, ok := errors.AsType[*client.RevisionError](err)
		return ok && *found == client.RevisionError{Want: want, Got: got}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFakeServer()
		c, err := server.login()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		err = c.Run(ctx, new(client.MemoryCursor), until(1, new([]string)))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

func TestRunStopsWhenTheCursorIsNotSaved(t *testing.T) {
	server := newFakeServer()
	c, err := server.login()
	if err != nil {
		t.Fatal(err)
	}
	server.deliver("one")
	server.deliver("two")
	var texts []string
	err = c.Run(t.Context(), fullDisk{}, until(3, &texts))
	if !errors.Is(err, errFull) || len(texts) != 1 {
		t.Errorf("%v after %q", err, texts)
	}
}

var errFull = errors.New("disk full")

type fullDisk struct{}

func (fullDisk) Load(context.Context) (int64, error) { return 0, nil }
func (fullDisk) Save(context.Context, int64) error   { return errFull }
