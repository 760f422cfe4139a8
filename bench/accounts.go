package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Accounts finds what accounts cost in server memory: many that sleep, and
// some that are active; and how long a start takes with them.
type Accounts struct {
	Accounts int `help:"Accounts." default:"1000000"`
	Active   int `help:"How many of them poll and get messages." default:"1000"`
}

func (s *Accounts) name() string { return "accounts" }

func (s *Accounts) validate() error {
	if s.Active < 2 || s.Accounts < s.Active || s.Accounts > 100_000_000 {
		return errors.New("accounts: at most 100,000,000; active: from 2 to all of them")
	}
	return nil
}

func (s *Accounts) run(ctx context.Context, r *run) error {
	r.say("creating %d accounts", s.Accounts-s.Active)
	began := time.Now()
	if err := createUsers(ctx, r.target, userNames(newTag(), s.Accounts-s.Active)); err != nil {
		return fmt.Errorf("create accounts: %w", err)
	}
	created := time.Since(began)

	c, err := newCrowd(ctx, r, s.Active, 100)
	if err != nil {
		return err
	}
	defer c.disconnect()
	if err := c.connect(ctx, s.Active, holdTimeout); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := c.exchange(ctx, s.Active); err != nil {
		return err
	}
	if err := settle(ctx, r.target); err != nil {
		return err
	}
	usage, err := r.target.Usage(ctx)
	if err != nil {
		return err
	}
	less, err := freed(ctx, r)
	if err != nil {
		return err
	}
	if err := prove(ctx, r, c); err != nil {
		return err
	}
	r.result.Accounts = &AccountFigures{
		Accounts: s.Accounts, Active: s.Active,
		CreatedPerSecond: float64(s.Accounts-s.Active) / created.Seconds(),
		Memory:           usage.RSS, MemoryFreed: less, MemoryPeak: usage.PeakRSS,
	}
	if !r.target.Own() {
		return nil
	}
	return s.restart(ctx, r)
}

func (s *Accounts) restart(ctx context.Context, r *run) error {
	r.say("stopping and starting again")
	took, err := cleanStart(ctx, r)
	if err != nil {
		return err
	}
	usage, err := r.target.Usage(ctx)
	r.result.Accounts.CleanStart = took.Seconds()
	r.result.Accounts.StartMemory = usage.RSS
	return err
}

// cleanStart stops our server and returns how long it takes to start again.
func cleanStart(ctx context.Context, r *run) (time.Duration, error) {
	if err := r.target.Stop(ctx); err != nil {
		return 0, err
	}
	return r.target.Launch(ctx)
}
