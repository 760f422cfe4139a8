package redis

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// breaker refuses calls to a server that has failed several times in a row, so
// that a dead server costs its callers nothing. After a pause it lets one call
// through to see whether the server is back. It is a go-redis hook around each
// command, and safe for concurrent use. (A go-redis Limiter would not do: it is
// asked again for the commands of the handshake, so that a call which is let
// through to see would be refused when it connects.)
type breaker struct {
	options BreakerOptions
	logger  *slog.Logger
	// opened is called when the breaker opens, with mu held.
	opened func()

	mu       sync.Mutex // guards the following
	failures int        // in a row
	pause    time.Duration
	until    time.Time // calls are refused before it, if there were enough failures
	probing  bool      // a call was let through to see
}

var _ goredis.Hook = (*breaker)(nil)

func newBreaker(options BreakerOptions, logger *slog.Logger, opened func()) *breaker {
	return &breaker{options: options, logger: logger, opened: opened}
}

// withinCall marks the context of a command that was let through, for the
// commands of the handshake that it may need.
type withinCall struct{}

// ProcessHook implements goredis.Hook.
func (b *breaker) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, command goredis.Cmder) error {
		if ctx.Value(withinCall{}) != nil {
			return next(ctx, command)
		}
		if err := b.allow(); err != nil {
			command.SetErr(err)
			return err
		}
		err := next(context.WithValue(ctx, withinCall{}, true), command)
		b.report(err)
		return err
	}
}

// ProcessPipelineHook implements goredis.Hook. Only handshakes are pipelines.
func (b *breaker) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// DialHook implements goredis.Hook.
func (b *breaker) DialHook(next goredis.DialHook) goredis.DialHook { return next }

// allow returns ErrUnavailable when a call is to be refused. The result of one
// that is not refused must be reported.
func (b *breaker) allow() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < b.options.Failures {
		return nil
	}
	if b.probing || time.Now().Before(b.until) {
		return ErrUnavailable
	}
	b.probing = true
	return nil
}

// open reports whether calls are refused, but for the one that is let through
// now and then.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= b.options.Failures
}

func (b *breaker) report(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := b.failures >= b.options.Failures
	probed := b.probing
	b.probing = false
	switch {
	case answered(err):
		if open {
			b.logger.Info("redis is back")
		}
		b.failures, b.pause = 0, 0
	case !unreachable(err):
		// It says nothing about the server; the next call is the probe.
	case !open:
		b.failures++
		if b.failures >= b.options.Failures {
			b.logger.Warn("redis is unavailable", "error", err)
			b.rest()
			b.opened()
		}
	case probed:
		b.rest()
	default:
		// A call that was in flight when the breaker opened.
	}
}

// rest refuses calls for a pause, twice as long as the one before. Half of it
// is random, so that not every shard of every node comes back at once.
func (b *breaker) rest() {
	b.pause = min(max(b.options.Pause, 2*b.pause), b.options.MaxPause)
	b.until = time.Now().Add(b.pause/2 + rand.N(b.pause/2+1)) //nolint:gosec // jitter, nothing to guess
}

// answered reports whether a call's result is that of a server in working order.
func answered(err error) bool {
	if err == nil {
		return true
	}
	_, ok := errors.AsType[goredis.Error](err)
	return ok && !unreachable(err)
}

// unreachable reports whether a call failed because the server cannot be used:
// no connection, no answer in time, or an answer that says so.
func unreachable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, goredis.ErrPoolTimeout) || errors.Is(err, goredis.ErrClosed) {
		return false // the caller's doing, or ours
	}
	if errors.Is(err, ErrUnavailable) {
		return true
	}
	if _, ok := errors.AsType[goredis.Error](err); !ok {
		return true
	}
	return goredis.IsLoadingError(err) || goredis.IsMasterDownError(err) || goredis.IsClusterDownError(err) ||
		goredis.IsMaxClientsError(err) || goredis.IsAuthError(err) || goredis.HasErrorPrefix(err, "BUSY ")
}
