package h2client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	defaultWindow    = 65_535 // what both sides start with (RFC 9113, 6.9.2)
	defaultFrame     = 16_384 // the largest payload that every peer must take
	defaultTable     = 4_096  // HPACK's dynamic table, until told otherwise
	connectionWindow = 1 << 20
	maxHeaderString  = 16 << 10
	maxStreamID      = 1<<31 - 1
)

var (
	// ErrClosed ends the requests of a connection that its owner closed.
	ErrClosed = errors.New("h2client: connection closed")
	// ErrGoAway ends the requests that a server did not take before it said
	// GOAWAY, and refuses new ones.
	ErrGoAway = errors.New("h2client: server is going away")
	// ErrTooManyStreams refuses a request above what the server allows at
	// once.
	ErrTooManyStreams = errors.New("h2client: too many concurrent requests")
)

// Options configures a connection. The zero value is a good one.
type Options struct {
	// TLS makes the connection a TLS one; "h2" is offered by ALPN. Without
	// it the connection is cleartext, with prior knowledge.
	TLS *tls.Config
	// WriteTimeout fails the connection when one write takes longer; 0 means
	// 10 s.
	WriteTimeout time.Duration
	// MaxResponse is the largest response body, in bytes; a longer one is
	// reset. 0 means 4 MiB.
	MaxResponse int
}

// Request is one POST.
type Request struct {
	Path string
	// Header holds the fields beside the pseudo-headers and content-length,
	// with lower-case names. A field marked Sensitive is sent whole each time;
	// the others are sent once and by their index after that.
	Header []hpack.HeaderField
	// Body is not kept after Start.
	Body []byte
}

// Response answers a request. Err tells why there is none.
type Response struct {
	Status int
	// Body is only lent: it is overwritten once the callback has returned.
	Body []byte
	Err  error
}

// Conn is one HTTP/2 connection. Its methods are safe for concurrent use.
type Conn struct {
	conn         net.Conn
	scheme       string
	authority    string
	writeTimeout time.Duration
	maxResponse  int
	done         chan struct{} // closed when the reading goroutine has ended

	// The two locks are taken in this order: write, then mu.
	write struct {
		sync.Mutex
		buffer  bytes.Buffer // what framer wrote and flush has not sent yet
		framer  *http2.Framer
		block   bytes.Buffer // the header block that encoder writes
		encoder *hpack.Encoder
		nextID  uint32
		// Flow control of what we send.
		window        int64
		initialWindow int64
		maxFrame      int
		blocked       []*stream // bodies that wait for a window, oldest first
	}
	mu struct {
		sync.Mutex
		streams    map[uint32]*stream
		maxStreams int
		err        error // why there are no new requests
	}
	read reader // of the reading goroutine alone
}

// stream is a request that was not answered yet.
type stream struct {
	id     uint32
	done   func(Response)
	status int
	body   []byte

	// Guarded by Conn.write.
	pending []byte
	window  int64
}

// Dial connects to addr (host:port), exchanges settings and starts the reading
// goroutine, which ends with the connection. ctx limits the dialling alone.
func Dial(ctx context.Context, addr string, options Options) (*Conn, error) {
	dialer := &net.Dialer{}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("h2client: dial: %w", err)
	}
	scheme := "http"
	if options.TLS != nil {
		scheme = "https"
		config := options.TLS.Clone()
		config.NextProtos = []string{http2.NextProtoTLS}
		if config.ServerName == "" {
			config.ServerName, _, _ = net.SplitHostPort(addr)
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("h2client: TLS handshake: %w", err), conn.Close())
		}
		if got := secure.ConnectionState().NegotiatedProtocol; got != http2.NextProtoTLS {
			return nil, errors.Join(fmt.Errorf("h2client: server chose protocol %q", got), conn.Close())
		}
		conn = secure
	}
	return newConn(ctx, conn, scheme, addr, options)
}

func newConn(ctx context.Context, conn net.Conn, scheme, authority string, options Options) (*Conn, error) {
	c := &Conn{
		conn:         conn,
		scheme:       scheme,
		authority:    authority,
		writeTimeout: options.WriteTimeout,
		maxResponse:  options.MaxResponse,
		done:         make(chan struct{}),
	}
	if c.writeTimeout <= 0 {
		c.writeTimeout = 10 * time.Second
	}
	if c.maxResponse <= 0 {
		c.maxResponse = 4 << 20
	}
	w := &c.write
	w.framer = http2.NewFramer(&w.buffer, nil)
	w.encoder = hpack.NewEncoder(&w.block)
	w.nextID = 1
	w.window, w.initialWindow, w.maxFrame = defaultWindow, defaultWindow, defaultFrame
	c.mu.streams = make(map[uint32]*stream)
	c.mu.maxStreams = 100 // until the server says more or less
	c.read.init(conn)

	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := c.handshake(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("h2client: handshake: %w", errors.Join(err, ctx.Err()))
	}
	go c.readLoop()
	return c, nil
}

// handshake sends the preface and waits for the server's settings, so that the
// first request already knows its limits.
func (c *Conn) handshake() error {
	w := &c.write
	w.Lock()
	w.buffer.WriteString(http2.ClientPreface)
	// A stream's window holds the largest response, so it is never renewed.
	err := errors.Join(
		w.framer.WriteSettings(
			http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(min(c.maxResponse, maxStreamID))},
		),
		w.framer.WriteWindowUpdate(0, connectionWindow-defaultWindow),
		c.flushLocked(),
	)
	w.Unlock()
	if err != nil {
		return err
	}
	frame, err := c.read.framer.ReadFrame()
	if err != nil {
		return err
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok || settings.IsAck() {
		return errors.New("the server's first frame is not SETTINGS")
	}
	return c.onSettings(settings)
}

// Start sends a request. done is called once, with the answer or the reason
// why there is none, on the connection's reading goroutine (or on the one that
// calls Cancel); it must not wait for another answer of this connection, but
// may start requests. When Start returns an error, done is never called.
func (c *Conn) Start(request Request, done func(Response)) (id uint32, err error) {
	w := &c.write
	w.Lock()
	defer w.Unlock()
	st := &stream{id: w.nextID, done: done, window: w.initialWindow}
	if err := c.register(st); err != nil {
		return 0, err
	}
	w.nextID += 2
	c.writeRequest(st, request)
	return st.id, nil
}

func (c *Conn) register(st *stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.mu.err != nil:
		return c.mu.err
	case len(c.mu.streams) >= c.mu.maxStreams:
		return ErrTooManyStreams
	case st.id >= maxStreamID:
		return errors.New("h2client: stream ids are used up")
	}
	c.mu.streams[st.id] = st
	return nil
}

// Cancel resets a request that Start returned. Its callback is called with
// context.Canceled before Cancel returns. Once answered, a request cannot be
// cancelled: Cancel then does nothing.
func (c *Conn) Cancel(id uint32) {
	st := c.take(id)
	if st == nil {
		return
	}
	c.reset(id)
	st.done(Response{Err: context.Canceled})
}

// reset tells the server that nobody waits for a stream any more.
func (c *Conn) reset(id uint32) {
	w := &c.write
	w.Lock()
	defer w.Unlock()
	for i, st := range w.blocked {
		if st.id == id {
			w.blocked = append(w.blocked[:i], w.blocked[i+1:]...)
			break
		}
	}
	_ = w.framer.WriteRSTStream(id, http2.ErrCodeCancel)
	_ = c.flushLocked()
}

// Do sends a request and waits for its answer, whose body belongs to the
// caller. It must not be called from a callback of Start.
func (c *Conn) Do(ctx context.Context, request Request) (Response, error) {
	answer := make(chan Response, 1)
	id, err := c.Start(request, func(response Response) {
		response.Body = bytes.Clone(response.Body)
		answer <- response
	})
	if err != nil {
		return Response{}, err
	}
	stop := context.AfterFunc(ctx, func() { c.Cancel(id) })
	defer stop()
	response := <-answer
	if ctx.Err() != nil && response.Err != nil {
		return Response{}, ctx.Err()
	}
	return response, response.Err
}

// Close closes the connection. The requests that wait get ErrClosed.
func (c *Conn) Close() error {
	_ = c.refuse(ErrClosed)
	return c.conn.Close()
}

// Done is closed when the connection has ended and every callback was called.
func (c *Conn) Done() <-chan struct{} { return c.done }

// refuse records why there are no new requests and returns the reason; the
// first one stays.
func (c *Conn) refuse(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err == nil {
		c.mu.err = err
	}
	return c.mu.err
}

// take removes a stream; nil when it was answered or cancelled before.
func (c *Conn) take(id uint32) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.mu.streams[id]
	delete(c.mu.streams, id)
	return st
}
