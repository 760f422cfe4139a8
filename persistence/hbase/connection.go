package hbase

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tsuna/gohbase"
	"github.com/tsuna/gohbase/hrpc"
	"github.com/tsuna/gohbase/pb"

	"github.com/tegami-im/tegami/persistence"
)

const (
	// grace is how much longer than a request's deadline the client library
	// waits for a server before it drops the connection.
	grace = time.Second
	// renewAfter is for how long HBase must have been away before the client is
	// replaced by a new one: the old one's pauses between its attempts to find
	// a region grow to half a minute.
	renewAfter = 3 * time.Second
	// queued requests go out as soon as the connection is free: the client
	// library takes no pause of zero.
	flushInterval = time.Microsecond
	// zooKeeperTimeout is that of the sessions in which regions are looked up.
	zooKeeperTimeout = 10 * time.Second
)

// connection makes requests to HBase: bounded in number, each with a deadline,
// none while HBase does not answer.
type connection struct {
	options Options
	limit   chan struct{} // holds a token for each request in flight
	breaker breaker
	calls   sync.WaitGroup // requests in flight, those whose callers left too

	mu     sync.Mutex // guards the following
	client gohbase.Client
	dialer *dialer // of client
	closed bool
}

func newConnection(options Options) *connection {
	c := &connection{
		options: options,
		limit:   make(chan struct{}, options.Requests),
		breaker: breaker{now: time.Now},
	}
	c.client, c.dialer = c.newClient()
	return c
}

func (c *connection) newClient() (gohbase.Client, *dialer) {
	d := newDialer()
	o := &c.options
	return gohbase.NewClient(o.ZooKeeper,
		gohbase.ZookeeperRoot(o.ZooKeeperRoot),
		gohbase.ZookeeperTimeout(zooKeeperTimeout),
		gohbase.EffectiveUser(o.User),
		gohbase.FlushInterval(flushInterval),
		gohbase.RegionLookupTimeout(max(zooKeeperTimeout, o.RequestTimeout)),
		gohbase.RegionReadTimeout(o.RequestTimeout+grace),
		gohbase.RegionDialer(d.dial),
		gohbase.Logger(forDebugging(o.Logger)),
	), d
}

// work is a request that is ready to be made.
type work[T any] func(client gohbase.Client) (T, error)

// request makes a request. prepare gets the context that ends by the request's
// deadline; it runs on the caller's goroutine, the work that it returns on
// another: the client library blocks on a connection that takes no more, and
// the caller leaves by the deadline even so. The work must therefore share
// nothing with its caller but what it returns.
func request[T any](ctx context.Context, c *connection, prepare func(ctx context.Context) (work[T], error)) (T, error) {
	var none T
	if err := c.usable(ctx); err != nil {
		return none, err
	}
	began := time.Now()
	leave, ok := c.breaker.ask()
	if !ok {
		return none, fmt.Errorf("%w: refused without asking it again", ErrUnavailable)
	}
	deadline, cancel := context.WithTimeout(ctx, c.options.RequestTimeout)
	defer cancel()
	prepared, err := prepare(deadline)
	if err != nil {
		c.breaker.report(leave, undecided)
		return none, err
	}
	if leave.attempt && leave.down > renewAfter {
		if err := c.renew(deadline); err != nil {
			return none, c.finish(ctx, began, leave, err)
		}
	}
	client, err := c.enter(deadline)
	if err != nil {
		return none, c.finish(ctx, began, leave, err)
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := prepared(client)
		answers <- answer{value, err}
		<-c.limit
		c.calls.Done()
	}()
	a := answer{err: context.DeadlineExceeded}
	select {
	case a = <-answers:
	case <-deadline.Done():
		select {
		case a = <-answers: // both were there: the answer counts
		default:
		}
	}
	return a.value, c.finish(ctx, began, leave, a.err)
}

// usable returns an error when the context or the connection has ended.
func (c *connection) usable(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return persistence.ErrClosed
	}
	return ctx.Err()
}

// enter waits for its turn and returns the client to use. The caller takes a
// token from limit and calls calls.Done afterwards.
func (c *connection) enter(ctx context.Context) (gohbase.Client, error) {
	select {
	case c.limit <- struct{}{}:
	default:
		select {
		case c.limit <- struct{}{}:
		case <-ctx.Done():
			return nil, errQueued
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		<-c.limit
		return nil, persistence.ErrClosed
	}
	c.calls.Add(1)
	return c.client, nil
}

// errQueued says that a request did not get its turn in time. It says nothing
// of HBase: those whose turn it was do.
var errQueued = fmt.Errorf("%w: too many requests are under way", persistence.ErrBusy)

// finish reports the outcome of a request that began some time ago to the
// breaker and returns the error as the caller shall see it.
func (c *connection) finish(ctx context.Context, began time.Time, l leave, err error) error {
	o, err := c.judge(ctx, began, err)
	opened, closed := c.breaker.report(l, o)
	if opened {
		c.options.Logger.Warn("hbase does not answer", slog.Any("error", err))
	}
	if closed {
		c.options.Logger.Info("hbase answers again")
	}
	return err
}

func (c *connection) judge(ctx context.Context, began time.Time, err error) (outcome, error) {
	switch {
	case err == nil:
		return answered, nil
	case c.usable(context.WithoutCancel(ctx)) != nil:
		return undecided, persistence.ErrClosed
	case ctx.Err() != nil:
		// A caller whose own deadline is short waited in vain, too.
		waited := !errors.Is(err, errQueued) && time.Since(began) >= c.options.RequestTimeout/4
		if waited && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return failed, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
		return undecided, ctx.Err()
	case errors.Is(err, errQueued):
		return undecided, err
	case errors.Is(err, gohbase.TableNotFound):
		return answered, fmt.Errorf("%w: a table is not there: run tegami admin schema apply", ErrSchema)
	}
	text := firstLines(err)
	if strings.Contains(text, "SpaceLimitingException") {
		return answered, fmt.Errorf("%w: %s", persistence.ErrFull, text)
	}
	if wasAnswered(err) {
		return answered, fmt.Errorf("hbase: %s", text)
	}
	return failed, fmt.Errorf("%w: %s", ErrUnavailable, text)
}

// wasAnswered reports whether an error shows that HBase is there: it refused,
// or what it answered did not make sense.
func wasAnswered(err error) bool {
	return errors.Is(err, persistence.ErrDamaged) || strings.HasPrefix(err.Error(), "HBase Java exception")
}

// firstLines returns an error's text without the server's stack trace.
func firstLines(err error) string {
	lines := strings.SplitN(err.Error(), "\n", 3)
	return strings.Join(lines[:min(2, len(lines))], " ")
}

// renew replaces the client, unless ZooKeeper is still away.
func (c *connection) renew(ctx context.Context) error {
	if err := dialAny(ctx, strings.Split(c.options.ZooKeeper, ",")); err != nil {
		return err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return persistence.ErrClosed
	}
	oldClient, oldDialer := c.client, c.dialer
	c.client, c.dialer = c.newClient()
	c.mu.Unlock()
	oldClient.Close()
	oldDialer.close()
	return nil
}

// close ends the connection, and waits for the requests in flight, which fail.
func (c *connection) close() {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	client, dialer := c.client, c.dialer
	c.mu.Unlock()
	if first {
		client.Close()
		dialer.close()
	}
	c.calls.Wait()
}

// get reads cells of one row; all, unless qualifiers are given. It returns none
// for a row that is not there.
func (c *connection) get(ctx context.Context, table, row []byte, qualifiers ...string) ([]*hrpc.Cell, error) {
	return request(ctx, c, func(ctx context.Context) (work[[]*hrpc.Cell], error) {
		get, err := newGet(ctx, table, row, qualifiers...)
		if err != nil {
			return nil, err
		}
		return func(client gohbase.Client) ([]*hrpc.Cell, error) {
			result, err := client.Get(get)
			if err != nil {
				return nil, err
			}
			return result.Cells, nil
		}, nil
	})
}

func newGet(ctx context.Context, table, row []byte, qualifiers ...string) (*hrpc.Get, error) {
	return hrpc.NewGet(ctx, table, row, hrpc.Families(map[string][]string{family: qualifiers}))
}

// getMany reads the same cells of several rows of a table.
func (c *connection) getMany(ctx context.Context, table []byte, rows [][]byte, qualifiers ...string) ([][]*pb.Cell, error) {
	cells := make([][]*pb.Cell, 0, len(rows))
	for len(rows) > 0 {
		some := rows[:min(len(rows), c.options.BatchRows)]
		rows = rows[len(some):]
		results, err := request(ctx, c, func(ctx context.Context) (work[[]hrpc.RPCResult], error) {
			batch := make([]hrpc.Call, len(some))
			for i, row := range some {
				var err error
				if batch[i], err = newGet(ctx, table, row, qualifiers...); err != nil {
					return nil, err
				}
			}
			return sendBatch(ctx, batch), nil
		})
		if err != nil {
			return nil, err
		}
		for _, result := range results {
			response, ok := result.Msg.(*pb.GetResponse)
			if !ok {
				return nil, fmt.Errorf("hbase answers a get with a %T: %w", result.Msg, persistence.ErrDamaged)
			}
			cells = append(cells, response.GetResult().GetCell())
		}
	}
	return cells, nil
}

// mutate sends mutations of one table in batches of bounded size, one after
// another. newMutation makes the one with an index below n, of slices that are
// its own.
func (c *connection) mutate(ctx context.Context, n int, newMutation func(ctx context.Context, i int) (*mutation, error)) error {
	for next := 0; next < n; {
		_, err := request(ctx, c, func(ctx context.Context) (work[[]hrpc.RPCResult], error) {
			var batch []hrpc.Call
			for bytes := 0; next < n && len(batch) < c.options.BatchRows && bytes < c.options.BatchBytes; next++ {
				m, err := newMutation(ctx, next)
				if err != nil {
					return nil, err
				}
				bytes += m.size()
				batch = append(batch, m)
			}
			return sendBatch(ctx, batch), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// put puts cells into one row.
func (c *connection) put(ctx context.Context, table, row []byte, durability Durability, cells ...cell) error {
	return c.mutate(ctx, 1, func(ctx context.Context, _ int) (*mutation, error) {
		return newPut(ctx, table, row, durability, cells...)
	})
}

// sendBatch returns the work of sending a batch, which fails when one of its
// requests does.
func sendBatch(ctx context.Context, batch []hrpc.Call) work[[]hrpc.RPCResult] {
	return func(client gohbase.Client) ([]hrpc.RPCResult, error) {
		results, ok := client.SendBatch(ctx, batch)
		if ok {
			return results, nil
		}
		for _, result := range results {
			if result.Error != nil && !errors.Is(result.Error, gohbase.NotExecutedError) {
				return nil, result.Error
			}
		}
		return nil, gohbase.NotExecutedError
	}
}
