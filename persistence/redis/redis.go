// Package redis keeps the cache of package persistence on Redis, on one server
// or on a Redis Cluster.
//
// Every key of a shard has the shard as its hash tag, so that one script moves
// rows, states and watermark in one atomic step, on a cluster too. Keys of a
// filling carry the filling's name: a new filling orphans those of the one
// before, and since every key expires, orphans free themselves. A mailbox has
// three keys:
//
//	<prefix>:{0042}:mark          hash: fill, watermark, write
//	<prefix>:{0042}:<fill>:c:bob  hash: position, state, sources of the copy
//	<prefix>:{0042}:<fill>:d:bob  stream: dedup entries of the copy
//	<prefix>:{0042}:<fill>:r:bob  stream: operation rows, ids <revision>-0
//
// Scripts and not WATCH: one round trip instead of two, nothing to be tried
// again when another mailbox of the shard is written, and a comparison of
// positions for each of hundreds of mailboxes without fetching them first.
// Numbers in Lua are doubles, so positions are compared as decimal digits of a
// fixed width, and revisions by length and digits.
//
// A server that evicts or expires keys may take one of a mailbox's keys and
// leave the others. The copy's hash therefore says how long its stream is, and
// a copy whose stream is not is removed.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/tegami-im/tegami/persistence"
)

// ErrUnavailable says that the server cannot be reached, does not answer in
// time, is loading its data, refuses our password, or has failed so often that
// it is left alone for a moment.
var ErrUnavailable = errors.New("redis is unavailable")

// Limits of one write. Redis does nothing else while a script runs, so a batch
// is not cut but refused: callers keep to about 512 records and 1 MiB, which
// take a few milliseconds.
const (
	MaxBatchMailboxes = 4096
	MaxBatchBytes     = 16 << 20
)

// Options say where the server is and how much is kept. Zero values stand for
// the defaults.
type Options struct {
	// Addresses are host:port, one of them for a single server; some of a
	// cluster's are enough.
	Addresses []string
	// Cluster says that the servers are a Redis Cluster.
	Cluster bool
	// Username and Password are those of an ACL user. Without a name it is the
	// default user (requirepass).
	Username, Password string
	// TLS, unless nil, is used for every connection. Without a ServerName in
	// it, the name of the address is verified.
	TLS *tls.Config
	// Prefix begins every key: tegami by default. It must not hold braces,
	// which mean something in keys.
	Prefix string
	// Expiry is how long a key is kept after it was last written or loaded: 6
	// hours by default. It is also how long an orphaned filling takes space.
	Expiry time.Duration
	// MaxRows is about how many of its newest rows a mailbox keeps: 1,000 by
	// default.
	MaxRows int
	// MaxDedup is how many dedup entries a copy may have: 4,096 by default. One
	// that would have more is removed, or not kept.
	MaxDedup int
	// DialTimeout, ReadTimeout and WriteTimeout bound a call together with its
	// context: 500 ms each by default. A call that waits for an answer notices
	// the end of its context's deadline at once, and that its context was
	// cancelled after ReadTimeout at the latest.
	DialTimeout, ReadTimeout, WriteTimeout time.Duration
	// PoolSize is the number of connections to each server: 16 by default. Calls
	// beyond it wait for one until their context ends, ReadTimeout at most.
	PoolSize int
	// Breaker says when a server is left alone.
	Breaker BreakerOptions
	// Logger is told of servers that fail and recover, and gets what go-redis
	// logs (of which there is one for the process: the last cache's). None by
	// default.
	Logger *slog.Logger
}

// BreakerOptions are those of the circuit breaker of each server.
type BreakerOptions struct {
	// Failures in a row after which calls are refused at once: 5 by default.
	Failures int
	// Pause is how long they are refused before one of them tries again, half
	// of it random: 200 ms by default. It doubles with each try that fails, up
	// to MaxPause: 5 s by default.
	Pause, MaxPause time.Duration
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Addresses) == 0 {
		return o, errors.New("no address")
	}
	if !o.Cluster && len(o.Addresses) > 1 {
		return o, fmt.Errorf("%d addresses without Cluster", len(o.Addresses))
	}
	if strings.ContainsAny(o.Prefix, "{}") {
		return o, fmt.Errorf("prefix %q: holds a brace", o.Prefix)
	}
	for _, number := range []struct {
		name     string
		value    *int
		standard int
	}{
		{"MaxRows", &o.MaxRows, 1000},
		{"MaxDedup", &o.MaxDedup, 4096},
		{"PoolSize", &o.PoolSize, 16},
		{"Breaker.Failures", &o.Breaker.Failures, 5},
	} {
		if *number.value < 0 {
			return o, fmt.Errorf("%s is %d: must not be negative", number.name, *number.value)
		}
		if *number.value == 0 {
			*number.value = number.standard
		}
	}
	for _, duration := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"Expiry", &o.Expiry, 6 * time.Hour},
		{"DialTimeout", &o.DialTimeout, 500 * time.Millisecond},
		{"ReadTimeout", &o.ReadTimeout, 500 * time.Millisecond},
		{"WriteTimeout", &o.WriteTimeout, 500 * time.Millisecond},
		{"Breaker.Pause", &o.Breaker.Pause, 200 * time.Millisecond},
		{"Breaker.MaxPause", &o.Breaker.MaxPause, 5 * time.Second},
	} {
		if *duration.value != 0 && *duration.value < time.Millisecond {
			return o, fmt.Errorf("%s is %v: must be 1ms at least", duration.name, *duration.value)
		}
		if *duration.value == 0 {
			*duration.value = duration.standard
		}
	}
	if o.Prefix == "" {
		o.Prefix = "tegami"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Cache is a persistence.Cache on Redis. All methods are safe for concurrent
// use and return ErrUnavailable, wrapped, while the server is.
type Cache struct {
	options Options
	client  goredis.UniversalClient
	dialer  *dialer
	closed  atomic.Bool

	mu sync.Mutex // guards the following
	// fills are the fillings that shards were last seen to have, to name keys
	// by. Scripts compare them.
	fills map[uint32]string
	// breakers are those of the servers, by address.
	breakers map[string]*breaker
}

var _ persistence.Cache = (*Cache)(nil)

// Open returns a cache. It does not connect: a server that is down is met by
// the first calls, and used when it is back.
func Open(options Options) (*Cache, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("redis options: %w", err)
	}
	goredis.SetLogger(clientLogger{options.Logger})
	c := &Cache{options: options, dialer: newDialer(options.TLS), fills: map[uint32]string{}, breakers: map[string]*breaker{}}
	if options.Cluster {
		c.client = goredis.NewClusterClient(c.clusterOptions())
	} else {
		c.client = c.newClient(&goredis.Options{
			Addr:                     options.Addresses[0],
			Dialer:                   c.dialer.dial,
			Protocol:                 2, // nothing is pushed to us
			Username:                 options.Username,
			Password:                 options.Password,
			MaxRetries:               -1,
			DialTimeout:              options.DialTimeout,
			DialerRetries:            1,
			ReadTimeout:              options.ReadTimeout,
			WriteTimeout:             options.WriteTimeout,
			ContextTimeoutEnabled:    true,
			PoolSize:                 options.PoolSize,
			PoolTimeout:              options.ReadTimeout,
			PipelinePoolSize:         -1, // there are no pipelines
			DisableIdentity:          true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
	}
	return c, nil
}

func (c *Cache) clusterOptions() *goredis.ClusterOptions {
	return &goredis.ClusterOptions{
		Addrs:     c.options.Addresses,
		NewClient: c.newClient,
		Dialer:    c.dialer.dial,
		Protocol:  2,
		Username:  c.options.Username,
		Password:  c.options.Password,
		// A redirect would be harmless, but the client counts redirects and
		// blind retries alike. The call that finds a slot moved fails, and has
		// the map of the cluster read again for those after it.
		MaxRedirects:             -1,
		MaxRetries:               -1,
		DialTimeout:              c.options.DialTimeout,
		DialerRetries:            1,
		ReadTimeout:              c.options.ReadTimeout,
		WriteTimeout:             c.options.WriteTimeout,
		ContextTimeoutEnabled:    true,
		PoolSize:                 c.options.PoolSize,
		PoolTimeout:              c.options.ReadTimeout,
		PipelinePoolSize:         -1,
		DisableRoutingPolicies:   true, // scripts go by their first key
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// newClient gives each server a breaker of its own: one master of a cluster
// that is down does not keep the others from being asked.
func (c *Cache) newClient(options *goredis.Options) *goredis.Client {
	client := goredis.NewClient(options)
	address := client.Options().Addr
	b := newBreaker(c.options.Breaker, c.options.Logger.With("server", address), func() { c.dialer.hangUp(address) })
	client.AddHook(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakers[address] = b
	return client
}

// Refusing returns the servers by address, also those that have left a cluster,
// and whether calls to each are refused at once because it did not answer.
func (c *Cache) Refusing() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	refusing := make(map[string]bool, len(c.breakers))
	for address, b := range c.breakers {
		refusing[address] = b.open()
	}
	return refusing
}

// Close implements persistence.Cache. Calls in flight fail with
// persistence.ErrClosed.
func (c *Cache) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	err := c.client.Close()
	c.dialer.close()
	if err != nil {
		return fmt.Errorf("close redis client: %w", err)
	}
	return nil
}

// clientLogger passes on what go-redis logs.
type clientLogger struct{ logger *slog.Logger }

// Printf implements go-redis's logging.
func (l clientLogger) Printf(ctx context.Context, format string, arguments ...any) {
	l.logger.InfoContext(ctx, "redis client", "message", fmt.Sprintf(format, arguments...))
}
