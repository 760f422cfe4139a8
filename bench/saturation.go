package bench

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	firstWindow, usualWindow, lastWindow = 32, 256, 1024
	mostInFlight                         = 4096
	// searchStep is how long each window is tried.
	searchStep = 2 * time.Second
	// sendAgain is the wait behind a send that failed.
	sendAgain = 10 * time.Millisecond
)

// Saturation finds how many messages a second the server carries: a closed
// loop keeps so many messages in flight that more would not be faster.
type Saturation struct {
	Load
	Window int `help:"Messages in flight at once. 0: the smallest of 32 to 1,024 that is within 5 percent of the best." default:"0"`
}

func (s *Saturation) name() string { return "saturation" }

func (s *Saturation) validate() error {
	if s.Window < 0 || s.Window > mostInFlight {
		return errors.New("window: from 0 to 4096")
	}
	return s.Load.validate()
}

func (s *Saturation) run(ctx context.Context, r *run) error {
	c, err := s.gather(ctx, r)
	if err != nil {
		return err
	}
	defer c.disconnect()
	loop := newClosedLoop(r, c, s.Load, s.Window)
	figures, err := s.measure(ctx, r, c, loop)
	if err != nil {
		return err
	}
	figures.Window = loop.steady
	r.result.Messages = figures
	return nil
}

// closedLoop keeps a number of messages in flight: each answer sends the next
// one, between another pair.
type closedLoop struct {
	run    *run
	crowd  *crowd
	warmup time.Duration
	steady int // the window once it is warm; 0: to be found

	mu            sync.Mutex
	conversations *conversations
	want, open    int
}

func newClosedLoop(r *run, c *crowd, load Load, window int) *closedLoop {
	return &closedLoop{
		run: r, crowd: c, warmup: load.Warmup, steady: window,
		conversations: newConversations(len(c.users), load.Seed),
	}
}

// warmUp warms the server up first, so that the windows which are tried after
// that meet it as it stays.
func (l *closedLoop) warmUp(ctx context.Context) error {
	if l.steady > 0 {
		l.resize(l.steady)
		return sleep(ctx, l.warmup)
	}
	l.resize(usualWindow)
	if err := sleep(ctx, l.warmup); err != nil {
		return err
	}
	return l.findWindow(ctx)
}

func (l *closedLoop) stop() { l.resize(0) }

// findWindow tries windows and keeps the smallest that is nearly as good as the
// best.
func (l *closedLoop) findWindow(ctx context.Context) error {
	rates := map[int]float64{}
	most := 0.0
	for window := firstWindow; window <= lastWindow; window *= 2 {
		rate, err := l.try(ctx, window)
		if err != nil {
			return err
		}
		l.run.say("%d in flight: %.0f acknowledged a second", window, rate)
		rates[window], most = rate, max(most, rate)
	}
	for l.steady = firstWindow; rates[l.steady] < 0.95*most; l.steady *= 2 {
	}
	l.resize(l.steady)
	return sleep(ctx, searchStep/4)
}

// try returns how many messages a second a window brings.
func (l *closedLoop) try(ctx context.Context, window int) (float64, error) {
	l.resize(window)
	if err := sleep(ctx, searchStep/4); err != nil { // until the window before has come in
		return 0, err
	}
	before, _ := l.crowd.ledger.Counts()
	began := time.Now()
	if err := sleep(ctx, searchStep*3/4); err != nil {
		return 0, err
	}
	after, _ := l.crowd.ledger.Counts()
	return float64(after-before) / time.Since(began).Seconds(), nil
}

// idle reports whether nothing is in flight or about to be sent.
func (l *closedLoop) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open == 0
}

// resize changes how many messages are kept in flight.
func (l *closedLoop) resize(window int) {
	l.mu.Lock()
	l.want = window
	more := max(0, window-l.open)
	l.open += more
	l.mu.Unlock()
	for range more {
		l.next()
	}
}

// next sends the next message of one of the open places, or closes the place
// when there are too many.
func (l *closedLoop) next() {
	l.mu.Lock()
	if l.open > l.want {
		l.open--
		l.mu.Unlock()
		return
	}
	from, to := l.conversations.draw()
	l.mu.Unlock()
	l.crowd.send(from, to, time.Now(), func(acknowledged bool) {
		if acknowledged {
			l.next()
			return
		}
		time.AfterFunc(sendAgain, l.next) // ends by itself once want is 0
	})
}
