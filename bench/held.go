package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// holdTimeout is how long the polls of a memory measurement ask to be held: as
// long as may be, so that none ends meanwhile.
const holdTimeout = 2 * time.Minute

// Held finds what a held poll costs in server memory, with all that the server
// keeps for the user who polls.
type Held struct {
	Connections int `help:"Connections." default:"8000"`
	Streams     int `help:"Polls held on each connection, each of another user." default:"1"`
}

func (s *Held) name() string { return "held" }

func (s *Held) validate() error {
	if s.Connections < 1 || s.Streams < 1 || s.Connections*s.Streams > 1_000_000 || s.Connections*s.Streams < 2 {
		return errors.New("connections and streams: from 2 to 1,000,000 polls")
	}
	return nil
}

func (s *Held) run(ctx context.Context, r *run) error {
	c, err := newCrowd(ctx, r, s.Connections*s.Streams, 100)
	if err != nil {
		return err
	}
	if err := s.coldStart(ctx, r); err != nil {
		return err
	}
	before, err := freed(ctx, r)
	if err != nil {
		return err
	}
	r.say("holding %d polls on %d connections", len(c.users), s.Connections)
	defer c.disconnect()
	if err := c.connect(ctx, s.Connections, holdTimeout); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := settle(ctx, r.target); err != nil {
		return err
	}
	after, err := freed(ctx, r)
	if err != nil {
		return err
	}
	usage, err := r.target.Usage(ctx)
	if err != nil {
		return err
	}
	if usage.Held >= 0 && usage.Held != int64(len(c.users)) {
		return fmt.Errorf("the server holds %d polls of %d", usage.Held, len(c.users))
	}
	if err := prove(ctx, r, c); err != nil {
		return err
	}
	r.result.Held = &HeldFigures{
		Polls: len(c.users), Connections: s.Connections,
		Before: before, After: after, PerPoll: float64(after-before) / float64(len(c.users)),
		Goroutines: usage.Goroutines,
	}
	return nil
}

// coldStart restarts a server of our own, so that nothing of what the sign-in
// of the users has loaded is counted as being there before. A few messages
// then touch the code that any request needs.
func (s *Held) coldStart(ctx context.Context, r *run) error {
	if r.target.Own() {
		if err := r.target.Stop(ctx); err != nil {
			return err
		}
		if _, err := r.target.Launch(ctx); err != nil {
			return err
		}
	}
	few, err := newCrowd(ctx, r, 2, 100)
	if err != nil {
		return err
	}
	defer few.disconnect()
	if err := few.connect(ctx, 2, holdTimeout); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return few.exchange(ctx, 100)
}

// prove sends messages to some of those who wait, to show that their polls are
// held and wake up.
func prove(ctx context.Context, r *run, c *crowd) error {
	if err := c.exchange(ctx, 200); err != nil {
		return err
	}
	waitFor(ctx, r.wakeLimit, func() bool { return c.ledger.Missing() == 0 })
	if missing := c.ledger.Missing(); missing > 0 {
		return fmt.Errorf("%d acknowledged messages did not reach a held poll", missing)
	}
	if err := c.catchUp(ctx); err != nil {
		return err
	}
	r.result.Faults, r.result.Evidence = c.ledger.Faults()
	r.result.Errors = c.errors.snapshot()
	return nil
}

// exchange sends messages between random users, one after the other.
func (c *crowd) exchange(ctx context.Context, messages int) error {
	pairs := newConversations(len(c.users), 1)
	for range messages {
		from, to := pairs.draw()
		done := make(chan bool, 1)
		c.send(from, to, time.Now(), func(acknowledged bool) { done <- acknowledged })
		select {
		case ok := <-done:
			if !ok {
				return fmt.Errorf("a message was not acknowledged: %v", c.errors.snapshot())
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// freed returns the server's resident memory once it has returned what it
// does not use.
func freed(ctx context.Context, r *run) (int64, error) {
	if err := r.target.FreeMemory(ctx); err != nil {
		return 0, fmt.Errorf("free memory: %w", err)
	}
	usage, err := r.target.Usage(ctx)
	return usage.RSS, err
}
