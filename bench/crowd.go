package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tegami-im/tegami/bench/h2client"
	"github.com/tegami-im/tegami/bench/ledger"
	"github.com/tegami-im/tegami/bench/target"
)

const (
	// dialLimit bounds one connection's set-up.
	dialLimit = 30 * time.Second
	// answerLimit is how long the last answers are waited for.
	answerLimit = 30 * time.Second
)

// crowd is the users of a run. Each has one device, which polls all the time.
type crowd struct {
	target   *target.Target
	ledger   *ledger.Ledger
	users    []*user
	conns    []*h2client.Conn
	inFlight atomic.Int64
	errors   errorCounts
}

// newCrowd makes the users of a run, who are not connected yet.
func newCrowd(ctx context.Context, r *run, count, size int) (*crowd, error) {
	tag := newTag()
	names := userNames(tag, count)
	r.say("creating %d users and signing them in", count)
	if err := createUsers(ctx, r.target, names); err != nil {
		return nil, fmt.Errorf("create users: %w", err)
	}
	tokens, err := signIn(ctx, r.target, names)
	if err != nil {
		return nil, fmt.Errorf("sign users in: %w", err)
	}
	c := &crowd{target: r.target, ledger: ledger.New(tag, names, size)}
	for i, name := range names {
		c.users = append(c.users, newUser(c, i, name, tokens[i]))
	}
	return c, nil
}

// connect opens connections, shares them out among the users, and starts their
// polls. Users who share a connection send their token with each request, as
// behind a proxy; those who do not send it once.
func (c *crowd) connect(ctx context.Context, connections int, pollTimeout time.Duration) error {
	c.conns = make([]*h2client.Conn, connections)
	err := each(connections, 16, func(i int) (err error) {
		c.conns[i], err = dial(ctx, c.target)
		return err
	})
	if err != nil {
		c.disconnect()
		return err
	}
	for i, u := range c.users {
		u.start(c.conns[i%connections], connections < len(c.users), pollTimeout)
	}
	return nil
}

// dial opens a connection to the server.
func dial(ctx context.Context, t *target.Target) (*h2client.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	options := h2client.Options{}
	if t.URL.Scheme == "https" {
		// The server is the operator's own, on a test machine as a rule.
		options.TLS = &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true} //nolint:gosec // see above
	}
	return h2client.Dial(ctx, t.URL.Host, options)
}

// disconnect closes the connections and waits until nothing of them runs.
func (c *crowd) disconnect() {
	for _, conn := range c.conns {
		if conn != nil {
			conn.Close() //nolint:errcheck // the server may have closed it first
			<-conn.Done()
		}
	}
	for _, u := range c.users {
		u.stop()
	}
	c.conns = nil
}

// finish waits for the last answers and deliveries, then stops the polls and
// reads every mailbox to its end. It returns how many acknowledged messages no
// held poll had handed over in time.
func (c *crowd) finish(ctx context.Context, wakeLimit time.Duration) (late int, err error) {
	waitFor(ctx, answerLimit, func() bool { return c.inFlight.Load() == 0 })
	waitFor(ctx, wakeLimit, func() bool { return c.ledger.Missing() == 0 })
	late = c.ledger.Missing()
	return late, c.catchUp(ctx)
}

// catchUp stops the polls and reads every mailbox to its end.
func (c *crowd) catchUp(ctx context.Context) error {
	return each(len(c.users), 64, func(i int) error {
		u := c.users[i]
		u.stop()
		return u.readToEnd(ctx)
	})
}

// waitFor looks at a condition every few milliseconds until it holds or the
// limit has passed.
func waitFor(ctx context.Context, limit time.Duration, condition func() bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sleep waits, unless the context ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errorCounts counts what went wrong, by call and code. Safe for concurrent
// use.
type errorCounts struct {
	mu     sync.Mutex
	counts map[string]int
}

func (e *errorCounts) add(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = map[string]int{}
	}
	e.counts[what]++
}

func (e *errorCounts) snapshot() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.counts)
}
