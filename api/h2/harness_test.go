package h2

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// hangLimit ends a test that waits for what never comes.
const hangLimit = 20 * time.Second

// testOptions are those of a server that takes its time for nothing.
func testOptions() Options {
	return Options{
		Handler:        http.HandlerFunc(testHandler),
		MaxConnections: 100, MaxHandshakes: 100, MaxStreams: 10, MaxHeaderBytes: 32 << 10, MaxBodyBytes: 100_000,
		HeaderTimeout: 5 * time.Second, BodyTimeout: 10 * time.Second, IdleTimeout: 3 * time.Minute,
		PingAfter: 30 * time.Second, PingTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func testHandler(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/block":
		<-r.Context().Done()
	case "/panic":
		panic("planted")
	case "/trailer":
		w.Header().Set("Trailer", "X-Announced")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Announced", "1")
		w.Header().Set(http.TrailerPrefix+"X-Late", "2")
	case "/copy":
		_, _ = io.Copy(w, r.Body)
	case "/show":
		w.Header().Set("Connection", "close") // means nothing here
		w.Header().Set("X-Host", r.Host)
		w.Header().Set("X-Cookie", r.Header.Get("Cookie"))
		w.Header().Set("X-Uri", r.RequestURI)
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, r.Method+" "+r.Proto) //nolint:gosec,nolintlint // G705, found now and then: this is no HTML
	default:
		_, _ = io.WriteString(w, "handled")
	}
}

// probe is an exchange that does what its path says and notes what is done to
// it.
type probe struct {
	stream *Stream
	path   string
	opened chan struct{} // /wait: let in when closed
	header []hpack.HeaderField

	inside  atomic.Bool
	mu      sync.Mutex
	body    []byte
	bodyErr error
	endErr  error
	ended   int
	broken  string // what the server did wrong
	done    chan struct{}
}

// enter notes a method that begins while another one runs, or after the end.
func (p *probe) enter() func() {
	if !p.inside.CompareAndSwap(false, true) {
		p.fault("two methods at a time")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended > 0 {
		p.broken = "a method after End"
	}
	return func() { p.inside.Store(false) }
}

func (p *probe) fault(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = what
}

func (p *probe) Open(wait bool) bool {
	defer p.enter()()
	switch {
	case p.path == "/wait" && !wait:
		return false
	case p.path == "/wait":
		<-p.opened
	case p.path == "/early":
		p.stream.Answer()
	}
	return true
}

func (p *probe) Serve(body []byte, err error) {
	defer p.enter()()
	p.mu.Lock()
	p.body, p.bodyErr = bytes.Clone(body), err
	p.mu.Unlock()
	if p.path != "/held" {
		p.stream.Answer()
	}
}

func (p *probe) Encode(a *Answer) {
	defer p.enter()()
	p.mu.Lock()
	defer p.mu.Unlock()
	a.Fields = append(a.Fields, Field{"content-type", "text/plain"})
	switch {
	case errors.Is(p.bodyErr, ErrBodyTooLong):
		a.Status = http.StatusRequestEntityTooLarge
	case p.bodyErr != nil:
		a.Status = http.StatusGatewayTimeout
	case p.path == "/large":
		a.Body = append(a.Body, bytes.Repeat([]byte("x"), 300_000)...)
	case p.path == "/early":
		a.Status = http.StatusUnauthorized
	default:
		a.Body = append(a.Body, p.body...)
	}
}

func (p *probe) End(err error) {
	defer p.enter()()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended++
	p.endErr = err
	close(p.done)
}

// site is a server and the exchanges that it has had.
type site struct {
	*Server
	t      testing.TB
	addr   string
	let    chan struct{} // opens /wait
	letIn  func()        // closes let
	mu     sync.Mutex
	probes []*probe
}

// serveSite serves on a socket until the test ends, and then judges the
// exchanges.
func serveSite(t testing.TB, change func(*Options)) *site {
	t.Helper()
	s := newSite(t, change)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's own
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		s.letIn()
		s.judge()
	})
	return s
}

func newSite(t testing.TB, change func(*Options)) *site {
	s := &site{t: t, let: make(chan struct{})}
	s.letIn = sync.OnceFunc(func() { close(s.let) })
	opts := testOptions()
	opts.Route = s.route
	if change != nil {
		change(&opts)
	}
	s.Server = New(opts)
	return s
}

func (s *site) route(stream *Stream, r *Request) Exchange {
	switch r.Path {
	case "/echo", "/held", "/wait", "/early", "/large":
	default:
		return nil
	}
	p := &probe{stream: stream, path: r.Path, opened: s.let, done: make(chan struct{}), header: append([]hpack.HeaderField(nil), r.Fields...)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probes = append(s.probes, p)
	return p
}

// probe waits for the nth exchange.
func (s *site) probe(n int) *probe {
	s.t.Helper()
	var p *probe
	eventually(s.t, "the exchange begins", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.probes) > n {
			p = s.probes[n]
		}
		return p != nil
	})
	return p
}

// judge checks that every exchange has ended once and was called as promised.
func (s *site) judge() {
	eventually(s.t, "the connections end", func() bool { return s.open.Load() == 0 })
	s.mu.Lock()
	probes := s.probes
	s.mu.Unlock()
	for i, p := range probes {
		select {
		case <-p.done:
		case <-time.After(hangLimit):
			s.t.Errorf("exchange %d (%s) has not ended", i, p.path)
		}
		p.mu.Lock()
		if p.broken != "" || p.ended != 1 {
			s.t.Errorf("exchange %d (%s): ended %d times, %s", i, p.path, p.ended, p.broken)
		}
		p.mu.Unlock()
	}
}

// eventually waits until a condition holds, and ends the test if it never does.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(hangLimit)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// peer is a client's end of a connection, which sends what it likes.
type peer struct {
	net.Conn
	*http2.Framer

	t       testing.TB
	block   bytes.Buffer
	encoder *hpack.Encoder
	status  string // of the last header block read
	fields  map[string]string
	decoder *hpack.Decoder
}

// silent is a connection on which nothing was said.
func (s *site) silent() net.Conn {
	s.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// dial opens a connection and says what a client says first.
func (s *site) dial(settings ...http2.Setting) *peer {
	s.t.Helper()
	p := newPeer(s.t, s.silent())
	_ = p.SetDeadline(time.Now().Add(hangLimit))
	p.greet(settings...)
	return p
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	p := &peer{Conn: conn, Framer: http2.NewFramer(conn, conn), t: t}
	p.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.block)
	p.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			p.status = f.Value
		}
		p.fields[f.Name] = f.Value
	})
	return p
}

func (p *peer) greet(settings ...http2.Setting) {
	if _, err := io.WriteString(p, http2.ClientPreface); err != nil {
		p.t.Fatal(err)
	}
	if err := p.WriteSettings(settings...); err != nil {
		p.t.Fatal(err)
	}
}

// headers encodes a block of "name: value" fields.
func (p *peer) headers(fields ...string) []byte {
	p.block.Reset()
	for _, field := range fields {
		name, value, _ := strings.Cut(field[1:], ":") // the first byte may be a colon
		_ = p.encoder.WriteField(hpack.HeaderField{Name: field[:1] + name, Value: strings.TrimPrefix(value, " ")})
	}
	return p.block.Bytes()
}

func post(path string, more ...string) []string {
	return append([]string{":method: POST", ":scheme: http", ":authority: here", ":path: " + path}, more...)
}

// open sends the header of a request.
func (p *peer) open(id uint32, end bool, fields ...string) {
	block := p.headers(fields...)
	first := block[:min(len(block), maxFrame)]
	block = block[len(first):]
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: len(block) == 0, EndStream: end})
	for len(block) > 0 {
		part := block[:min(len(block), maxFrame)]
		block = block[len(part):]
		_ = p.WriteContinuation(id, len(block) == 0, part)
	}
}

// next returns the next frame that is none of those a server sends by itself.
func (p *peer) next() http2.Frame {
	p.t.Helper()
	for {
		frame, err := p.ReadFrame()
		if err != nil {
			return nil
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame, *http2.WindowUpdateFrame:
			continue
		case *http2.HeadersFrame:
			p.fields = map[string]string{}
			if _, err := p.decoder.Write(f.HeaderBlockFragment()); err != nil {
				p.t.Fatal(err)
			}
		}
		return frame
	}
}

// answer reads the answer of a stream.
func (p *peer) answer(id uint32) (status, body string) {
	p.t.Helper()
	var content strings.Builder
	for {
		switch f := p.next().(type) {
		case *http2.HeadersFrame:
			if f.StreamID == id && f.StreamEnded() {
				return p.status, content.String()
			}
		case *http2.DataFrame:
			if f.StreamID != id {
				continue
			}
			content.Write(f.Data())
			if f.StreamEnded() {
				return p.status, content.String()
			}
		case nil:
			p.t.Fatalf("the connection ended before stream %d was answered", id)
		case *http2.GoAwayFrame:
			p.t.Fatalf("GOAWAY %v before stream %d was answered", f.ErrCode, id)
		case *http2.RSTStreamFrame:
			p.t.Fatalf("stream %d was reset with %v", f.StreamID, f.ErrCode)
		}
	}
}
