package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/tegami-im/tegami/api/h2"
)

// publicEngine serves clients: HTTP/2 by package h2, which tells the two apart,
// and HTTP/1.1 by net/http.
type publicEngine struct {
	http2   *h2.Server
	http1   *http.Server
	give    *handoff
	leaving atomic.Bool
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
	e := &publicEngine{
		give:  give,
		http1: http1,
		http2: h2.New(h2.Options{
			Handler:        handler,
			Route:          s.route(hot),
			HTTP1:          give.give,
			MaxConnections: o.MaxConnections,
			MaxHandshakes:  o.MaxHandshakes,
			Refused: func(handshake bool) {
				if handshake {
					s.opts.Hooks.shed(Handshakes)
				} else {
					s.opts.Hooks.shed(Connections)
				}
			},
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
	http1.Handler = e.parting(handler)
	return e
}

// parting has a client of HTTP/1.1 make another connection for its next request
// once this server is to end: HTTP/2 says so at any time, HTTP/1.1 only with an
// answer.
func (e *publicEngine) parting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&partingWriter{ResponseWriter: w, leaving: &e.leaving}, r)
	})
}

// partingWriter is an answer that ends its connection if the server is to end by
// the time that it is written: a held poll began long before.
type partingWriter struct {
	http.ResponseWriter

	leaving *atomic.Bool
	began   bool
}

// WriteHeader implements http.ResponseWriter.
func (w *partingWriter) WriteHeader(status int) {
	w.began = true
	if w.leaving.Load() {
		w.Header()["Connection"] = []string{"close"}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *partingWriter) Write(p []byte) (int, error) {
	if !w.began {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController find what it needs.
func (w *partingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// unwrapped returns the answer of net/http itself, which alone can be told that a
// body is too large to go on with its connection.
func unwrapped(w http.ResponseWriter) http.ResponseWriter {
	if parting, ok := w.(*partingWriter); ok {
		return parting.ResponseWriter
	}
	return w
}

// Flush implements http.Flusher, which Connect's handlers ask for.
func (w *partingWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

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
	e.leaving.Store(true)
	// That of HTTP/1.1 comes last: until then connections come to it, and those
	// of its clients that are between two requests learn with the next.
	return errors.Join(e.http2.Shutdown(ctx), e.http1.Shutdown(ctx))
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
