package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/tegami-im/tegami/actors/node"
	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/api/socket"
	"github.com/tegami-im/tegami/cluster/remote"
	"github.com/tegami-im/tegami/config"
)

// The names of a gateway's listening sockets: what a predecessor calls them, and
// FileDescriptorName= in the socket units of systemd.
const (
	publicSocket = "public"
	adminSocket  = "admin"
)

// takeoverFile is the socket in the data folder at which a gateway is succeeded.
const takeoverFile = "takeover.sock"

const (
	// takeTimeout bounds the wait for the predecessor's part.
	takeTimeout = 10 * time.Second
	// readyTimeout bounds the wait until the successor is ready. The predecessor
	// serves meanwhile, and goes on when the successor gives up.
	readyTimeout = 30 * time.Second
	// successorTimeout is for how long a successor is waited for that has the
	// sockets: longer than it waits itself.
	successorTimeout = takeTimeout + 2*readyTimeout
)

// succession is how a gateway takes the place of another process and is succeeded
// by one. Nil stands for a process that does neither.
type succession struct {
	path      string
	taken     *socket.Taken // nil: nobody is succeeded
	listeners server.Listeners
	offer     *socket.Offer
}

// succeed gets the sockets that this process is to serve: those of a predecessor,
// if it is to take over from one and there is one, else those that systemd
// listens on. What it does not get it is to listen on by itself.
func succeed(ctx context.Context, c *config.Config, takeover bool) (*succession, error) {
	if err := os.MkdirAll(c.Data.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &succession{path: filepath.Join(c.Data.Dir, takeoverFile)}
	sockets, err := socket.Activated()
	if err != nil {
		return nil, err
	}
	if takeover {
		taking, cancel := context.WithTimeout(ctx, takeTimeout)
		defer cancel()
		if s.taken, err = socket.Take(taking, s.path); err != nil && !errors.Is(err, socket.ErrNobody) {
			return nil, err
		}
	}
	if s.taken != nil {
		closeAll(sockets) // they are the same
		sockets = s.taken.Listeners
	}
	for name, listener := range sockets {
		switch name {
		case publicSocket:
			s.listeners.Public = listener
		case adminSocket:
			s.listeners.Admin = listener
		default:
			closeAll(sockets)
			return nil, errors.Join(usagef("a socket is called %q: name it %s or %s", name, publicSocket, adminSocket), s.close())
		}
	}
	return s, nil
}

func closeAll(sockets map[string]net.Listener) {
	for _, one := range sockets {
		_ = one.Close()
	}
}

// listenCluster hears other nodes. The predecessor still does where this one is
// to: it listens beside it, for this run.
func (s *succession) listenCluster(ctx context.Context, c *config.Config, log *slog.Logger) (*remote.Remote, error) {
	network, err := listenCluster(c, log) //nolint:contextcheck // it outlives ctx, until close
	if err == nil || s.taken == nil {
		return network, err
	}
	beside := *c
	if beside.Cluster, err = besides(ctx, c.Cluster); err != nil {
		return nil, err
	}
	log.Info("the cluster's port is the predecessor's for now", "listen", beside.Cluster.Listen)
	return listenCluster(&beside, log) //nolint:contextcheck // it outlives ctx, until close
}

// besides returns the settings of a node that listens on another port, a free one.
func besides(ctx context.Context, c config.Cluster) (config.Cluster, error) {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return c, err
	}
	free, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return c, err
	}
	c.Listen = free.Addr().String()
	if c.Advertise != "" {
		if host, _, err = net.SplitHostPort(c.Advertise); err == nil {
			_, port, _ := net.SplitHostPort(c.Listen) // the system's own
			c.Advertise = net.JoinHostPort(host, port)
		}
	}
	return c, errors.Join(err, free.Close())
}

// awaitReady waits until this process can serve, if its predecessor does
// meanwhile.
func (s *succession) awaitReady(ctx context.Context, n *node.Node) error {
	if s == nil || s.taken == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for !n.Ready() {
		if !sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("not ready to take over; the gateway that runs goes on: %w", context.Cause(ctx))
		}
	}
	return nil
}

// begin has the predecessor leave, now that this process serves, and lets another
// succeed it: the channel that it returns is closed when one does. Error: this
// process came too late, and another serves the sockets.
func (s *succession) begin(ctx context.Context, public interface{ Sockets() server.Listeners }, log *slog.Logger) (succeeded <-chan struct{}, err error) {
	if s == nil {
		return nil, nil
	}
	if s.taken != nil {
		ctx, cancel := context.WithTimeout(ctx, takeTimeout)
		defer cancel()
		if err = s.taken.Done(ctx); err != nil {
			log.Warn("the predecessor does not say that it leaves", "error", err)
		}
	}
	sockets := public.Sockets()
	offer, failed := socket.NewOffer(s.path, map[string]net.Listener{publicSocket: sockets.Public, adminSocket: sockets.Admin}, successorTimeout)
	switch {
	case err != nil && errors.Is(failed, socket.ErrInUse): // it was waited for in vain, and forgotten
		return nil, fmt.Errorf("the gateway that runs goes on: %w", errors.Join(err, failed))
	case failed != nil:
		log.Warn("no other process can take over from this gateway", "error", failed)
		return nil, nil
	}
	s.offer = offer
	return s.offer.Taken(), nil
}

// close ends what there is between this process and others.
func (s *succession) close() error {
	var errs []error
	if s.taken != nil {
		errs = append(errs, s.taken.Close())
	}
	if s.offer != nil {
		errs = append(errs, s.offer.Close())
	}
	return errors.Join(errs...)
}

// drainGateway sends clients away without failing a request of theirs: it serves
// what they ask on the connections that they have, until they have left.
func (s *service) drainGateway(ctx context.Context) {
	spread := s.config.Server.DrainSpread
	ctx, cancel := context.WithTimeout(ctx, spread+s.config.Server.DrainTimeout)
	defer cancel()
	s.stop() // and with it the others learn that this gateway drains
	s.node.DrainPolls(spread)
	err := s.api.Drain(ctx)
	s.api.Refuse()
	s.delist()
	if err = errors.Join(err, s.node.Drain(ctx)); err != nil {
		s.log.Warn("not everything was drained in time", "error", err)
	}
}
