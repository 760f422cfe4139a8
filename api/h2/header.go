package h2

import (
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// block is a header block that is being read.
type block struct {
	open    bool // CONTINUATION has to follow
	end     bool // END_STREAM
	bad     bool // malformed (RFC 9113, 8.1.1)
	large   bool // above MaxHeaderBytes
	regular bool // a field that is no pseudo-header was there
	pseudo  bool // a pseudo-header was there
	stream  uint32
	wire    int // bytes as sent
	size    int // bytes as RFC 9113, 6.5.2 counts them
	request *Request
}

// requests are free for the next header block.
var requests = sync.Pool{New: func() any { return &Request{Fields: make([]hpack.HeaderField, 0, 16)} }}

func (c *conn) onHeaders(h frameHeader) error {
	if h.stream%2 == 0 {
		return errProtocol
	}
	if c.to-c.from < c.left {
		c.blockBegins()
	}
	padding := 0
	if h.flags.Has(http2.FlagHeadersPadded) {
		if c.left < 1 {
			return errFrameSize
		}
		b, err := c.take(1)
		if err != nil {
			return err
		}
		padding = int(b[0])
	}
	if h.flags.Has(http2.FlagHeadersPriority) { // deprecated: ignored
		if c.left < 5 {
			return errFrameSize
		}
		if _, err := c.take(5); err != nil {
			return err
		}
	}
	if padding > c.left {
		return errProtocol
	}
	request := requests.Get().(*Request) // the pool holds nothing else
	*request = Request{Fields: request.Fields[:0], ContentLength: -1, Remote: c.remote}
	c.block = block{open: true, stream: h.stream, end: h.flags.Has(http2.FlagHeadersEndStream), request: request}
	return c.onFragment(c.left-padding, h.flags.Has(http2.FlagHeadersEndHeaders))
}

func (c *conn) onContinuation(h frameHeader) error {
	if !c.block.open {
		return errProtocol
	}
	if h.length == 0 {
		if err := c.cost(); err != nil {
			return err
		}
	}
	return c.onFragment(c.left, h.flags.Has(http2.FlagContinuationEndHeaders))
}

// onFragment decodes a piece of a header block. Blocks that nobody waits for
// are decoded as well, since they change the decoder's table.
func (c *conn) onFragment(n int, last bool) error {
	// A block that is long on the wire and short when decoded has nothing in
	// it but work.
	if c.block.wire += n; c.block.wire > 2*c.server.opts.MaxHeaderBytes {
		return errCalm
	}
	for n > 0 {
		b, err := c.some(n)
		if err != nil {
			return err
		}
		n -= len(b)
		if _, err := c.decoder.Write(b); err != nil {
			return errCompression
		}
	}
	if !last {
		c.blockBegins()
		return nil
	}
	if err := c.skip(c.left); err != nil { // padding
		return err
	}
	if err := c.decoder.Close(); err != nil {
		return errCompression
	}
	c.decoder.SetEmitEnabled(true)
	b := c.block
	c.block = block{}
	err := c.onBlock(&b)
	clear(b.request.Fields)
	if cap(b.request.Fields) <= 64 {
		requests.Put(b.request)
	}
	return err
}

// blockBegins notes that the rest of a header block has to come in time.
func (c *conn) blockBegins() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blockSince == 0 {
		c.blockSince = c.now
		c.soon(c.now + int64(c.server.opts.HeaderTimeout))
	}
}

// onField takes one field. It is called by the decoder.
func (c *conn) onField(f hpack.HeaderField) {
	b := &c.block
	if b.size += int(f.Size()); b.size > c.server.opts.MaxHeaderBytes {
		b.large = true
		c.decoder.SetEmitEnabled(false) // the rest is decoded and not looked at
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		b.pseudo = true
		b.bad = b.bad || b.regular || !b.request.setPseudo(f)
		return
	}
	b.regular = true
	b.bad = b.bad || !b.request.add(f)
}

// setPseudo takes a pseudo-header and reports whether it may be there.
func (r *Request) setPseudo(f hpack.HeaderField) bool {
	var field *string
	switch f.Name {
	case ":method":
		field = &r.Method
	case ":scheme":
		field = &r.Scheme
	case ":authority":
		field = &r.Authority
	case ":path":
		field = &r.Path
	default:
		return false
	}
	if *field != "" || f.Value == "" && f.Name != ":authority" || !httpguts.ValidHeaderFieldValue(f.Value) {
		return false
	}
	*field = f.Value
	return true
}

// add takes a field and reports whether it may be there.
func (r *Request) add(f hpack.HeaderField) bool {
	if !validName(f.Name) || !httpguts.ValidHeaderFieldValue(f.Value) {
		return false // blanks around a value are borne with, as elsewhere
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return false // about one connection of HTTP/1.1
	case "te":
		return f.Value == "trailers"
	case "host":
		if r.Authority == "" {
			r.Authority = f.Value
		}
		return true
	case "content-length":
		n, err := strconv.ParseUint(f.Value, 10, 63)
		if err != nil || r.ContentLength >= 0 && r.ContentLength != int64(n) || f.Value[0] == '+' {
			return false
		}
		r.ContentLength = int64(n)
	}
	r.Fields = append(r.Fields, f)
	return true
}

// validName reports whether a field's name is a token in lower case.
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return name != ""
}

// complete reports whether the pseudo-headers are those of a request.
func (r *Request) complete() bool {
	if r.Method == "CONNECT" {
		return r.Authority != "" && r.Path == "" && r.Scheme == ""
	}
	return r.Method != "" && validName(strings.ToLower(r.Method)) && (r.Scheme == "http" || r.Scheme == "https") &&
		(strings.HasPrefix(r.Path, "/") || r.Path == "*" && r.Method == "OPTIONS")
}

// onBlock takes a whole header block: of a new request, or the trailer of one.
func (c *conn) onBlock(b *block) error {
	failed := func(code http2.ErrCode) error { return http2.StreamError{StreamID: b.stream, Code: code} }
	r := b.request
	c.mu.Lock()
	c.blockSince = 0
	s := c.streams[b.stream]
	switch {
	case s != nil:
		c.mu.Unlock()
		if s.bodyDone {
			return failed(http2.ErrCodeStreamClosed)
		}
		if !b.end || b.pseudo || b.bad {
			return failed(http2.ErrCodeProtocol)
		}
		return c.endBody(s) // a trailer has nothing that is wanted
	case b.stream <= c.lastID:
		c.mu.Unlock()
		return failed(http2.ErrCodeStreamClosed)
	case c.phase >= leaving:
		c.mu.Unlock()
		return c.cost() // the client is told that it was not taken
	}
	c.lastID = b.stream
	switch {
	case len(c.streams) >= c.server.opts.MaxStreams || c.buffered > maxBuffered:
		c.mu.Unlock()
		return failed(http2.ErrCodeRefusedStream)
	case b.large:
		r.ContentLength = -1 // or not seen
	case b.bad || !r.complete() || b.end && r.ContentLength > 0:
		c.mu.Unlock()
		return failed(http2.ErrCodeProtocol)
	}
	s = &Stream{
		conn: c, id: b.stream, head: r.Method == "HEAD", started: c.now, declared: r.ContentLength,
		recvLeft: defaultWindow, sendLeft: c.peerWindow, bodyDone: b.end, busy: true,
	}
	c.streams[s.id] = s
	if !s.bodyDone {
		c.incomplete++
	}
	c.mu.Unlock()
	if !b.end {
		c.soon(c.now + int64(c.server.opts.BodyTimeout))
	}
	switch {
	case b.large:
		s.exchange = tooLargeHeader{}
		s.Answer()
	case c.server.opts.Route != nil:
		s.exchange = c.server.opts.Route(s, r)
	}
	if s.exchange == nil {
		return c.handle(s, r)
	}
	return s.open()
}

// tooLargeHeader answers a request whose header is above the limit.
type tooLargeHeader struct{}

// Open implements Exchange.
func (tooLargeHeader) Open(bool) bool { return true }

// Serve implements Exchange.
func (tooLargeHeader) Serve([]byte, error) {}

// Encode implements Exchange.
func (tooLargeHeader) Encode(a *Answer) {
	a.Status = 431
	a.Fields = append(a.Fields, Field{"content-type", "text/plain; charset=utf-8"})
	a.Body = append(a.Body, "the header is too large\n"...)
}

// End implements Exchange.
func (tooLargeHeader) End(error) {}
