package oidc

import (
	"context"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"github.com/tegami-im/tegami/api/fault"
)

const (
	// confirmAfter is how long keys are used before the provider is asked whether
	// they are still its keys, so that one that it withdrew ceases to be good.
	confirmAfter = 15 * time.Minute
	// fetchEvery and fetchBurst bound how often the provider is asked, whatever
	// keys are asked for.
	fetchEvery = 10 * time.Second
	fetchBurst = 3
	// fetchTimeout bounds one time that it is.
	fetchTimeout = 5 * time.Second
)

// keyring has the keys that a provider published last. It is safe for concurrent
// use.
type keyring struct {
	fetch func(context.Context) ([]key, error)

	mu     sync.Mutex // guards the following
	limit  *rate.Limiter
	known  []key     // nil before the first fetch that succeeded
	asked  time.Time // when known was asked for
	failed error     // of the last fetch
	asking *question
}

// question is one fetch that several wait for.
type question struct {
	done chan struct{}
	keys []key // these two are set before done is closed
	err  error
}

func newKeyring(fetch func(context.Context) ([]key, error)) *keyring {
	return &keyring{fetch: fetch, limit: rate.NewLimiter(rate.Every(fetchEvery), fetchBurst)}
}

// current returns keys that were confirmed lately, or, while the provider is
// away, the last that it had. Its error is a fault or the context's.
func (k *keyring) current(ctx context.Context) ([]key, error) {
	k.mu.Lock()
	known, fresh := k.known, time.Since(k.asked) < confirmAfter
	k.mu.Unlock()
	if known != nil && fresh {
		return known, nil
	}
	keys, err := k.renewed(ctx)
	if err != nil && known != nil {
		return known, nil
	}
	return keys, err
}

// renewed returns the keys that the provider has now, as far as it may be asked
// now: else those of the last time. Its error is a fault or the context's.
func (k *keyring) renewed(ctx context.Context) ([]key, error) {
	k.mu.Lock()
	if q := k.asking; q != nil {
		k.mu.Unlock()
		return q.wait(ctx)
	}
	if !k.limit.Allow() {
		defer k.mu.Unlock()
		return k.known, k.failed
	}
	q := &question{done: make(chan struct{})}
	k.asking = q
	asked := time.Now()
	k.mu.Unlock()

	// The answer is for all who wait: it does not end with this request.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	keys, err := k.fetch(asking)
	if err != nil {
		err = errAway
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed = err; err == nil {
		k.known, k.asked = keys, asked
	}
	q.keys, q.err, k.asking = keys, err, nil
	close(q.done)
	return keys, err
}

func (q *question) wait(ctx context.Context) ([]key, error) {
	select {
	case <-q.done:
		return q.keys, q.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errAway is the fault of a provider whose keys are needed and cannot be had.
var errAway = &fault.Fault{
	Code:       connect.CodeUnavailable,
	Reason:     "provider_away",
	Text:       "the OpenID provider does not tell its keys",
	RetryAfter: fetchEvery,
}

// fitting returns those of keys that a token may be signed with which names a key,
// or none, and an algorithm. Error: errUnknownKey.
func fitting(keys []key, id, algorithm string) (jwt.VerificationKeySet, error) {
	var set jwt.VerificationKeySet
	for _, k := range keys {
		if (id == "" || k.id == id) && (k.algorithm == "" || k.algorithm == algorithm) {
			set.Keys = append(set.Keys, k.public)
		}
	}
	if len(set.Keys) == 0 {
		return set, errUnknownKey
	}
	return set, nil
}
