package bench

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/tegami-im/tegami/bench/target"
)

// Load is what the scenarios that send messages have in common.
type Load struct {
	Users       int           `help:"Users, each with one device that polls all the time." default:"2000"`
	Connections int           `help:"Connections that the users share. 0: one each." default:"0"`
	Size        int           `help:"Length of a message's text, in bytes." default:"100"`
	Warmup      time.Duration `help:"How long to send before measuring." default:"3s"`
	Duration    time.Duration `help:"How long to measure." default:"15s"`
	PollTimeout time.Duration `help:"The longest time that a poll asks to be held." default:"60s"`
	Seed        uint64        `help:"Decides who writes to whom." default:"1"`
}

func (l *Load) validate() error {
	switch {
	case l.Users < 2:
		return errors.New("users: at least 2 are needed")
	case l.Connections < 0 || l.Connections > l.Users:
		return errors.New("connections: at least 0, at most one for each user")
	case l.Size < 1 || l.Size > 10_000:
		return errors.New("size: from 1 to 10,000 bytes")
	case l.Warmup < 0 || l.Duration < 100*time.Millisecond:
		return errors.New("duration: at least 100ms")
	case l.Warmup+l.Duration > signInLimit-5*time.Minute:
		return errors.New("warmup and duration: at most 10m together")
	case l.PollTimeout < time.Second || l.PollTimeout > 2*time.Minute:
		return errors.New("poll-timeout: from 1s to 2m")
	}
	return nil
}

// generator sends messages between a crowd's users until it is stopped.
type generator interface {
	// warmUp starts it and returns when the load is as it will stay.
	warmUp(ctx context.Context) error
	// stop sends no more; what is in flight still comes in.
	stop()
}

// gather connects the users and has them poll.
func (l *Load) gather(ctx context.Context, r *run) (*crowd, error) {
	c, err := newCrowd(ctx, r, l.Users, l.Size)
	if err != nil {
		return nil, err
	}
	connections := l.Connections
	if connections == 0 {
		connections = l.Users
	}
	if err := c.connect(ctx, connections, l.PollTimeout); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, settle(ctx, r.target)
}

// measure runs a generator for a while, reads every mailbox to its end, and
// fills the result.
func (l *Load) measure(ctx context.Context, r *run, c *crowd, load generator) (*MessageFigures, error) {
	r.say("warming up")
	if err := load.warmUp(ctx); err != nil {
		load.stop()
		return nil, err
	}
	r.say("measuring for %v", l.Duration)
	before, err := spend(ctx, r.target)
	from := time.Now()
	if err == nil {
		err = sleep(ctx, l.Duration)
	}
	to := time.Now()
	after, afterErr := spend(ctx, r.target)
	load.stop()
	if err := errors.Join(err, afterErr); err != nil {
		return nil, err
	}
	r.say("reading every mailbox to its end")
	late, err := c.finish(ctx, r.wakeLimit)
	if err != nil {
		return nil, err
	}
	r.result.Faults, r.result.Evidence = c.ledger.Faults()
	r.result.Errors = c.errors.snapshot()

	s := c.ledger.Summary(from, to)
	seconds := to.Sub(from).Seconds()
	server, client := after.server.CPU-before.server.CPU, after.client-before.client
	return &MessageFigures{
		Users: len(c.users), Connections: len(c.conns), Seconds: seconds,
		AckedPerSecond: float64(s.Acked) / seconds, DeliveredPerSecond: float64(s.Delivered) / seconds,
		Ack: s.Ack, Delivery: s.Delivery, Lateness: s.Lateness, Late: late,
		ServerCPU: micros(server) / float64(max(s.Delivered, 1)), ServerCores: server.Seconds() / seconds,
		ClientCPU: micros(client) / float64(max(s.Delivered, 1)), ClientCores: client.Seconds() / seconds,
		Fsyncs:        perMessage(before.server.Fsyncs, after.server.Fsyncs, s.Acked),
		JournalFsyncs: perMessage(before.server.JournalFsyncs, after.server.JournalFsyncs, s.Acked),
		ServerMemory:  after.server.RSS,
	}, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func perMessage(before, after int64, messages int) *float64 {
	if before < 0 || after < 0 {
		return nil
	}
	each := float64(after-before) / float64(max(messages, 1))
	return &each
}

// spent is what server and client have spent up to a moment.
type spent struct {
	server target.Usage
	client time.Duration
}

func spend(ctx context.Context, t *target.Target) (spent, error) {
	server, err := t.Usage(ctx)
	var own syscall.Rusage
	if err == nil {
		err = syscall.Getrusage(syscall.RUSAGE_SELF, &own)
	}
	return spent{server, time.Duration(own.Utime.Nano() + own.Stime.Nano())}, err
}

// settle waits until the server has nothing to do any more: it spends less
// than a twentieth of a core for half a second.
func settle(ctx context.Context, t *target.Target) error {
	const interval, limit, quiet = 250 * time.Millisecond, time.Minute, 2
	last, err := t.CPU(ctx)
	for deadline, calm := time.Now().Add(limit), 0; err == nil && calm < quiet && time.Now().Before(deadline); {
		if err = sleep(ctx, interval); err != nil {
			break
		}
		var now time.Duration
		now, err = t.CPU(ctx)
		calm++
		if now-last > interval/20 {
			calm = 0
		}
		last = now
	}
	return err
}
