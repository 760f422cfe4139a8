package h2

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// flushSize is from where on what was gathered is written.
const flushSize = 32 << 10

// writer is what a goroutine needs while it writes for a connection.
type writer struct {
	out    []byte // what is written next
	block  []byte // a header block
	answer Answer
	done   []Exchange // whose answers are in out to their end
}

var writers = sync.Pool{New: func() any { return new(writer) }}

// maxKept keeps a few large answers from staying in memory for ever.
const maxKept = 64 << 10

// enqueue puts a stream whose answer is ready into the queue and reports
// whether the caller must wake the writer. It is called with the lock.
func (c *conn) enqueue(s *Stream) (wake bool) {
	if s.dead || s.busy || s.answered || s.place != nowhere || !s.ready {
		return false
	}
	c.push(s)
	return c.wake()
}

func (c *conn) push(s *Stream) {
	s.place = queued
	c.queue = append(c.queue, s)
}

// requeue lets the streams go on that wait at a place. It is called with the
// lock.
func (c *conn) requeue(from place) {
	for _, s := range c.streams {
		if s.place == from {
			c.push(s)
		}
	}
	c.corked = true
}

// wake reports whether the caller must start the connection's writer, once it
// has given the lock back.
func (c *conn) wake() bool {
	if c.writing || c.phase == closed || len(c.control) == 0 && len(c.queue) == 0 && (c.phase != closing || c.shut) {
		return false
	}
	c.writing = true
	return true
}

// run writes what there is to write. It is the connection's writer, on a
// goroutine of the pool.
func (c *conn) run() {
	w := writers.Get().(*writer) // the pool holds nothing else
	for c.gather(w) && c.flush(w) {
	}
	w.endAll(ErrStreamEnded) // the connection ended meanwhile
	if cap(w.out) > maxKept {
		w.out = nil
	}
	if cap(w.answer.Body) > maxKept {
		w.answer.Body = nil
	}
	clear(w.answer.Fields)
	writers.Put(w)
}

// gather collects what is written next. When that is nothing, the writer is no
// longer the connection's, and gather returns false.
func (c *conn) gather(w *writer) bool {
	c.mu.Lock()
	w.out = append(w.out[:0], c.control...)
	c.control = c.control[:0]
	for len(c.queue) > 0 && len(w.out) < flushSize && c.phase != closed {
		s := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		if s.place == queued { // and was not put elsewhere since
			s.place = nowhere
			c.write(w, s)
		}
	}
	if len(w.out) > 0 && c.phase != closed {
		c.writeSince = c.server.now()
		c.soon(c.writeSince + int64(c.server.opts.WriteTimeout))
		c.mu.Unlock()
		return true
	}
	c.writing = false
	c.control, c.queue = nil, nil
	last := c.phase == closing && !c.shut
	if last {
		c.shut = true
		c.endAt = c.server.now() + int64(lingerTime)
		c.soon(c.endAt)
	}
	c.mu.Unlock()
	if last {
		closeWrite(c)
	}
	return false
}

// write gathers what a stream has to say, as far as windows allow. It is called
// with the lock, which it gives back while the answer is encoded.
func (c *conn) write(w *writer, s *Stream) {
	if s.dead || s.answered {
		return
	}
	if !s.encoded {
		if c.held >= maxHeld {
			s.place = gated
			return
		}
		if !c.encode(w, s) {
			return
		}
	}
	for len(s.out) > 0 && len(w.out) < flushSize {
		n := min(len(s.out), c.peerFrame, int(s.sendLeft), int(c.sendLeft))
		if n <= 0 {
			break
		}
		h := frameHeader{kind: http2.FrameData, stream: s.id, length: n}
		if n == len(s.out) && len(s.trailer) == 0 {
			h.flags = http2.FlagDataEndStream
		}
		w.out = append(appendFrameHeader(w.out, h), s.out[:n]...)
		s.out, s.parkedAt = s.out[n:], 0
		s.sendLeft -= int32(n)
		c.sendLeft -= int32(n)
	}
	if len(s.out) > 0 {
		c.keep(w, s)
		return
	}
	if len(s.trailer) > 0 {
		w.block = w.block[:0]
		for _, f := range s.trailer {
			w.block = appendField(w.block, f.Name, f.Value)
		}
		w.out = appendHeaders(w.out, s.id, w.block, true, c.peerFrame)
	}
	c.finish(w, s)
}

// encode builds a stream's answer and gathers its header. It reports whether
// the stream is still there.
func (c *conn) encode(w *writer, s *Stream) bool {
	exchange := s.exchange
	s.busy = true
	c.mu.Unlock()
	w.answer.reset()
	exchange.Encode(&w.answer)
	c.mu.Lock()
	s.busy, s.encoded = false, true
	if s.dead {
		if exchange := s.takeExchange(); exchange != nil {
			c.mu.Unlock()
			exchange.End(ErrStreamEnded)
			c.mu.Lock()
		}
		return false
	}
	a := &w.answer
	w.block = w.block[:0]
	if !c.tableSaid {
		c.tableSaid = true
		w.block = append(w.block, tableSizeZero)
	}
	w.block = appendStatus(w.block, a.Status)
	for _, f := range a.Fields {
		w.block = appendField(w.block, f.Name, f.Value)
	}
	if a.length == lengthOfBody {
		a.length = int64(len(a.Body))
	}
	if a.length >= 0 {
		w.block = appendInt(appendName(w.block, "content-length"), a.length)
	}
	w.block = appendField(w.block, "date", c.server.date())
	if s.head || a.Status == 204 || a.Status == 304 {
		a.Body = a.Body[:0]
	}
	s.out, s.trailer = a.Body, a.Trailer
	end := len(s.out) == 0 && len(s.trailer) == 0
	w.out = appendHeaders(w.out, s.id, w.block, end, c.peerFrame)
	return true
}

// keep leaves a stream with what it could not say yet.
func (c *conn) keep(w *writer, s *Stream) {
	if s.held == 0 {
		s.held = cap(s.out)
		c.held += s.held
		w.answer.Body = nil // it is the stream's now
		s.trailer = append([]Field(nil), s.trailer...)
	}
	if s.sendLeft > 0 && c.sendLeft > 0 {
		c.push(s)
		return
	}
	s.place = parked
	if s.parkedAt == 0 {
		s.parkedAt = c.server.now()
		c.soon(s.parkedAt + int64(c.server.opts.IdleTimeout))
	}
}

// finish ends a stream whose answer was gathered to its end.
func (c *conn) finish(w *writer, s *Stream) {
	s.answered = true
	c.release(s)
	if exchange := s.takeExchange(); exchange != nil {
		w.done = append(w.done, exchange)
	}
	switch {
	case s.bodyDone:
		c.remove(s)
	case s.declared > maxUnwanted || s.received > maxUnwanted || s.slow:
		// The client need not send the rest.
		w.out = appendReset(w.out, s.id, http2.ErrCodeNo)
		c.remove(s)
	}
}

// flush writes what was gathered and reports whether the connection is whole.
func (c *conn) flush(w *writer) bool {
	w.endAll(nil)
	err := c.writeAll(w.out)
	c.mu.Lock()
	c.writeSince = 0
	if c.cut && err == nil {
		c.cut = false
		_ = c.net.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		c.phase = closed // nobody writes any more; the reader clears up
		c.writing = false
	}
	c.mu.Unlock()
	if err != nil {
		_ = c.net.Close()
	}
	return err == nil
}

// endAll ends the exchanges whose answers are on their way: before the client
// can have the last byte, so that what it does next finds this one ended.
func (w *writer) endAll(err error) {
	for i, exchange := range w.done {
		exchange.End(err)
		w.done[i] = nil
	}
	w.done = w.done[:0]
}

// writeAll writes for as long as the client takes at least a byte each
// WriteTimeout.
func (c *conn) writeAll(out []byte) error {
	for {
		n, err := c.net.Write(out)
		out = out[n:]
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		c.mu.Lock()
		c.cut = false
		_ = c.net.SetWriteDeadline(time.Time{})
		c.writeSince = c.server.now()
		c.soon(c.writeSince + int64(c.server.opts.WriteTimeout))
		c.mu.Unlock()
	}
}

// closeWrite says that nothing more will come.
func closeWrite(c *conn) {
	half, ok := c.net.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		_ = c.net.Close()
	}
}
