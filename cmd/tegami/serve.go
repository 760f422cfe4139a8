package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tegami-im/tegami/actors/node"
	"github.com/tegami-im/tegami/api/auth"
	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/remote"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/internal/fleet"
	"github.com/tegami-im/tegami/persistence/sealing"
	"github.com/tegami-im/tegami/telemetry"
)

type serveCommand struct {
	configFlags
}

func (serveCommand) Help() string {
	return `Runs every part in one process until it is interrupted, on the data folder given; it is made when missing. SIGTERM and Ctrl-C end it within 5 seconds with everything durable; whatever else ends it, nothing that was acknowledged is lost.

Examples:
  tegami serve
  tegami serve --data /var/lib/tegami --config /etc/tegami.yaml
  tegami serve --listen 127.0.0.1:7500 --admin 127.0.0.1:7501 --set journal.durability=os`
}

// collectAt is the growth of the heap, in percent, at which memory is
// collected: less than Go's 100, so that a burst of large pages leaves little
// behind it. GOGC overrides it.
const collectAt = 60

func (c *serveCommand) Run(ctx context.Context, std streams) error {
	setCollection()
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	s, err := assemble(ctx, &loaded.Config, newLogger(loaded.Log, std))
	if err != nil {
		return err
	}
	s.greet(std)
	return s.serve(ctx, std)
}

func setCollection() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
}

func newLogger(settings config.Log, std streams) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(settings.Level)) // validated
	options := &slog.HandlerOptions{Level: level}
	if settings.Format == "json" {
		return slog.New(slog.NewJSONHandler(std.err, options))
	}
	return slog.New(slog.NewTextHandler(std.err, options))
}

// service is one process: a whole server, or a node of a cluster.
type service struct {
	config  *config.Config
	log     *slog.Logger
	storage *storage // nil in a gateway
	node    *node.Node
	api     listeners
	public  *server.Server     // the same, if it has one for clients
	tracing *telemetry.Tracing // nil when nothing is traced
	// running ends when the server begins to stop: what goes on in the background
	// ends with it.
	running context.Context //nolint:containedctx // of the whole service
	stop    context.CancelFunc
	// signingKey is the fingerprint of the key that signs sessions.
	signingKey string
	// correcting is held while a correction is under way.
	correcting sync.Mutex
	background sync.WaitGroup

	// Of a node of a cluster; membership is that of a talk node, observer of a
	// gateway.
	network    *remote.Remote
	membership cluster.Membership
	observer   membersObserver
	// Of a gateway, which another process may succeed.
	succession *succession
	// enlisted ends when the gateway has nothing left to do: it is a member until
	// then.
	enlisted context.Context //nolint:containedctx // of the whole service
	delist   context.CancelFunc
}

// listeners are those of a process: a server.Server, or an adminServer.
type listeners interface {
	Serve() error
	Ready() bool
	Refuse()
	Drain(ctx context.Context) error
	Close() error
}

func newService(c *config.Config, log *slog.Logger) *service {
	s := &service{config: c, log: log}
	s.running, s.stop = context.WithCancel(context.Background())
	s.enlisted, s.delist = context.WithCancel(context.Background())
	return s
}

// assemble opens the data, starts the actors and binds the listeners, in this
// order; close undoes it in reverse. The context ends the wait for servers; what
// is started outlives it, to be drained.
func assemble(ctx context.Context, c *config.Config, log *slog.Logger) (_ *service, err error) {
	s := newService(c, log)
	defer s.closeOnError(ctx, &err)
	metrics := telemetry.New()
	if err = s.openStorage(ctx, metrics); err != nil {
		return nil, err
	}
	s.storage.measure(metrics)
	s.watch(metrics, nil)
	options := nodeOptions(c, s.storage, sealing.NewRing(s.storage.keys, sealing.DefaultRingSize, sealing.DefaultRingReads))
	if options.Behaviours, err = configuredBehaviours(c); err != nil {
		return nil, err
	}
	if err := s.startNode(ctx, options, metrics); err != nil {
		return nil, err
	}
	if rate := c.Audit.Rate; rate > 0 && s.storage.embedded != nil {
		auditor := newAuditor(s.storage, rate, metrics.Registry, log)
		s.background.Go(func() { auditor.Run(s.running) })
	}
	apiOptions, err := s.apiOptions(metrics)
	if err != nil {
		return nil, err
	}
	public, err := server.New(apiOptions, s.node) //nolint:contextcheck // it outlives ctx, to be drained
	if err != nil {
		return nil, err
	}
	s.api, s.public = public, public
	return s, nil
}

// startNode starts the actors, watched and traced.
func (s *service) startNode(ctx context.Context, options node.Options, metrics *telemetry.Metrics) (err error) {
	options.Logger, options.Observe = s.log, metrics.Node()
	if tracing := s.config.Tracing; tracing.Endpoint != "" {
		if s.tracing, err = telemetry.NewTracing(ctx, tracing.Endpoint, float64(tracing.PerMillion)/1e6); err != nil {
			return err
		}
		options.Observe.Trace = s.tracing.Send
	}
	if s.node, err = node.Start(options); err != nil { //nolint:contextcheck // it outlives ctx, to be drained
		return err
	}
	metrics.WatchNode(s.node)
	return nil
}

// openStorage opens the storage, and waits for servers that do not answer yet
// with the admin listener up.
func (s *service) openStorage(ctx context.Context, metrics *telemetry.Metrics) error {
	var outside *porch
	var failed error
	p := patience{until: time.Now().Add(s.config.Store.StartTimeout), log: s.log}
	p.waiting = func(server string) {
		if outside == nil {
			if outside, failed = openPorch(ctx, s.config.Admin.Listen, metrics); failed != nil {
				s.log.Warn("nothing answers for operators meanwhile", "error", failed)
				return
			}
		}
		outside.what.Store(&server)
	}
	var err error
	s.storage, err = openStorage(ctx, s.config, s.log, p)
	if outside != nil {
		outside.close()
	}
	return err
}

func (s *service) apiOptions(metrics *telemetry.Metrics) (server.Options, error) {
	options := serverOptions(s.config)
	options.Logger, options.Hooks = s.log, metrics.Server()
	var err error
	if options.SigningKey, err = auth.LoadOrCreateKey(filepath.Join(s.config.Data.Dir, signingKeyFile)); err != nil {
		return options, err
	}
	s.signingKey = fleet.Fingerprint(options.SigningKey)
	if options.AdminToken, err = auth.LoadOrCreateAdminToken(filepath.Join(s.config.Data.Dir, adminTokenFile)); err != nil {
		return options, err
	}
	if options.Provider, err = openIDProvider(s.config, s.log, metrics); err != nil {
		return options, err
	}
	options.AdminHandlers = s.adminHandlers(metrics, options.AdminToken)
	options.Behaviours, err = behaviourCalls(s.config, s.node.Call)
	return options, err
}

// The secrets in the data folder, beside what the storage keeps there.
const (
	signingKeyFile = "signing.key"
	adminTokenFile = "admin.token"
)

// leaveTimeout bounds the wait for etcd at the end.
const leaveTimeout = time.Second

// tracingTimeout bounds the wait for a collector at the end.
const tracingTimeout = time.Second

// greet says where the server listens and what to type next.
func (s *service) greet(std streams) {
	scheme := "http"
	if s.config.TLS.Cert != "" {
		scheme = "https"
	}
	url := scheme + "://" + s.public.PublicAddr().String()
	std.printf("Tegami listens on %s, for operators on http://%s, with its data in %s.\n",
		url, s.public.AdminAddr(), s.config.Data.Dir)
	where := ""
	if url != defaultServer {
		where = " --server " + url
	}
	if s.config.Auth.Registration != config.RegistrationClosed {
		std.printf("\nNext, in two other terminals:\n  %[1]s register alice%[2]s\n  %[1]s chat --as alice\n\n  %[1]s register bob%[2]s\n  %[1]s chat --as bob --with alice\n\n", os.Args[0], where)
	}
}

// serve serves until the context ends, then stops in good order, or until a
// listener fails or the node is evicted from the cluster.
func (s *service) serve(ctx context.Context, std streams) error {
	served := make(chan error, 1)
	if err := s.succession.awaitReady(ctx, s.node); err != nil {
		return errors.Join(err, s.close(context.WithoutCancel(ctx)))
	}
	go func() { served <- s.api.Serve() }()
	succeeded, err := s.succession.begin(ctx, s.public, s.log)
	if err != nil {
		s.drain(context.WithoutCancel(ctx))
		return errors.Join(err, s.close(context.WithoutCancel(ctx)), <-served)
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go s.awaitReady(watching, std)
	var evicted <-chan struct{}
	if s.membership != nil {
		evicted = s.membership.Evicted()
	}
	select {
	case err := <-served:
		return errors.Join(err, s.close(context.WithoutCancel(ctx)))
	case <-evicted: // its shards are others' by now
		return errors.Join(cluster.ErrEvicted, s.close(context.WithoutCancel(ctx)), <-served)
	case <-ctx.Done():
		s.log.Info("stopping")
	case <-succeeded:
		s.log.Info("another process has taken over; stopping")
	}
	s.drain(context.WithoutCancel(ctx))
	err = errors.Join(s.close(context.WithoutCancel(ctx)), <-served)
	s.log.Info("stopped")
	return err
}

// awaitReady says when all shards are open, or why some are not.
func (s *service) awaitReady(ctx context.Context, std streams) {
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !s.api.Ready() {
		if halted := s.node.Halted(); len(halted) > 0 {
			s.log.Error("shards wait for an operator", "shards", halted)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	s.log.Info("ready", "took", time.Since(began).Round(time.Millisecond))
	std.printf("Ready.\n")
}

// drain stops in good order: no new requests; the held polls are answered;
// what is under way is answered, stored and synced. What it does not manage in
// time is replayed from the journal at the next start.
func (s *service) drain(ctx context.Context) {
	if s.succession != nil {
		s.drainGateway(ctx)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Server.DrainTimeout)
	defer cancel()
	s.stop()
	s.api.Refuse()
	s.node.DrainPolls(0)
	if s.membership != nil {
		telling, cancel := context.WithTimeout(ctx, leaveTimeout)
		if err := s.membership.SetState(telling, cluster.StateDraining); err != nil {
			s.log.Warn("the others are not told that this node drains", "error", err)
		}
		cancel()
	}
	if err := errors.Join(s.api.Drain(ctx), s.node.Drain(ctx)); err != nil {
		s.log.Warn("not everything was drained in time", "error", err)
	}
}

// close ends what runs, whether it was drained or not.
func (s *service) close(ctx context.Context) error {
	s.stop()
	s.delist()
	var errs []error
	if s.succession != nil {
		errs = append(errs, s.succession.close())
	}
	if s.api != nil {
		errs = append(errs, s.api.Close())
	}
	s.background.Wait()
	if s.membership != nil {
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		if err := s.membership.Leave(ctx); err != nil {
			s.log.Warn("the others are not told that this node leaves", "error", err)
		}
	}
	if s.node != nil {
		errs = append(errs, s.node.Close())
	}
	if s.observer != nil {
		errs = append(errs, s.observer.Close())
	}
	if s.network != nil {
		s.network.Close()
	}
	if s.storage != nil {
		errs = append(errs, s.storage.Close())
	}
	if s.tracing != nil {
		ctx, cancel := context.WithTimeout(ctx, tracingTimeout)
		defer cancel()
		if err := s.tracing.Close(ctx); err != nil {
			s.log.Warn("the last traces were not sent", "error", err)
		}
	}
	if err := errors.Join(errs...); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
