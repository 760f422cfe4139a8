package behaviour

import (
	"context"
	crypto "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"golang.org/x/time/rate"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/supervision"
)

// maxPause is the longest wait after a behaviour could not be taken on.
const maxPause = 5 * time.Second

// Run takes a behaviour on until ctx ends, at most so many steps a second. What
// fails outside of its handler is tried again, with back-off.
func Run(ctx context.Context, options Options, perSecond int) {
	r := &runner{Options: options}
	limit := rate.NewLimiter(rate.Limit(perSecond), perSecond)
	var fails supervision.Seldom
	failures := 0
	for ctx.Err() == nil {
		did := false
		err := guarded(func() (err error) { did, err = r.advance(ctx); return err })
		if err == nil {
			failures = 0
			if did {
				_ = limit.Wait(ctx) // it fails when ctx ends
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if !passing(err) {
			if passed, due := fails.Due(time.Now()); due {
				options.Logger.Warn("behaviour does not go on; it is tried again", "behaviour", options.Kind.name, "others", passed, "error", err)
			}
		}
		failures++
		pause := min(minRetry<<min(failures-1, 10), maxPause)
		wait(ctx, time.Now().Add(pause/2+rand.N(pause/2))) //nolint:gosec // spreads, guards nothing
	}
}

// passing reports whether an error is one of every start and hand-over.
func passing(err error) bool {
	refused, ok := errors.AsType[*refusal.Refusal](err)
	return ok && (refused.Reason == refusal.NotReady || refused.Reason == refusal.Stopping)
}

// guarded calls a function and returns its error; a panic is one too.
func guarded(f func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return f()
}

func (r *runner) seed() uint64 {
	if r.Seed != nil {
		return r.Seed()
	}
	return rand.Uint64() //nolint:gosec // for handlers; it guards nothing
}

func newRand(seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // for handlers; it guards nothing
}

func newID() []byte {
	id := make([]byte, 16)
	_, _ = crypto.Read(id) // crypto/rand never fails: it ends the program instead
	return id
}
