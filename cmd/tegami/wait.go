package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/persistence/redis"
	"github.com/tegami-im/tegami/telemetry"
)

// waitPause is between two attempts to reach a server.
const waitPause = 500 * time.Millisecond

// patience is how long a start waits for the servers that it needs. The zero
// value waits for none.
type patience struct {
	// until bounds the wait for all of them together.
	until time.Time
	// waiting is told which server is waited for; it may be nil.
	waiting func(server string)
	log     *slog.Logger
}

// reach opens what needs a server, again and again while that does not answer.
// Every other error, such as a schema that is missing or settings that are
// refused, ends it at once.
func reach[T any](ctx context.Context, p patience, server, address string, open func(context.Context) (T, error)) (T, error) {
	began := time.Now()
	waited := false
	for {
		opened, err := open(ctx)
		switch {
		case err == nil && waited:
			p.log.Info("server answers", "server", server, "address", address, "waited", time.Since(began).Round(time.Millisecond))
		case !isAway(err) || ctx.Err() != nil:
		case time.Now().Add(waitPause).After(p.until):
			err = fmt.Errorf("%s at %s: %w", server, address, err)
		default:
			if !waited {
				p.log.Warn("waiting for a server", "server", server, "address", address,
					"at_most", time.Until(p.until).Round(time.Second), "error", err)
				if p.waiting != nil {
					p.waiting(server + " at " + address)
				}
			}
			waited = true
			if !sleep(ctx, waitPause) {
				return opened, ctx.Err()
			}
			continue
		}
		return opened, err
	}
}

// isAway reports whether an error says that a server does not answer.
func isAway(err error) bool {
	_, told := errors.AsType[awayError](err)
	return told || errors.Is(err, kafka.ErrUnavailable) || errors.Is(err, hbase.ErrUnavailable) || errors.Is(err, redis.ErrUnavailable)
}

// sleep waits and reports whether the context goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// porch answers on the admin listener while the server waits for others, so that
// probes see that it lives and what it waits for.
type porch struct {
	http  *http.Server
	ended chan struct{}
	what  atomic.Pointer[string]
}

// openPorch listens; close must be called before the server itself does.
func openPorch(ctx context.Context, address string, metrics *telemetry.Metrics) (*porch, error) {
	bound, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	p := &porch{ended: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle("/metrics", metrics.Handler())
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		what := "servers"
		if named := p.what.Load(); named != nil {
			what = *named
		}
		http.Error(w, "not ready: waiting for "+what, http.StatusServiceUnavailable)
	})
	p.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		defer close(p.ended)
		_ = p.http.Serve(bound) // it ends when it is closed
	}()
	return p, nil
}

func (p *porch) close() {
	_ = p.http.Close()
	<-p.ended
}
