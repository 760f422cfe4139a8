package h2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2"
)

// The functions here run on the reading goroutine. An error of theirs is an
// http2.StreamError, which ends one stream, an http2.ConnectionError, which the
// client is told before the connection ends, or one of the network.

const (
	errProtocol    = http2.ConnectionError(http2.ErrCodeProtocol)
	errFrameSize   = http2.ConnectionError(http2.ErrCodeFrameSize)
	errFlowControl = http2.ConnectionError(http2.ErrCodeFlowControl)
	errCompression = http2.ConnectionError(http2.ErrCodeCompression)
	errCalm        = http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
)

// read reads frames until the connection ends.
func (c *conn) read() error {
	first := true
	for {
		b, err := c.peek(frameHeaderSize)
		if err != nil {
			return err
		}
		h := parseFrameHeader(b)
		c.from += frameHeaderSize
		c.left = h.length
		if h.length > maxFrame {
			return errFrameSize
		}
		if first && (h.kind != http2.FrameSettings || h.flags.Has(http2.FlagSettingsAck)) {
			return errProtocol
		}
		first = false
		err = c.frame(h)
		if err == nil {
			err = c.skip(c.left)
		}
		if err == nil {
			continue
		}
		one, ok := errors.AsType[http2.StreamError](err)
		if !ok {
			return err
		}
		c.reset(one.StreamID, one.Code)
		if err := errors.Join(c.cost(), c.skip(c.left)); err != nil {
			return err
		}
	}
}

func (c *conn) frame(h frameHeader) error {
	if c.block.open && (h.kind != http2.FrameContinuation || h.stream != c.block.stream) {
		return errProtocol
	}
	switch h.kind {
	case http2.FrameData:
		return c.onData(h)
	case http2.FrameHeaders:
		return c.onHeaders(h)
	case http2.FrameContinuation:
		return c.onContinuation(h)
	case http2.FrameRSTStream:
		return c.onReset(h)
	case http2.FrameSettings:
		return c.onSettings(h)
	case http2.FramePing:
		return c.onPing(h)
	case http2.FrameWindowUpdate:
		return c.onWindowUpdate(h)
	case http2.FrameGoAway:
		return c.onGoAway(h)
	case http2.FramePriority: // deprecated: checked and ignored
		switch {
		case h.stream == 0:
			return errProtocol
		case h.length != 5:
			return http2.StreamError{StreamID: h.stream, Code: http2.ErrCodeFrameSize}
		}
		return c.cost()
	case http2.FramePushPromise:
		return errProtocol
	default:
		return c.cost() // a kind that we do not know
	}
}

// cost counts a frame that only makes work. A client that sends many of them
// is not one that the server has to put up with.
func (c *conn) cost() error {
	if c.now-c.costsAt >= 1e9 {
		c.costsAt, c.costs = c.now, 0
	}
	if c.costs++; c.costs > maxCosts {
		return errCalm
	}
	return nil
}

// controlling appends to what is written next.
func (c *conn) controlling(write func(dst []byte) []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control = write(c.control)
	c.corked = true
}

func (c *conn) onPing(h frameHeader) error {
	if h.stream != 0 {
		return errProtocol
	}
	if h.length != 8 {
		return errFrameSize
	}
	data, err := c.take(8)
	if err != nil {
		return err
	}
	if h.flags.Has(http2.FlagPingAck) {
		if [8]byte(data) == drainPing {
			c.mu.Lock()
			c.leave()
			c.corked = true
			c.mu.Unlock()
		}
		return c.cost()
	}
	if err := c.cost(); err != nil {
		return err
	}
	c.controlling(func(dst []byte) []byte { return appendPing(dst, http2.FlagPingAck, data) })
	return nil
}

func (c *conn) onSettings(h frameHeader) error {
	switch {
	case h.stream != 0:
		return errProtocol
	case h.flags.Has(http2.FlagSettingsAck):
		if h.length != 0 {
			return errFrameSize
		}
		return c.cost()
	case h.length%6 != 0:
		return errFrameSize
	}
	for c.left > 0 {
		b, err := c.take(6)
		if err != nil {
			return err
		}
		if err := c.cost(); err != nil { // one can concern every stream
			return err
		}
		setting := http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(b)), Val: binary.BigEndian.Uint32(b[2:])}
		if err := setting.Valid(); err != nil {
			return err
		}
		if err := c.apply(setting); err != nil {
			return err
		}
	}
	if err := c.cost(); err != nil {
		return err
	}
	c.controlling(func(dst []byte) []byte {
		return appendFrameHeader(dst, frameHeader{kind: http2.FrameSettings, flags: http2.FlagSettingsAck})
	})
	return nil
}

func (c *conn) apply(setting http2.Setting) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch setting.ID {
	case http2.SettingInitialWindowSize:
		change := int64(setting.Val) - int64(c.peerWindow)
		c.peerWindow = int32(setting.Val)
		for _, s := range c.streams {
			left := int64(s.sendLeft) + change
			if left > maxWindow {
				return errFlowControl
			}
			s.sendLeft = int32(left)
		}
		if change > 0 {
			c.requeue(parked)
		}
	case http2.SettingMaxFrameSize:
		c.peerFrame = min(int(setting.Val), maxFrame) // larger ones bring nothing
	default: // what is sent uses no table, and nothing is pushed
	}
	return nil
}

func (c *conn) onWindowUpdate(h frameHeader) error {
	if h.length != 4 {
		return errFrameSize
	}
	b, err := c.take(4)
	if err != nil {
		return err
	}
	increment := int64(binary.BigEndian.Uint32(b) & maxWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.stream == 0 {
		left := int64(c.sendLeft) + increment
		switch {
		case increment == 0:
			return errProtocol
		case left > maxWindow:
			return errFlowControl
		}
		blocked := c.sendLeft <= 0
		c.sendLeft = int32(left)
		if blocked && left > 0 {
			c.requeue(parked)
		}
		return nil
	}
	s := c.streams[h.stream]
	switch {
	case s == nil && c.idle(h.stream):
		return errProtocol
	case increment == 0:
		return http2.StreamError{StreamID: h.stream, Code: http2.ErrCodeProtocol}
	case s == nil:
		return nil // it has ended since
	}
	left := int64(s.sendLeft) + increment
	if left > maxWindow {
		return http2.StreamError{StreamID: h.stream, Code: http2.ErrCodeFlowControl}
	}
	s.sendLeft = int32(left)
	if s.place == parked {
		s.place = nowhere
		c.push(s)
		c.corked = true
	}
	return nil
}

// idle reports whether a stream was never opened, and not only because the
// connection ends. It is called with the lock.
func (c *conn) idle(id uint32) bool { return id%2 == 0 || id > c.lastID && c.phase < leaving }

func (c *conn) onReset(h frameHeader) error {
	if h.stream == 0 {
		return errProtocol
	}
	if h.length != 4 {
		return errFrameSize
	}
	if err := c.cost(); err != nil {
		return err
	}
	c.mu.Lock()
	if c.idle(h.stream) {
		c.mu.Unlock()
		return errProtocol
	}
	var exchange Exchange
	if s := c.streams[h.stream]; s != nil {
		exchange = c.kill(s)
	}
	c.corked = true
	c.mu.Unlock()
	if exchange != nil {
		exchange.End(ErrStreamEnded)
	}
	return nil
}

func (c *conn) onGoAway(h frameHeader) error {
	if h.stream != 0 {
		return errProtocol
	}
	if h.length < 8 {
		return errFrameSize
	}
	return c.cost() // the client closes when it has its answers
}

// peek returns the next n bytes, at most bufferSize, without taking them.
func (c *conn) peek(n int) ([]byte, error) {
	if c.to-c.from < n {
		c.to = copy(c.in[:], c.in[c.from:c.to])
		c.from = 0
		for c.to < n {
			got, err := c.receive(c.in[c.to:])
			c.to += got
			if err != nil && c.to < n {
				return nil, err
			}
		}
	}
	return c.in[c.from : c.from+n], nil
}

// receive waits for bytes of the network. What was cheaper to write together
// with more is written now. Of a client that does not read what it asks for
// nothing more is taken.
func (c *conn) receive(dst []byte) (int, error) {
	c.mu.Lock()
	wake := c.corked && c.wake()
	c.corked = false
	full := len(c.control) > maxControl
	c.mu.Unlock()
	if wake {
		c.server.pool.start(c)
	}
	if full {
		return 0, errCalm
	}
	n, err := c.net.Read(dst)
	c.now = c.server.now()
	c.readAt.Store(c.now)
	return n, err
}

// take takes n bytes of the frame's payload, at most bufferSize. They stay in
// place until the next call.
func (c *conn) take(n int) ([]byte, error) {
	b, err := c.peek(n)
	if err != nil {
		return nil, err
	}
	c.from += n
	c.left -= n
	return b, nil
}

// some takes at least one of the next n bytes of the frame's payload, and as
// many as are there.
func (c *conn) some(n int) ([]byte, error) {
	if _, err := c.peek(1); err != nil {
		return nil, err
	}
	return c.take(min(n, c.to-c.from))
}

// fill takes bytes of the frame's payload for all of dst.
func (c *conn) fill(dst []byte) error {
	c.left -= len(dst)
	n := copy(dst, c.in[c.from:c.to])
	c.from += n
	for n < len(dst) {
		got, err := c.receive(dst[n:])
		n += got
		if err != nil && n < len(dst) {
			return err
		}
	}
	return nil
}

// skip passes over n bytes of the frame's payload.
func (c *conn) skip(n int) error {
	for n > 0 {
		b, err := c.some(n)
		if err != nil {
			return err
		}
		n -= len(b)
	}
	return nil
}
