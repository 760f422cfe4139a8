package h2

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
)

// handled is an exchange that an http.Handler serves, on a goroutine that waits
// for it. Its answer is collected and written when the handler is through.
type handled struct {
	stream  *Stream
	cancel  context.CancelFunc
	header  http.Header
	sent    http.Header // header as it was when it was sent; nil before
	status  int
	content []byte
	trailer []Field
	expects bool // 100-continue, which was not said yet
	closed  bool // the handler closed the body
}

// handle starts the handler.
func (c *conn) handle(s *Stream, r *Request) error {
	ctx, cancel := context.WithCancel(c.server.ctx)
	h := &handled{stream: s, cancel: cancel, header: make(http.Header)}
	request, err := h.request(ctx, r)
	if err != nil {
		cancel()
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	}
	c.mu.Lock()
	s.exchange = h
	s.opened, s.served, s.busy = true, true, false
	s.arrived = sync.NewCond(&c.mu)
	// Handlers of requests that were reset count until they are through.
	if full := c.handlers >= c.server.opts.MaxStreams; full {
		c.mu.Unlock()
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeRefusedStream}
	}
	c.handlers++
	c.mu.Unlock()
	c.server.pool.start(taskFunc(func() { h.serve(request) }))
	return nil
}

// request builds what a handler gets.
func (h *handled) request(ctx context.Context, r *Request) (*http.Request, error) {
	target := &url.URL{Host: r.Authority}
	if r.Method != http.MethodConnect {
		var err error
		if target, err = url.ParseRequestURI(r.Path); err != nil {
			return nil, err
		}
	}
	header := make(http.Header, len(r.Fields))
	for _, f := range r.Fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		switch {
		case name == "Cookie" && len(header[name]) > 0: // in crumbs (RFC 9113, 8.2.3)
			header[name][0] += "; " + f.Value
		case name == "Expect" && strings.EqualFold(f.Value, "100-continue"):
			h.expects = true
		case name == "Trailer": // what is in a trailer is not wanted
		default:
			header[name] = append(header[name], f.Value)
		}
	}
	request := &http.Request{
		Method: r.Method, URL: target, RequestURI: r.Path, Host: r.Authority, RemoteAddr: r.Remote,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: header, ContentLength: r.ContentLength, Body: http.NoBody,
	}
	switch {
	case r.Method == http.MethodConnect:
		request.RequestURI = r.Authority
	case !h.stream.bodyDone:
		request.Body = requestBody{h}
	}
	if h.stream.bodyDone {
		request.ContentLength = 0
	}
	return request.WithContext(ctx), nil
}

func (h *handled) serve(r *http.Request) {
	c := h.stream.conn
	failed := h.call(r)
	if h.sent == nil {
		h.WriteHeader(http.StatusOK)
	}
	h.trailer = h.trailerFields()
	h.cancel()
	c.mu.Lock()
	c.handlers--
	h.stream.body = nil
	c.mu.Unlock()
	if !failed {
		h.stream.Answer()
		return
	}
	c.reset(h.stream.id, http2.ErrCodeInternal)
	c.mu.Lock()
	wake := c.wake()
	c.mu.Unlock()
	if wake {
		c.server.pool.start(c)
	}
}

// call runs the handler and reports whether it panicked.
func (h *handled) call(r *http.Request) (failed bool) {
	s := h.stream.conn.server
	defer func() {
		if cause := recover(); cause != nil {
			failed = true
			if err, ok := cause.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				s.opts.Logger.Error("panic in a handler", "path", r.URL.Path, "panic", cause, "stack", string(debug.Stack()))
			}
		}
	}()
	s.opts.Handler.ServeHTTP(h, r)
	return false
}

// Open implements Exchange. It is not called.
func (h *handled) Open(bool) bool { return true }

// Serve implements Exchange. It is not called.
func (h *handled) Serve([]byte, error) {}

// End implements Exchange.
func (h *handled) End(error) { h.cancel() }

// Encode implements Exchange.
func (h *handled) Encode(a *Answer) {
	a.Status, a.Body, a.Trailer = h.status, h.content, h.trailer
	a.length = -1
	if length := h.sent.Get("Content-Length"); length != "" {
		if n, err := strconv.ParseInt(length, 10, 64); err == nil && n >= 0 && (n == int64(len(h.content)) || h.stream.head) {
			a.length = n
		}
	} else if len(h.trailer) == 0 && h.status >= 200 && h.status != http.StatusNoContent && h.status != http.StatusNotModified &&
		(!h.stream.head || len(h.content) > 0) {
		a.length = int64(len(h.content))
	}
	for name, values := range h.sent {
		switch name {
		case "Connection", "Proxy-Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Content-Length", "Date":
			continue
		}
		if !strings.HasPrefix(name, http.TrailerPrefix) {
			a.Fields = appendFields(a.Fields, name, values)
		}
	}
}

// trailerFields returns what the handler put into its header for the trailer:
// what it had announced, and what has the prefix that net/http gives a meaning.
func (h *handled) trailerFields() []Field {
	var fields []Field
	for _, names := range h.sent["Trailer"] {
		for name := range strings.SplitSeq(names, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
			fields = appendFields(fields, name, h.header[name])
		}
	}
	for name, values := range h.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			fields = appendFields(fields, name, values)
		}
	}
	return fields
}

// appendFields appends a header's values that can be sent.
func appendFields(fields []Field, name string, values []string) []Field {
	name = strings.ToLower(name)
	if !validName(name) {
		return fields
	}
	for _, value := range values {
		if !slices.ContainsFunc([]byte(value), func(b byte) bool { return b < ' ' && b != '\t' || b == 0x7f }) {
			fields = append(fields, Field{name, value})
		}
	}
	return fields
}

// Header implements http.ResponseWriter.
func (h *handled) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *handled) WriteHeader(status int) {
	if h.sent != nil || status < 200 { // interim answers are nothing to anybody here
		return
	}
	h.status = status
	h.sent = h.header.Clone()
	for _, names := range h.sent["Trailer"] { // announced, and not to be sent yet
		for name := range strings.SplitSeq(names, ",") {
			delete(h.sent, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
}

// Write implements http.ResponseWriter.
func (h *handled) Write(p []byte) (int, error) {
	if h.sent == nil {
		h.WriteHeader(http.StatusOK)
	}
	if h.status == http.StatusNoContent || h.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	if _, ok := h.sent["Content-Type"]; !ok && len(h.content) == 0 && len(p) > 0 {
		h.sent["Content-Type"] = []string{http.DetectContentType(p)}
	}
	h.content = append(h.content, p...)
	return len(p), nil
}

// Flush implements http.Flusher. The answer is written as a whole.
func (h *handled) Flush() {}

// requestBody is a request's body as a handler reads it.
type requestBody struct{ h *handled }

// Read implements io.Reader.
func (b requestBody) Read(p []byte) (int, error) {
	s := b.h.stream
	c := s.conn
	c.mu.Lock()
	if b.h.expects && !s.bodyDone && s.received == 0 && !s.dead {
		b.h.expects = false
		c.control = appendHeaders(c.control, s.id, c.interim(), false, c.peerFrame)
	}
	var n int
	var err error
	for n == 0 && err == nil && len(p) > 0 {
		switch {
		case b.h.closed:
			err = http.ErrBodyReadAfterClose
		case len(s.body) > 0:
			n = copy(p, s.body)
			s.body = s.body[n:]
			c.returnWindow(s, n)
		case s.dead:
			err = ErrStreamEnded
		case s.bodyDone:
			err = io.EOF
		case s.slow:
			err = os.ErrDeadlineExceeded
		default:
			if c.wake() {
				c.server.pool.start(c)
			}
			s.arrived.Wait()
		}
	}
	wake := c.wake()
	c.mu.Unlock()
	if wake {
		c.server.pool.start(c)
	}
	return n, err
}

// Close implements io.Closer.
func (b requestBody) Close() error {
	c := b.h.stream.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	b.h.closed = true
	return nil
}

// interim returns the header block of a status 100. It is called with the lock.
func (c *conn) interim() []byte {
	var block []byte
	if !c.tableSaid {
		c.tableSaid = true
		block = append(block, tableSizeZero)
	}
	return appendStatus(block, http.StatusContinue)
}
