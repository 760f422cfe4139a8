package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// loadLimit bounds the time in which a restart's records are written.
const loadLimit = 12 * time.Minute

// Restart kills a server of our own under load and finds how long it takes to
// be ready again, then reads every mailbox, then does the same with a clean
// stop. How much of the journal the server has to replay is its configuration's
// business.
type Restart struct {
	Records int    `help:"Journal records to write before the kill, two for each message." default:"1000000"`
	Users   int    `help:"Users who send them, on a connection for each ten." default:"10000"`
	Window  int    `help:"Messages in flight at once." default:"512"`
	Seed    uint64 `help:"Decides who writes to whom." default:"1"`
}

func (s *Restart) name() string { return "restart" }

func (s *Restart) validate() error {
	if s.Users < 2 || s.Records < 2 || s.Window < 1 || s.Window > mostInFlight {
		return errors.New("restart needs 2 users, 2 records and a window from 1 to 4096 at least")
	}
	return nil
}

func (s *Restart) connections() int { return (s.Users + 9) / 10 }

func (s *Restart) run(ctx context.Context, r *run) error {
	if !r.target.Own() {
		return errors.New("only a server of our own can be killed: leave the URL out")
	}
	load := Load{Users: s.Users, Connections: s.connections(), Size: 100, PollTimeout: holdTimeout, Seed: s.Seed}
	c, err := load.gather(ctx, r)
	if err != nil {
		return err
	}
	defer c.disconnect()
	unstored, err := s.fill(ctx, r, c)
	if err != nil {
		return err
	}
	acked, _ := c.ledger.Counts()

	r.say("starting after SIGKILL")
	killed, err := r.target.Launch(ctx)
	if err != nil {
		return err
	}
	usage, err := r.target.Usage(ctx)
	if err != nil {
		return err
	}
	r.say("ready after %v; reading every mailbox to its end", killed.Round(time.Millisecond))
	if err := c.connect(ctx, s.connections(), holdTimeout); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := c.catchUp(ctx); err != nil {
		return err
	}
	r.result.Faults, r.result.Evidence = c.ledger.Faults()
	c.disconnect()
	r.say("starting after a clean stop")
	clean, err := cleanStart(ctx, r)
	if err != nil {
		return err
	}
	r.result.Restart = &RestartFigures{
		Messages: acked, Records: 2 * acked, Unstored: unstored,
		KilledStart: killed.Seconds(), CleanStart: clean.Seconds(),
		MemoryPeak: usage.PeakRSS,
	}
	return nil
}

// fill sends until there are enough records, then kills the server with
// messages in flight. It returns how many records were not stored by then.
func (s *Restart) fill(ctx context.Context, r *run, c *crowd) (unstored int64, err error) {
	messages := (s.Records + 1) / 2
	r.say("sending %d messages", messages)
	loop := newClosedLoop(r, c, Load{Seed: s.Seed}, s.Window)
	defer loop.stop()
	if err := loop.warmUp(ctx); err != nil {
		return 0, err
	}
	waitFor(ctx, loadLimit, func() bool {
		acked, _ := c.ledger.Counts()
		return acked >= messages
	})
	if acked, _ := c.ledger.Counts(); acked < messages {
		return 0, fmt.Errorf("only %d of %d messages were acknowledged: %w", acked, messages, ctx.Err())
	}
	r.result.Errors = c.errors.snapshot() // those of the kill are expected
	usage, err := r.target.Usage(ctx)
	if err != nil {
		return 0, err
	}
	r.target.Kill()
	loop.stop()
	c.disconnect()
	waitFor(ctx, answerLimit, loop.idle)
	return usage.Unstored, nil
}
