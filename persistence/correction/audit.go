package correction

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Auditor goes round the shards for ever, slowly, and counts what it finds. It
// repairs nothing. Its counts may be read by any goroutine while it runs.
type Auditor struct {
	options Options
	pause   time.Duration

	rounds, mailboxes, operations atomic.Int64
	mu                            sync.Mutex // guards the following
	found                         map[Kind]int64
}

// auditPause is how long an auditor rests between two shards, and after one that
// it could not read.
const auditPause = time.Second

// NewAuditor returns an auditor of what the options say, at their Rate, which
// should be low. Hold, Found and Progress are not used.
func NewAuditor(options Options) *Auditor {
	options.setDefaults()
	options.Hold, options.Progress = nil, func(Progress) {}
	a := &Auditor{options: options, pause: auditPause, found: map[Kind]int64{}}
	a.options.Found = a.note
	return a
}

// Run audits until ctx ends.
func (a *Auditor) Run(ctx context.Context) {
	for {
		for shard := range a.options.Shards {
			r := newRun(&a.options)
			if err := r.compareShard(ctx, shard); err != nil && ctx.Err() == nil {
				a.options.Logger.Warn("shard is not audited; it is tried again in the next round", slog.Uint64("shard", uint64(shard)), slog.Any("error", err))
			}
			a.mailboxes.Add(r.report.Mailboxes)
			a.operations.Add(r.report.Operations)
			select {
			case <-ctx.Done():
				return
			case <-time.After(a.pause):
			}
		}
		a.rounds.Add(1)
	}
}

// note logs and counts a finding.
func (a *Auditor) note(f Finding) {
	a.options.Logger.Error("audit: stores disagree; tegami correct says more", slog.String("kind", string(f.Kind)),
		slog.Uint64("shard", uint64(f.Shard)), slog.Int64("revision", f.Revision), slog.Int64("count", f.Count), slog.String("text", f.Text))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.found[f.Kind] += f.Count
}

// Found returns how much was found of all kinds; what is not repaired is found
// again in each round.
func (a *Auditor) Found() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Total(a.found)
}

// Rounds returns how often all shards were gone through.
func (a *Auditor) Rounds() int64 { return a.rounds.Load() }

// Mailboxes returns how many mailboxes were looked at.
func (a *Auditor) Mailboxes() int64 { return a.mailboxes.Load() }

// Operations returns how many operations were read.
func (a *Auditor) Operations() int64 { return a.operations.Load() }
