package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// link is one connection to a broker. sarama's calls know no context; a link
// ends them by closing the connection under them.
type link struct {
	broker *sarama.Broker
	opened context.Context //nolint:containedctx // it is that of the dialing, which sarama calls back for
	used   time.Time

	mu   sync.Mutex // guards the following
	conn net.Conn
	dead bool
}

// errKilled says that a link was closed under a call.
var errKilled = errors.New("connection given up")

// connect opens a connection within the context.
func connect(ctx context.Context, config *sarama.Config, address string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, config.Net.DialTimeout)
	defer cancel()
	l := &link{broker: sarama.NewBroker(address), opened: ctx, used: time.Now()}
	own := *config
	own.Net.Proxy.Enable = true
	own.Net.Proxy.Dialer = l
	stop := context.AfterFunc(ctx, l.kill)
	defer stop()
	if err := l.broker.Open(&own); err != nil {
		return nil, err
	}
	// It waits for the whole handshake.
	connected, err := l.broker.Connected()
	if connected && err == nil && !l.isDead() {
		return l, nil
	}
	l.close()
	if err == nil {
		err = errKilled
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, fmt.Errorf("connect to broker %s: %w", address, err)
}

// Dial implements sarama's dialer.
func (l *link) Dial(network, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: 30 * time.Second}
	conn, err := dialer.DialContext(l.opened, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		conn.Close()
		return nil, errKilled
	}
	l.conn = conn
	return conn, nil
}

// kill closes the connection: whoever waits for an answer gets an error at
// once. It never blocks and may be called again.
func (l *link) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	if l.conn != nil {
		l.conn.Close()
	}
}

func (l *link) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// close ends the connection and its goroutine. It must not be called from a
// callback of the broker.
func (l *link) close() {
	l.kill()
	_ = l.broker.Close() // what it says of a connection that is gone is of no use
}

// do makes one call, which the end of the context ends.
func (l *link) do(ctx context.Context, call func(*sarama.Broker) error) error {
	stop := context.AfterFunc(ctx, l.kill)
	err := call(l.broker)
	if !stop() && err != nil {
		return context.Cause(ctx)
	}
	return err
}

// pool keeps connections for calls that wait for their answer, one at a time on
// each: a slow one holds up no other.
type pool struct {
	config *sarama.Config
	slots  chan struct{}

	mu     sync.Mutex // guards the following
	idle   map[string][]*link
	closed bool
}

const (
	// poolSize is the number of calls at a time.
	poolSize = 16
	// maxIdle is how long a connection stays unused before it is made again.
	// Brokers close theirs after ten minutes.
	maxIdle = 4 * time.Minute
)

func newPool(config *sarama.Config) *pool {
	return &pool{config: config, slots: make(chan struct{}, poolSize), idle: map[string][]*link{}}
}

// refused is an answer of a broker that says no, as against none.
type refused struct {
	err sarama.KError
}

func (r refused) Error() string { return r.err.Error() }
func (r refused) Unwrap() error { return r.err }

// refusal returns an error code as an error; nil for none.
func refusal(err sarama.KError) error {
	if err == sarama.ErrNoError {
		return nil
	}
	return refused{err}
}

// call makes a call on a connection to address. A connection on which it failed
// other than by a refusal is closed.
func (p *pool) call(ctx context.Context, address string, call func(*sarama.Broker) error) error {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.slots }()
	l := p.take(address)
	fresh := l == nil
	for {
		if l == nil {
			var err error
			if l, err = connect(ctx, p.config, address); err != nil {
				return err
			}
		}
		err := l.do(ctx, call)
		var no refused
		if err == nil || errors.As(err, &no) {
			p.put(address, l)
			return err
		}
		l.close()
		if fresh || ctx.Err() != nil {
			return err
		}
		// The connection may have died while it was idle, and the others too.
		p.drop(address)
		l, fresh = nil, true
	}
}

func (p *pool) take(address string) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := p.idle[address]
	if len(links) == 0 {
		return nil
	}
	l := links[len(links)-1]
	p.idle[address] = links[:len(links)-1]
	if time.Since(l.used) > maxIdle {
		l.close()
		return nil
	}
	return l
}

func (p *pool) put(address string, l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || l.isDead() {
		l.close()
		return
	}
	l.used = time.Now()
	p.idle[address] = append(p.idle[address], l)
}

func (p *pool) drop(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.idle[address] {
		l.close()
	}
	delete(p.idle, address)
}

// close ends the idle connections, and those in use when they come back.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var addresses []string
	for address := range p.idle {
		addresses = append(addresses, address)
	}
	p.mu.Unlock()
	for _, address := range addresses {
		p.drop(address)
	}
}
