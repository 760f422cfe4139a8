package h2client

import (
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The functions here are called with Conn.write locked. They return no error:
// a write that failed has closed the socket, which ends the reading goroutine,
// which ends every request.

// writeRequest sends the header block and as much of the body as the windows
// allow, in one write.
func (c *Conn) writeRequest(st *stream, request Request) {
	w := &c.write
	w.block.Reset()
	c.field(":method", "POST")
	c.field(":scheme", c.scheme)
	c.field(":authority", c.authority)
	c.field(":path", request.Path)
	for _, field := range request.Header {
		_ = w.encoder.WriteField(field) // into a buffer: cannot fail
	}
	// Lengths vary: kept out of the table, they push nothing else out of it.
	_ = w.encoder.WriteField(hpack.HeaderField{
		Name: "content-length", Value: strconv.Itoa(len(request.Body)), Sensitive: true,
	})

	block := w.block.Bytes()
	first := block[:min(len(block), w.maxFrame)]
	_ = w.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID:      st.id,
		BlockFragment: first,
		EndHeaders:    len(first) == len(block),
		EndStream:     len(request.Body) == 0,
	})
	for block = block[len(first):]; len(block) > 0; {
		next := block[:min(len(block), w.maxFrame)]
		block = block[len(next):]
		_ = w.framer.WriteContinuation(st.id, len(block) == 0, next)
	}
	if len(request.Body) > 0 {
		st.pending = request.Body
		if !c.writeBody(st) {
			st.pending = append([]byte(nil), st.pending...)
			w.blocked = append(w.blocked, st)
		}
	}
	_ = c.flushLocked()
}

func (c *Conn) field(name, value string) {
	_ = c.write.encoder.WriteField(hpack.HeaderField{Name: name, Value: value})
}

// writeBody writes what the windows allow and reports whether that was all.
func (c *Conn) writeBody(st *stream) bool {
	w := &c.write
	for len(st.pending) > 0 {
		n := min(int64(len(st.pending)), int64(w.maxFrame), st.window, w.window)
		if n <= 0 {
			return false
		}
		chunk := st.pending[:n]
		st.pending = st.pending[n:]
		st.window -= n
		w.window -= n
		_ = w.framer.WriteData(st.id, len(st.pending) == 0, chunk)
	}
	st.pending = nil
	return true
}

// writeBlocked goes on with the bodies that waited for a window.
func (c *Conn) writeBlocked() {
	w := &c.write
	kept := w.blocked[:0]
	for _, st := range w.blocked {
		if !c.writeBody(st) {
			kept = append(kept, st)
		}
	}
	clear(w.blocked[len(kept):])
	w.blocked = kept
}

// flushLocked sends the buffer in one write.
func (c *Conn) flushLocked() error {
	w := &c.write
	if w.buffer.Len() == 0 {
		return nil
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	_, err := c.conn.Write(w.buffer.Bytes())
	w.buffer.Reset()
	if err != nil {
		_ = c.refuse(err)
		_ = c.conn.Close()
	}
	return err
}
