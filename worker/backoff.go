package worker

import (
	"math/rand/v2"
	"time"
)

// backoff is how long to wait after so many failed attempts: from half of to
// the whole of a delay that doubles from base up to limit, at random, so that
// what failed together does not come back together.
func backoff(base, limit time.Duration, failed int) time.Duration {
	delay := base
	for range failed - 1 {
		if delay *= 2; delay >= limit {
			break
		}
	}
	delay = min(delay, limit)
	return delay/2 + rand.N(delay/2+1) //nolint:gosec // jitter is no secret
}
