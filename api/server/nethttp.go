package server

import (
	"errors"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/tegami-im/tegami/api/codec"
	"github.com/tegami-im/tegami/api/fault"
)

// hotHandler serves a hot method on net/http: in net/http's own goroutine it
// reads the body, waits for the reply, and encodes it. What is not plainly
// Connect's unary protocol it leaves to rest.
type hotHandler struct {
	server *Server
	method *hotMethod
	rest   http.Handler
}

func (h *hotHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	encoding := codecOf(contentType(r))
	if encoding == nil || r.Method != http.MethodPost {
		h.rest.ServeHTTP(w, r)
		return
	}
	c := &hotCall{handler: h, w: w, r: r, started: time.Now()}
	c.call.codec = encoding
	defer c.recover()
	c.finish(c.serve()) //nolint:contextcheck // the call has its request, and with it the context
}

// codecOf returns the encoding of Connect's unary protocol that a content type
// means, nil for another protocol.
func codecOf(contentType string) codec.Codec {
	switch contentType {
	case "application/proto":
		return codec.Binary
	case "application/json":
		return codec.JSON
	default:
		return nil
	}
}

// hotCall is one request of a hotHandler. What it needs lies here and not in
// the frames of its functions: a held poll keeps its goroutine's stack, which
// is 4 KB as long as little of it is used, and 8 KB from then on.
type hotCall struct {
	handler *hotHandler
	w       http.ResponseWriter
	r       *http.Request
	call    Call
	replies chan Reply
	cancel  func()
	started time.Time // of the stage, once the call was accepted
	took    time.Duration
}

func (c *hotCall) serve() error {
	if err := c.start(); err != nil {
		return err
	}
	c.stage(Accepted)
	reply, err := c.wait()
	if err != nil {
		return err
	}
	c.stage(Waited)
	if err := c.write(reply); err != nil {
		return err
	}
	c.stage(Answered)
	return nil
}

// stage ends a stage of the call.
func (c *hotCall) stage(stage Stage) {
	now := time.Now()
	elapsed := now.Sub(c.started)
	c.took += elapsed
	c.started = now
	c.handler.server.opts.Hooks.stage(c.handler.method.procedure, stage, elapsed)
}

// wait is where a held poll spends its time.
func (c *hotCall) wait() (Reply, error) {
	select {
	case reply := <-c.replies:
		return reply, nil
	case <-c.r.Context().Done():
		c.cancel()
		return nil, c.r.Context().Err()
	}
}

// start lets the call in, reads its body and hands it on. The body's buffer is
// free again when it returns.
func (c *hotCall) start() (err error) {
	ctx, r := c.r.Context(), c.r
	c.call, err = c.handler.method.open(ctx, &Head{
		Codec:           c.call.codec,
		ContentLength:   r.ContentLength,
		ContentEncoding: header(r, "Content-Encoding"),
		ProtocolVersion: header(r, "Connect-Protocol-Version"),
		Timeout:         header(r, "Connect-Timeout-Ms"),
		Authorization:   header(r, "Authorization"),
		Peer:            r.RemoteAddr,
	})
	if err != nil {
		return err
	}
	buffer := buffers.Get().(*[]byte) // the pool holds nothing else
	defer putBuffer(buffer)
	if *buffer, err = readBody(r, (*buffer)[:0], c.handler.method.maxBytes); err != nil {
		return err
	}
	slot := make(chan Reply, 1)
	c.replies = slot
	c.cancel = c.call.serve(ctx, *buffer, func(reply Reply) { slot <- reply })
	return nil
}

// write encodes a reply and hands it to the connection. Once something was
// written there is nothing to tell a client that does not read it.
func (c *hotCall) write(reply Reply) error {
	buffer := buffers.Get().(*[]byte) // the pool holds nothing else
	defer putBuffer(buffer)
	body, err := c.call.encode(c.r.Context(), (*buffer)[:0], reply)
	if err != nil {
		return err
	}
	*buffer = body
	defer c.handler.server.writing.begin(c.call.caller, len(body))()
	writeBody(c.w, contentTypes[c.call.codec], http.StatusOK, body)
	return nil
}

// finish answers a call that failed, and counts every one.
func (c *hotCall) finish(err error) {
	server, procedure := c.handler.server, c.handler.method.procedure
	if err != nil {
		server.refuse(c.w, c.r, procedure, err, c.started.Add(-c.took))
		return
	}
	server.opts.Hooks.request(procedure, codeOK, c.took)
}

// recover turns a panic into an answer.
func (c *hotCall) recover() {
	if cause := recover(); cause != nil {
		c.handler.server.panicked(c.w, c.handler.method.procedure, cause, c.started.Add(-c.took))
	}
}

// contentTypes has the header values of the encodings, shared by all answers.
var contentTypes = map[codec.Codec][]string{
	codec.JSON:   {"application/json"},
	codec.Binary: {"application/proto"},
}

func writeBody(w http.ResponseWriter, contentType []string, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec,nolintlint // G705, found now and then: this is no HTML
}

// header returns a request's header whose name is in canonical form.
func header(r *http.Request, name string) string {
	if values := r.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// readBody appends the body to buf. It stops reading above the limit.
func readBody(r *http.Request, buf []byte, limit int64) ([]byte, error) {
	if r.ContentLength > int64(cap(buf)) {
		buf = make([]byte, 0, r.ContentLength+1) // +1: io.EOF comes without growing
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			return buf, fault.TooLarge()
		case errors.Is(err, io.EOF):
			return buf, nil
		case err != nil:
			return buf, brokenBody(r, err)
		}
	}
}

// borrowedBody is a body for handlers that think that it is theirs to close. The
// server closes it after the answer; a handler that did would wait for what the
// client has not sent, its answer unsent.
type borrowedBody struct{ io.ReadCloser }

func (borrowedBody) Close() error { return nil }

// brokenBody tells a client that is gone or slow from one that breaks off.
func brokenBody(r *http.Request, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err // on HTTP/1.1 it cancels the context too
	}
	if ctxErr := r.Context().Err(); ctxErr != nil {
		return ctxErr
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Invalid("", "malformed", "the request's body breaks off")
	}
	return err
}

// maxPooledBuffer keeps a few large messages from staying in memory for ever.
const maxPooledBuffer = 32 << 10

var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 1024)
	return &b
}}

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooledBuffer {
		buffers.Put(b)
	}
}

// panicked answers a call whose handler panicked.
func (s *Server) panicked(w http.ResponseWriter, procedure string, cause any, started time.Time) {
	s.logPanic(procedure, cause)
	f := fault.From(errPanic)
	writeFault(w, f, f.HTTPStatus())
	s.opts.Hooks.request(procedure, f.Code.String(), time.Since(started))
}

var errPanic = errors.New("panic in a handler")

func (s *Server) logPanic(procedure string, cause any) {
	s.log.Error("panic in a handler", "procedure", procedure, "panic", cause, "stack", string(debug.Stack()))
}
