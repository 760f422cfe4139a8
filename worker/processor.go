package worker

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// processor handles the events of one task. It is shared by its partitions.
type processor struct {
	task    Task
	options Options
	// slots bounds the calls of Handle.
	slots chan struct{}
	// bury makes an event a dead letter, durably.
	bury func(ctx context.Context, letter letter) error
}

// letter is an event that is given up.
type letter struct {
	record      *record
	reason      error
	attempts    int
	first, last time.Time
}

func newProcessor(task Task, options Options, bury func(context.Context, letter) error) *processor {
	return &processor{task: task, options: options, slots: make(chan struct{}, options.InFlight), bury: bury}
}

// contexts of the work on a partition.
type contexts struct {
	// going ends when no attempt may begin any more.
	going context.Context //nolint:containedctx // the partition's life, in two steps
	// calls ends those that are running.
	calls context.Context //nolint:containedctx // likewise
}

// process handles a record to its end: handled or given up. It reports false if
// the partition was taken away before.
func (p *processor) process(c contexts, r *record) bool {
	first := time.Now()
	err := r.err
	for attempt := 1; ; attempt++ {
		if err == nil {
			if !p.acquire(c.going) {
				return false
			}
			err = p.attempt(c.calls, r.event, attempt)
			<-p.slots
		}
		switch {
		case err == nil:
			p.options.Observe.Event(p.options.Name, Handled)
			return true
		case c.going.Err() != nil:
			return false
		case isPermanent(err) || attempt >= p.options.Attempts:
			return p.giveUp(c, letter{record: r, reason: err, attempts: attempt, first: first, last: time.Now()})
		}
		p.options.Observe.Event(p.options.Name, Failed)
		p.options.Logger.Debug("try again later", "event", r.event.ID, "attempt", attempt, "error", err)
		delay := backoff(p.options.Backoff, p.options.MaxBackoff, attempt)
		delay = max(delay, min(delayOf(err), p.options.MaxDelay))
		if !wait(c.going, delay) {
			return false
		}
		err = nil
	}
}

func (p *processor) acquire(ctx context.Context) bool {
	select {
	case p.slots <- struct{}{}:
		if ctx.Err() != nil { // both were ready
			<-p.slots
			return false
		}
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt calls the task once.
func (p *processor) attempt(ctx context.Context, event *Event, attempt int) (err error) {
	ctx, cancel := context.WithTimeout(ctx, p.options.Timeout)
	defer cancel()
	own := *event
	own.Attempt = attempt
	began := time.Now()
	defer func() {
		if reason := recover(); reason != nil {
			p.options.Logger.Error("the task panicked", "event", event.ID, "panic", reason, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", reason)
		}
		p.options.Observe.Attempt(p.options.Name, time.Since(began))
	}()
	return p.task.Handle(ctx, &own)
}

// giveUp goes on until the letter is durable: without it the event would be
// lost.
func (p *processor) giveUp(c contexts, l letter) bool {
	for failed := 1; ; failed++ {
		err := p.bury(c.calls, l)
		if err == nil {
			p.options.Observe.Event(p.options.Name, Dead)
			p.options.Logger.Warn("an event became a dead letter", "letter", letterID(p.options.Name, l.record.source, l.record.offset),
				"attempts", l.attempts, "reason", l.reason)
			return true
		}
		p.options.Logger.Error("no dead letter can be written; the key waits", "error", err)
		if !wait(c.going, backoff(p.options.Backoff, p.options.MaxBackoff, failed)) {
			return false
		}
	}
}

// wait reports false if the context ends before the delay does.
func wait(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
