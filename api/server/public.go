package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/tegami-im/tegami/api/h2"
)

// publicEngine serves clients: HTTP/2 by package h2, which tells the two apart,
// and HTTP/1.1 by net/http.
type publicEngine struct {
	http2 *h2.Server
	http1 *http.Server
	give  *handoff
}

func (s *Server) publicEngine() *publicEngine {
	o := s.opts.HTTP
	hot := s.hotMethods()
	handler := s.publicHandler(hot)
	give := &handoff{conns: make(chan net.Conn), closed: make(chan struct{})}
	http1 := s.httpServer(handler)
	http1.Protocols = new(http.Protocols)
	http1.Protocols.SetHTTP1(true)
	http1.ConnState = nil // package h2 counts the connections
	return &publicEngine{
		give:  give,
		http1: http1,
		http2: h2.New(h2.Options{
			Handler:        handler,
			Route:          s.route(hot),
			HTTP1:          give.give,
			MaxConnections: o.MaxConnections,
			MaxStreams:     o.MaxStreams,
			MaxHeaderBytes: o.MaxHeaderBytes,
			MaxBodyBytes:   o.MaxRequestBytes,
			HeaderTimeout:  o.HeaderTimeout,
			BodyTimeout:    o.BodyTimeout,
			IdleTimeout:    o.IdleTimeout,
			PingAfter:      o.PingAfter,
			PingTimeout:    o.PingTimeout,
			WriteTimeout:   o.WriteTimeout,
			Logger:         s.log,
		}),
	}
}

// Serve implements engine.
func (e *publicEngine) Serve(l net.Listener) error {
	e.give.addr = l.Addr()
	served := make(chan error, 1)
	go func() { served <- e.http1.Serve(e.give) }()
	err := e.http2.Serve(l)
	if !errors.Is(err, http.ErrServerClosed) {
		err = errors.Join(err, e.http1.Close())
	}
	// Whatever ends one of the two ends the other: see Shutdown and Close.
	if http1 := <-served; !errors.Is(http1, http.ErrServerClosed) {
		err = errors.Join(err, http1)
	}
	return err
}

// Shutdown implements engine.
func (e *publicEngine) Shutdown(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- e.http1.Shutdown(ctx) }()
	return errors.Join(e.http2.Shutdown(ctx), <-done)
}

// Close implements engine.
func (e *publicEngine) Close() error {
	return errors.Join(e.http2.Close(), e.http1.Close(), e.give.Close())
}

// handoff is a listener for connections that were accepted elsewhere.
type handoff struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// give hands a connection to whoever accepts next, or closes it.
func (h *handoff) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.closed:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handoff) Addr() net.Addr { return h.addr }
