package redis

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// reply is an error that a server answers with.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestBreaker(t *testing.T) {
	type call struct {
		after   time.Duration // since the call before
		err     error
		refused bool
	}
	down := io.EOF
	closed := []call{{err: down}, {err: down}, {err: down}} // opens a breaker of 3 failures
	for name, calls := range map[string][]call{
		"three failures in a row":          append(closed, call{refused: true}, call{refused: true}),
		"a success in between":             {{err: down}, {err: down}, {}, {err: down}, {err: down}, {err: down}, {refused: true}},
		"a refusal by the server is none":  {{err: down}, {err: down}, {err: reply("OOM command not allowed")}, {err: down}, {err: down}, {}},
		"a server that loads":              {{err: reply("LOADING Redis is loading")}, {err: down}, {err: reply("LOADING Redis is loading")}, {refused: true}},
		"a wrong password":                 {{err: reply("WRONGPASS no")}, {err: reply("WRONGPASS no")}, {err: reply("NOAUTH no")}, {refused: true}},
		"the caller's doing":               {{err: context.Canceled}, {err: context.Canceled}, {err: goredis.ErrPoolTimeout}, {err: context.Canceled}, {}},
		"deadlines":                        {{err: context.DeadlineExceeded}, {err: context.DeadlineExceeded}, {err: context.DeadlineExceeded}, {refused: true}},
		"one tries again after the pause":  append(closed, call{after: time.Second}, call{}, call{err: down}, call{err: down}, call{}),
		"not before half of the pause":     append(closed, call{after: time.Second/2 - 1, refused: true}),
		"the next pause is twice as long":  append(closed, call{after: time.Second, err: down}, call{after: time.Second - 1, refused: true}, call{after: time.Second + 1}),
		"up to a limit":                    append(closed, call{after: time.Second, err: down}, call{after: 2 * time.Second, err: down}, call{after: 3 * time.Second, err: down}, call{after: 3 * time.Second}),
		"a try that says nothing is again": append(closed, call{after: time.Second, err: context.Canceled}, call{err: down}, call{refused: true}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBreaker(BreakerOptions{Failures: 3, Pause: time.Second, MaxPause: 3 * time.Second}, slog.New(slog.DiscardHandler), func() {})
				for i, call := range calls {
					timer := time.NewTimer(call.after)
					<-timer.C
					asked := false
					err := b.ProcessHook(func(context.Context, goredis.Cmder) error {
						asked = true
						return call.err
					})(t.Context(), goredis.NewCmd(t.Context()))
					if asked == call.refused {
						t.Fatalf("call %d: the server was asked: %v", i, asked)
					}
					if call.refused && !errors.Is(err, ErrUnavailable) || !call.refused && !errors.Is(err, call.err) {
						t.Fatalf("call %d returns %v", i, err)
					}
				}
			})
		})
	}
}

// TestBreakerTriesOnce: of many calls after the pause one is let through, with
// what its handshake needs.
func TestBreakerTriesOnce(t *testing.T) {
	opened := 0
	b := newBreaker(BreakerOptions{Failures: 1, Pause: time.Millisecond, MaxPause: time.Millisecond}, slog.New(slog.DiscardHandler), func() { opened++ })
	b.report(io.EOF)
	b.until = time.Time{}
	asked, other := 0, t.Context()
	var hook goredis.ProcessHook
	hook = b.ProcessHook(func(ctx context.Context, command goredis.Cmder) error {
		asked++
		for range 5 {
			if err := hook(other, goredis.NewCmd(other)); !errors.Is(err, ErrUnavailable) {
				t.Errorf("another call returns %v", err)
			}
		}
		handshake := b.ProcessHook(func(context.Context, goredis.Cmder) error { return nil })
		if err := handshake(ctx, goredis.NewCmd(ctx)); err != nil {
			t.Errorf("the handshake returns %v", err)
		}
		return nil
	})
	if err := hook(t.Context(), goredis.NewCmd(t.Context())); err != nil || asked != 1 || opened != 1 {
		t.Fatalf("%d calls were let through, the breaker opened %d times, error %v", asked, opened, err)
	}
}
