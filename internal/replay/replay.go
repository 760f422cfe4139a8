// Package replay plays conversations between accounts and checks that every
// turn arrives once, in order, byte for byte, at both who said it and who heard
// it.
//
// Accounts sit in a ring; each talks with the next, so that everybody is in two
// conversations at a time. The turns of one pair are said one after the other,
// each after the one before was acknowledged: that order is what both must see.
package replay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Message is a turn as it arrived at an account: its own copy of what it said,
// or what it heard.
type Message struct {
	ID, From, To, Text string
}

// Account is one end of the conversations. Its methods are called from several
// goroutines.
type Account interface {
	Name() string
	// Send returns once the text is acknowledged.
	Send(ctx context.Context, to, text, id string) error
	// Receive calls arrived for each message in the mailbox, in order, one at a
	// time, until the context ends.
	Receive(ctx context.Context, arrived func(Message)) error
}

// Options say how to play.
type Options struct {
	// Run names this run: at most 20 printable ASCII characters.
	Run string
	// Rate is how many turns a second to say; 0 for as many as can be.
	Rate float64
	// Patience is how long to wait for what is missing at the end, with nothing
	// arriving meanwhile.
	Patience time.Duration
	// OnArrival is called for each turn that arrives for the first time at one
	// of its two sides. It may be nil.
	OnArrival func()
}

// Play plays conversations between at least two accounts. The Summary tells
// what arrived, also when an error, such as a refused send, ended it early.
func Play(ctx context.Context, conversations []Conversation, accounts []Account, options Options) (Summary, error) {
	if len(accounts) < 2 {
		return Summary{}, errors.New("replay needs at least two accounts")
	}
	p := newPlayer(accounts, options)
	began := time.Now()
	err := p.play(ctx, conversations)
	return p.summary(time.Since(began)), err
}

type player struct {
	options  Options
	accounts []Account
	threads  []*thread
	limiter  *rate.Limiter

	said, arrived atomic.Int64 // turns, and first arrivals at either side
	strangers     atomic.Int64
	languages     sync.Map // name to nothing
	played        atomic.Int64
	acknowledged  *latency
	delivered     *latency
}

func newPlayer(accounts []Account, options Options) *player {
	p := &player{
		options: options, accounts: accounts, limiter: rate.NewLimiter(rate.Inf, 1),
		acknowledged: newLatency(), delivered: newLatency(),
	}
	if options.Rate > 0 {
		p.limiter.SetLimit(rate.Limit(options.Rate))
	}
	pairs := len(accounts)
	if pairs == 2 {
		pairs = 1 // the ring would close on the same pair
	}
	for i := range pairs {
		p.threads = append(p.threads, &thread{ends: [2]Account{accounts[i], accounts[(i+1)%len(accounts)]}})
	}
	return p
}

func (p *player) play(ctx context.Context, conversations []Conversation) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var receivers, senders sync.WaitGroup
	for _, account := range p.accounts {
		receivers.Go(func() {
			if err := account.Receive(ctx, p.arrive(account)); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s receives: %w", account.Name(), err))
			}
		})
	}
	next := make(chan Conversation)
	for i := range p.threads {
		senders.Go(func() {
			for conversation := range next {
				if err := p.say(ctx, i, conversation); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, conversation := range conversations {
		select {
		case next <- conversation:
		case <-ctx.Done():
		}
	}
	close(next)
	senders.Wait()
	p.awaitArrivals(ctx)
	err := context.Cause(ctx)
	cancel(nil)
	receivers.Wait()
	return err
}

// say plays one conversation in a thread, its ends taking turns.
func (p *player) say(ctx context.Context, at int, conversation Conversation) error {
	t := p.threads[at]
	for i, text := range conversation.Turns {
		if p.limiter.Wait(ctx) != nil {
			return context.Cause(ctx)
		}
		from, to := t.ends[i%2], t.ends[(i+1)%2]
		began := time.Now()
		n := t.add(turn{from: from.Name(), to: to.Name(), text: text, said: began})
		p.said.Add(1)
		if err := from.Send(ctx, to.Name(), text, p.turnID(at, n)); err != nil {
			return fmt.Errorf("%s says to %s: %w", from.Name(), to.Name(), err)
		}
		p.acknowledged.record(time.Since(began))
	}
	p.played.Add(1)
	p.languages.Store(conversation.Language, nil)
	return nil
}

// arrive checks one message at one side.
func (p *player) arrive(account Account) func(Message) {
	return func(m Message) {
		at, n, ok := p.parseTurnID(m.ID)
		if !ok {
			p.strangers.Add(1)
			return
		}
		said, first := p.threads[at].arrive(account.Name(), n, m)
		if !first {
			return
		}
		p.arrived.Add(1)
		if m.To == account.Name() {
			p.delivered.record(time.Since(said))
		}
		if p.options.OnArrival != nil {
			p.options.OnArrival()
		}
	}
}

// awaitArrivals returns when all has arrived, or nothing has for long enough.
func (p *player) awaitArrivals(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, since := int64(-1), time.Now()
	for {
		arrived := p.arrived.Load()
		if arrived != last {
			last, since = arrived, time.Now()
		}
		if arrived >= 2*p.said.Load() || time.Since(since) > p.options.Patience {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// turnID is the client message id of a turn: a retry is the same message.
func (p *player) turnID(thread, n int) string {
	return fmt.Sprintf("%s/%d/%d", p.options.Run, thread, n)
}

func (p *player) parseTurnID(id string) (thread, n int, ok bool) {
	parts := strings.Split(id, "/")
	if len(parts) != 3 || parts[0] != p.options.Run {
		return 0, 0, false
	}
	thread, err1 := strconv.Atoi(parts[1])
	n, err2 := strconv.Atoi(parts[2])
	return thread, n, err1 == nil && err2 == nil && thread >= 0 && thread < len(p.threads) && n >= 0
}
