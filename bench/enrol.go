package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/tegami-im/tegami/bench/target"
)

// device is the one device that each user of a benchmark has.
const device = "bench"

// newTag returns a tag that sets the users and messages of a run apart from
// those of earlier runs on the same server.
func newTag() string {
	return fmt.Sprintf("b%08x", rand.Uint32()) //nolint:gosec // no secret
}

// userNames lists the users of a run.
func userNames(tag string, count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%07d", tag, i)
	}
	return names
}

// createUsers makes users on the server.
func createUsers(ctx context.Context, t *target.Target, names []string) error {
	for chunk := range slices.Chunk(names, target.MaxCreate) {
		if err := t.CreateUsers(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

// signIn signs a device of each user in and returns the tokens.
func signIn(ctx context.Context, t *target.Target, names []string) ([]string, error) {
	tokens := make([]string, len(names))
	err := each(len(names), 64, func(i int) (err error) {
		tokens[i], err = t.IssueToken(ctx, names[i], device)
		return err
	})
	return tokens, err
}

// each calls do for 0 to count-1, at most parallel at once, and returns the
// first error, after which it starts no more.
func each(count, parallel int, do func(i int) error) error {
	var wait sync.WaitGroup
	var mu sync.Mutex
	next := 0
	var first error
	for range min(parallel, count) {
		wait.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := first != nil || i >= count
				mu.Unlock()
				if stop {
					return
				}
				if err := do(i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	return first
}
