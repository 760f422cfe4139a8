package h2

import (
	"bytes"

	"golang.org/x/net/http2"
)

// maxUnwanted is up to where the body of a request that was answered early is
// still taken. Resetting the stream would cut off what is on its way, which
// some clients (curl 7.88 is one) take for a failure although they have the
// answer.
const maxUnwanted = 1 << 20

func (c *conn) onData(h frameHeader) error {
	if h.stream == 0 {
		return errProtocol
	}
	if err := c.takeWindow(h.length); err != nil {
		return err
	}
	size := h.length
	if h.flags.Has(http2.FlagDataPadded) {
		if size < 1 {
			return errFrameSize
		}
		b, err := c.take(1)
		if err != nil {
			return err
		}
		if size -= 1 + int(b[0]); size < 0 {
			return errProtocol
		}
	}
	end := h.flags.Has(http2.FlagDataEndStream)
	if size == 0 && !end {
		if err := c.cost(); err != nil {
			return err
		}
	}
	failed := func(code http2.ErrCode) error { return http2.StreamError{StreamID: h.stream, Code: code} }

	c.mu.Lock()
	s := c.streams[h.stream]
	if s == nil {
		idle := c.idle(h.stream)
		c.mu.Unlock()
		if idle {
			return errProtocol
		}
		return failed(http2.ErrCodeStreamClosed)
	}
	s.received += int64(size)
	s.recvLeft -= int32(h.length)
	s.returned += int32(h.length - size) // padding
	switch {
	case s.bodyDone:
		c.mu.Unlock()
		return failed(http2.ErrCodeStreamClosed)
	case s.recvLeft < 0:
		c.mu.Unlock()
		return failed(http2.ErrCodeFlowControl)
	case s.declared >= 0 && s.received > s.declared:
		c.mu.Unlock()
		return failed(http2.ErrCodeProtocol)
	}
	unwanted := s.answered || s.ready || s.arrived == nil && (s.served || s.tooLong)
	whole := end && s.charged == 0 && size <= bufferSize && s.opened && !s.busy && s.arrived == nil
	c.mu.Unlock()

	var err error
	switch {
	case unwanted:
		err = c.discard(s, size, end)
	case s.arrived != nil:
		err = c.pass(s, size)
	case s.received > c.server.opts.MaxBodyBytes:
		err = c.refuseBody(s)
	case whole && (s.declared < 0 || s.received == s.declared):
		return c.serveInPlace(s, size)
	default:
		err = c.collect(s, size)
	}
	if err != nil || !end {
		return err
	}
	if err := c.skip(c.left); err != nil { // padding
		return err
	}
	return c.endBody(s)
}

// takeWindow counts a frame's payload, padding and all, against the
// connection's window, and gives it back at once: what streams may keep is
// bounded otherwise, and a stream that waits must not stop the others.
func (c *conn) takeWindow(n int) error {
	if c.recvLeft -= int32(n); c.recvLeft < 0 {
		return errFlowControl
	}
	if c.returned += int32(n); c.returned < connectionWindow/4 {
		return nil
	}
	back := c.returned
	c.recvLeft += back
	c.returned = 0
	c.controlling(func(dst []byte) []byte { return appendWindowUpdate(dst, 0, uint32(back)) })
	return nil
}

// returnWindow gives a stream's window back for n bytes that were taken. It is
// called with the lock.
func (c *conn) returnWindow(s *Stream, n int) {
	if s.returned += int32(n); s.bodyDone || s.returned < defaultWindow/4 {
		return
	}
	s.recvLeft += s.returned
	c.control = appendWindowUpdate(c.control, s.id, uint32(s.returned))
	s.returned = 0
}

// serveInPlace serves a body that is one small frame as it lies in the buffer.
func (c *conn) serveInPlace(s *Stream, size int) error {
	body, err := c.take(size)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.finishBody(s)
	if !s.mayServe() { // it was too slow, just now: whoever found that goes on with it
		if !s.served {
			s.body = bytes.Clone(body)
		}
		c.mu.Unlock()
		return nil
	}
	c.deliver(s, body)
	return nil
}

// maxPromised is up to where a client's word is taken for how long a body will
// be. Above, its buffer grows with what comes.
const maxPromised = 4 << 10

// collect keeps a part of a body.
func (c *conn) collect(s *Stream, size int) error {
	if s.body == nil && s.declared > 0 {
		s.body = make([]byte, 0, min(s.declared, maxPromised))
	}
	old := len(s.body)
	s.body = append(s.body, make([]byte, size)...)
	if err := c.fill(s.body[old:]); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams[s.id] != s || s.served {
		return nil
	}
	s.charged += size
	c.buffered += size
	if c.buffered > 2*maxBuffered {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeRefusedStream}
	}
	c.returnWindow(s, size)
	c.corked = true
	return nil
}

// pass hands a part of a body to the handler that reads it.
func (c *conn) pass(s *Stream, size int) error {
	for size > 0 {
		b, err := c.some(size)
		if err != nil {
			return err
		}
		size -= len(b)
		c.mu.Lock()
		if !s.dead && !s.ready {
			s.body = append(s.body, b...)
			s.arrived.Signal()
		}
		c.mu.Unlock()
	}
	return nil
}

// refuseBody stops taking a body that is above the limit.
func (c *conn) refuseBody(s *Stream) error {
	c.mu.Lock()
	s.tooLong = true
	if s.mayServe() {
		c.deliver(s, nil)
		return nil
	}
	c.mu.Unlock()
	return nil
}

// discard passes over a part of a body that nobody wants.
func (c *conn) discard(s *Stream, size int, end bool) error {
	if err := c.skip(size); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case end || c.streams[s.id] != s:
	case s.received <= maxUnwanted:
		c.returnWindow(s, size)
		c.corked = true
	case s.answered: // else it ends when it is
		c.remove(s)
		c.control = appendReset(c.control, s.id, http2.ErrCodeNo)
		c.corked = true
	}
	return nil
}

// finishBody notes that a body is there, or nothing more of it will come. It is
// called with the lock.
func (c *conn) finishBody(s *Stream) {
	s.bodyDone = true
	if c.streams[s.id] != s {
		return
	}
	c.incomplete--
	if s.answered {
		c.remove(s)
	}
	if s.arrived != nil {
		s.arrived.Broadcast()
	}
}

// endBody goes on with a stream whose body is there.
func (c *conn) endBody(s *Stream) error {
	if s.declared >= 0 && s.received != s.declared {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	}
	c.mu.Lock()
	c.finishBody(s)
	if s.arrived == nil && !s.dead && s.mayServe() {
		c.deliver(s, nil)
		return nil
	}
	c.mu.Unlock()
	return nil
}
