package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 15 * time.Second
)

// backoff returns how long to wait before attempt n+1 (n counts from 0): a
// uniform part of a bound that doubles, so that clients that failed together
// do not come back together, and never less than the server asked for.
func backoff(n int, retryAfter time.Duration) time.Duration {
	bound := maxBackoff
	if n < 7 {
		bound = firstBackoff << n
	}
	return retryAfter + rand.N(bound) //nolint:gosec // spreads load; secrecy is of no use
}

// pause waits before the next attempt after a failure that may pass, and
// returns nil. It returns failure itself when that will not pass, and when the
// context ends both.
func (c *Client) pause(ctx context.Context, n int, failure error) error {
	refused, ok := errors.AsType[*Error](failure)
	if !ok || !refused.temporary() {
		return failure
	}
	wait := backoff(n, refused.RetryAfter)
	if c.onRetry != nil {
		c.onRetry(failure, wait)
	}
	if sleep(ctx, wait) != nil {
		return fmt.Errorf("%w; the last attempt: %w", context.Cause(ctx), failure)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
