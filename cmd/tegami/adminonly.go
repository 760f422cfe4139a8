package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// adminServer is the admin listener of a node without clients. It serves what
// adminHandlers are, and no calls.
type adminServer struct {
	listener net.Listener
	http     *http.Server
	ready    func() bool
	stopping atomic.Bool
}

// listenAdmin binds the listener; Serve serves it.
func listenAdmin(address string, handlers map[string]http.Handler, ready func() bool) (*adminServer, error) {
	listener, err := net.Listen("tcp", address) //nolint:noctx // it returns at once
	if err != nil {
		return nil, fmt.Errorf("listen for admin: %w", err)
	}
	mux := http.NewServeMux()
	for pattern, handler := range handlers {
		mux.Handle(pattern, handler)
	}
	return &adminServer{listener: listener, ready: ready, http: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 3 * time.Minute,
	}}, nil
}

// Serve serves until Drain or Close.
func (a *adminServer) Serve() error {
	if err := a.http.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Ready reports whether the node is ready and not stopping.
func (a *adminServer) Ready() bool { return !a.stopping.Load() && a.ready() }

// Refuse has the node not be ready any more.
func (a *adminServer) Refuse() { a.stopping.Store(true) }

// Drain leaves the listener open: there is nothing to wait for.
func (a *adminServer) Drain(context.Context) error { return nil }

// Close ends the listener and its connections.
func (a *adminServer) Close() error {
	return errors.Join(a.http.Close(), a.listener.Close())
}
