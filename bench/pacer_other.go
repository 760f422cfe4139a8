//go:build !linux

package bench

import (
	"context"
	"time"
)

// pacer waits for points in time, as exactly as timers are.
type pacer struct{}

func newPacer() pacer { return pacer{} }

func (pacer) close() {}

func (pacer) wait(ctx context.Context, until time.Time) bool {
	return sleep(ctx, time.Until(until)) == nil
}
