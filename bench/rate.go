package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// backlogLimit is how many answers an open loop waits for at most. Beyond it
// the server does not carry the rate.
const backlogLimit = 20_000

// Rate sends at a fixed rate, whether answers come or not: an open loop. Each
// message has a time at which it is due, and its latency counts from then.
type Rate struct {
	Load
	Rate    float64 `help:"Messages a second." default:"200"`
	Uniform bool    `help:"Equal intervals in place of random (Poisson) arrivals."`
}

func (s *Rate) name() string { return "rate" }

func (s *Rate) validate() error {
	if s.Rate <= 0 || s.Rate > 1_000_000 {
		return errors.New("rate: above 0, at most 1,000,000")
	}
	return s.Load.validate()
}

func (s *Rate) run(ctx context.Context, r *run) error {
	c, err := s.gather(ctx, r)
	if err != nil {
		return err
	}
	defer c.disconnect()
	loop := &openLoop{crowd: c, scenario: s}
	figures, err := s.measure(ctx, r, c, loop)
	if err = errors.Join(err, loop.err); err != nil {
		return err
	}
	figures.Rate = s.Rate
	r.result.Messages = figures
	return nil
}

// openLoop sends when it is time to.
type openLoop struct {
	crowd    *crowd
	scenario *Rate
	cancel   context.CancelFunc
	sending  sync.WaitGroup
	err      error // written before sending ends
}

func (l *openLoop) warmUp(ctx context.Context) error {
	sendContext, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	l.sending.Go(func() { l.err = l.send(sendContext) })
	return sleep(ctx, l.scenario.Warmup)
}

func (l *openLoop) stop() {
	l.cancel()
	l.sending.Wait()
}

// send sends until the context ends.
func (l *openLoop) send(ctx context.Context) error {
	conversations := newConversations(len(l.crowd.users), l.scenario.Seed)
	intervals := rand.New(rand.NewPCG(l.scenario.Seed, 1)) //nolint:gosec // no secret; repeatable
	pace := newPacer()
	defer pace.close()
	for due := time.Now(); ctx.Err() == nil; {
		interval := 1.0
		if !l.scenario.Uniform {
			interval = intervals.ExpFloat64()
		}
		due = due.Add(time.Duration(interval / l.scenario.Rate * float64(time.Second)))
		if !pace.wait(ctx, due) {
			break
		}
		if l.crowd.inFlight.Load() >= backlogLimit {
			return fmt.Errorf("%d answers are outstanding: the server does not carry %.0f a second", backlogLimit, l.scenario.Rate)
		}
		from, to := conversations.draw()
		l.crowd.send(from, to, due, func(bool) {})
	}
	return nil
}
