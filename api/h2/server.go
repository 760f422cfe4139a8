package h2

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Options says what a server serves and what it allows. All bounds must be
// above zero.
type Options struct {
	// Handler serves what Route does not take.
	Handler http.Handler
	// Route may take a request, whose header is only lent, or returns nil. It
	// runs on the goroutine that reads the connection and must not block. It
	// may be nil.
	Route func(*Stream, *Request) Exchange
	// HTTP1 is given connections that speak HTTP/1.1, to close when it is done
	// with them. It must not block for long. It may be nil: they are closed.
	HTTP1 func(net.Conn)

	// MaxConnections is how many connections there are at a time, those that
	// HTTP1 was given included; a further one is closed at once.
	MaxConnections int
	// MaxHandshakes is how many TLS handshakes are under way at a time; a further
	// connection is closed at once.
	MaxHandshakes int
	// Refused, unless nil, is called for each connection that is closed for that,
	// or, with false, because there are too many. It must be quick.
	Refused func(handshake bool)
	// MaxStreams is how many requests one connection has in flight.
	MaxStreams int
	// MaxHeaderBytes bounds the header of a request.
	MaxHeaderBytes int
	// MaxBodyBytes bounds the body that an Exchange is given.
	MaxBodyBytes int64
	// HeaderTimeout is how long a TLS handshake, the preface, and a header
	// block whose beginning is there may take to come, each.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a body may take to come, from its header on.
	BodyTimeout time.Duration
	// IdleTimeout is how long a connection stays open without a request, and how
	// long an answer is kept whose client opens no window for it.
	IdleTimeout time.Duration
	// PingAfter is how long a connection may be silent before it is pinged, and
	// PingTimeout how long it may be silent then.
	PingAfter, PingTimeout time.Duration
	// WriteTimeout is how long a connection may take no byte of what is to be
	// written.
	WriteTimeout time.Duration
	// Logger takes what goes wrong.
	Logger *slog.Logger
}

// idleGoroutines is how many of the pool wait for work, for each processor: it
// takes more only when many write to slow clients, or wait for admission.
const idleGoroutines = 8

// Server serves connections. Its methods are safe for concurrent use.
type Server struct {
	opts   Options
	ctx    context.Context // of the requests that a handler serves
	cancel context.CancelFunc
	pool   *pool
	began  time.Time
	open   atomic.Int64 // connections
	shakes atomic.Int64 // TLS handshakes under way
	today  atomic.Pointer[dated]

	mu        sync.Mutex
	listener  net.Listener
	conns     map[*conn]struct{}
	accepting bool          // Serve runs
	stopping  bool          // the listener is closed
	gone      chan struct{} // closed when stopping, not accepting, and the last has ended
	closed    bool
}

// New returns a server. The caller must Close it.
func New(opts Options) *Server {
	s := &Server{
		opts: opts, pool: newPool(idleGoroutines * runtime.GOMAXPROCS(0)), began: time.Now(),
		conns: make(map[*conn]struct{}), gone: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// now returns the time since the server was made. It is never 0, which stands
// for no time.
func (s *Server) now() int64 { return int64(time.Since(s.began)) + 1 }

// Serve accepts connections until Shutdown or Close, and then returns
// http.ErrServerClosed, or until the listener fails. It is called once.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return errors.Join(http.ErrServerClosed, l.Close())
	}
	s.listener, s.accepting = l, true
	s.mu.Unlock()
	defer s.accepted()
	go s.sweep()
	var wait time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			wait = 0
			s.accept(nc)
			continue
		}
		var passing interface{ Temporary() bool }
		switch {
		case s.ctx.Err() != nil || s.isStopping():
			return http.ErrServerClosed
		case !errors.As(err, &passing) || !passing.Temporary():
			return err
		}
		// Too many open files, as a rule: it passes when a few are closed.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.opts.Logger.Warn("accept failed, trying again", "error", err, "wait", wait)
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
		}
	}
}

// Connections returns how many connections there are, those that HTTP1 was given
// included.
func (s *Server) Connections() int { return int(s.open.Load()) }

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// accepted notes that no connection comes any more.
func (s *Server) accepted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepting = false
	s.closeIfGone()
}

// closeIfGone tells Shutdown when nothing is left. It is called with the lock.
func (s *Server) closeIfGone() {
	if !s.stopping || s.accepting || len(s.conns) > 0 {
		return
	}
	select {
	case <-s.gone:
	default:
		close(s.gone)
	}
}

// Shutdown stops accepting, tells clients to send nothing new, and waits until
// all connections have ended, or for the context. A client that has just
// connected is served and told so as well. Those that HTTP1 was given are not
// waited for.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stop() {
		c.drain()
	}
	select {
	case <-s.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends every connection at once. Handlers that run are not waited for:
// the context of their request has ended.
func (s *Server) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	for _, c := range s.stop() {
		c.cutOff()
	}
	if first {
		s.cancel()
		s.pool.stop()
	}
	return nil
}

// stop ends accepting and returns the connections that there are.
func (s *Server) stop() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.stopping = true
		if s.listener != nil {
			_ = s.listener.Close()
		}
		s.closeIfGone()
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// know adds a connection, unless the server is closed. One that was accepted just
// before the listener was closed is served; last says that it is to be drained.
func (s *Server) know(c *conn) (known, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, false
	}
	s.conns[c] = struct{}{}
	return true, s.stopping
}

// disown removes a connection that is not served here. Whoever has it still
// counts in open.
func (s *Server) disown(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[c]; !ok {
		return
	}
	delete(s.conns, c)
	s.closeIfGone()
}

// forget removes a connection that has ended.
func (s *Server) forget(c *conn) {
	s.open.Add(-1)
	s.disown(c)
}

// sweep looks after the deadlines of all connections: each says when it is to
// be looked at next, so that most of a sweep is one load for each.
func (s *Server) sweep() {
	o := &s.opts
	shortest := min(o.HeaderTimeout, o.BodyTimeout, o.IdleTimeout, o.PingAfter, o.PingTimeout, o.WriteTimeout)
	ticker := time.NewTicker(min(max(shortest/8, time.Millisecond), time.Second))
	defer ticker.Stop()
	var due []*conn
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		now := s.now()
		s.mu.Lock()
		for c := range s.conns {
			if c.due.Load() <= now {
				due = append(due, c)
			}
		}
		s.mu.Unlock()
		for i, c := range due {
			c.tick(now)
			due[i] = nil
		}
		due = due[:0]
	}
}

// dated is a Date field and the second that it is good for.
type dated struct {
	second int64
	text   string
}

// date returns the value of a Date field.
func (s *Server) date() string {
	now := time.Now()
	d := s.today.Load()
	if d == nil || d.second != now.Unix() {
		d = &dated{second: now.Unix(), text: now.UTC().Format(http.TimeFormat)}
		s.today.Store(d)
	}
	return d.text
}
