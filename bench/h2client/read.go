package h2client

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// reader is the state of the reading goroutine.
type reader struct {
	framer  *http2.Framer
	decoder *hpack.Decoder
	// The header block that is being read.
	status int
	end    bool
	// Bytes received that the connection's window does not cover any more.
	unreturned uint32
}

func (r *reader) init(conn net.Conn) {
	// Small: a held poll's answer fits, longer reads pass it by.
	r.framer = http2.NewFramer(nil, bufio.NewReaderSize(conn, 1<<10))
	r.framer.SetMaxReadFrameSize(defaultFrame)
	r.framer.SetReuseFrames()
	r.decoder = hpack.NewDecoder(defaultTable, func(field hpack.HeaderField) {
		if field.Name == ":status" {
			r.status, _ = strconv.Atoi(field.Value)
		}
	})
	r.decoder.SetMaxStringLength(maxHeaderString)
}

// readLoop reads frames until the connection ends, then ends the requests.
func (c *Conn) readLoop() {
	defer close(c.done)
	for {
		frame, err := c.read.framer.ReadFrame()
		if err == nil {
			err = c.onFrame(frame)
		}
		if err != nil && !c.onStreamError(err) {
			reason := c.refuse(fmt.Errorf("h2client: connection lost: %w", err))
			_ = c.conn.Close()
			c.endAbove(0, reason)
			return
		}
	}
}

// onStreamError ends the one request that a bad frame belongs to, and reports
// whether the error was of that kind.
func (c *Conn) onStreamError(err error) bool {
	var one http2.StreamError
	if !errors.As(err, &one) {
		return false
	}
	c.finish(one.StreamID, Response{Err: one})
	c.reset(one.StreamID)
	return true
}

func (c *Conn) onFrame(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		c.read.status, c.read.end = 0, f.StreamEnded()
		return c.onHeaderBlock(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame:
		return c.onHeaderBlock(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.RSTStreamFrame:
		c.finish(f.StreamID, Response{Err: http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode}})
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.onSettings(f)
		}
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.writing(func() error { return c.write.framer.WritePing(true, f.Data) })
		}
	case *http2.GoAwayFrame:
		_ = c.refuse(ErrGoAway)
		c.endAbove(f.LastStreamID, ErrGoAway)
	case *http2.PushPromiseFrame:
		return errors.New("a push that was switched off")
	}
	return nil
}

// onHeaderBlock decodes a piece of a header block: of an answer, of an
// interim one (1xx), or of trailers. Blocks of streams that nobody waits for
// are decoded as well, since they change the decoder's table.
func (c *Conn) onHeaderBlock(id uint32, fragment []byte, last bool) error {
	r := &c.read
	if _, err := r.decoder.Write(fragment); err != nil {
		return err
	}
	if !last {
		return nil
	}
	if err := r.decoder.Close(); err != nil {
		return err
	}
	if r.status >= 200 {
		c.mu.Lock()
		if st := c.mu.streams[id]; st != nil && st.status == 0 {
			st.status = r.status
		}
		c.mu.Unlock()
	}
	if r.end {
		c.complete(id, nil)
	}
	return nil
}

func (c *Conn) onData(f *http2.DataFrame) error {
	if err := c.returnWindow(f.Header().Length); err != nil {
		return err
	}
	if f.StreamEnded() {
		c.complete(f.StreamID, f.Data())
		return nil
	}
	c.mu.Lock()
	st := c.mu.streams[f.StreamID]
	tooLong := false
	if st != nil {
		tooLong = len(st.body)+len(f.Data()) > c.maxResponse
		if !tooLong {
			st.body = append(st.body, f.Data()...)
		}
	}
	c.mu.Unlock()
	if tooLong {
		c.finish(f.StreamID, Response{Err: errors.New("h2client: response too long")})
		c.reset(f.StreamID)
	}
	return nil
}

// complete hands a whole response over. The usual one is a single DATA frame,
// whose bytes go up as they lie in the frame.
func (c *Conn) complete(id uint32, tail []byte) {
	st := c.take(id)
	switch {
	case st == nil:
		return
	case st.status == 0:
		st.done(Response{Err: errors.New("h2client: response without a status")})
		return
	case len(st.body) > 0:
		tail = append(st.body, tail...)
	}
	st.done(Response{Status: st.status, Body: tail})
}

// finish ends a request, if it still waits.
func (c *Conn) finish(id uint32, response Response) {
	if st := c.take(id); st != nil {
		st.done(response)
	}
}

// endAbove ends the requests with an id above last.
func (c *Conn) endAbove(last uint32, err error) {
	c.mu.Lock()
	var ended []*stream
	for id, st := range c.mu.streams {
		if id > last {
			ended = append(ended, st)
			delete(c.mu.streams, id)
		}
	}
	c.mu.Unlock()
	for _, st := range ended {
		st.done(Response{Err: err})
	}
}

// returnWindow gives the window back in halves, not byte by byte.
func (c *Conn) returnWindow(n uint32) error {
	r := &c.read
	if r.unreturned += n; r.unreturned < connectionWindow/2 {
		return nil
	}
	n, r.unreturned = r.unreturned, 0
	return c.writing(func() error { return c.write.framer.WriteWindowUpdate(0, n) })
}

func (c *Conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	return c.writing(func() error {
		w := &c.write
		if f.StreamID == 0 {
			w.window += int64(f.Increment)
		}
		for _, st := range w.blocked {
			if st.id == f.StreamID {
				st.window += int64(f.Increment)
			}
		}
		c.writeBlocked()
		return nil
	})
}

func (c *Conn) onSettings(f *http2.SettingsFrame) error {
	return c.writing(func() error {
		err := f.ForeachSetting(func(setting http2.Setting) error {
			if err := setting.Valid(); err != nil {
				return err
			}
			c.applySetting(setting)
			return nil
		})
		if err != nil {
			return err
		}
		c.writeBlocked()
		return c.write.framer.WriteSettingsAck()
	})
}

// applySetting is called with Conn.write locked.
func (c *Conn) applySetting(setting http2.Setting) {
	w := &c.write
	switch setting.ID {
	case http2.SettingInitialWindowSize:
		change := int64(setting.Val) - w.initialWindow
		w.initialWindow += change
		for _, st := range w.blocked {
			st.window += change
		}
	case http2.SettingMaxFrameSize:
		w.maxFrame = int(min(setting.Val, 1<<20))
	case http2.SettingHeaderTableSize:
		w.encoder.SetMaxDynamicTableSizeLimit(min(setting.Val, defaultTable))
		w.encoder.SetMaxDynamicTableSize(min(setting.Val, defaultTable))
	case http2.SettingMaxConcurrentStreams:
		c.mu.Lock()
		c.mu.maxStreams = int(min(setting.Val, maxStreamID))
		c.mu.Unlock()
	default: // the rest does not concern a client without push
	}
}

// writing runs write with the write side locked, then sends what it wrote.
func (c *Conn) writing(write func() error) error {
	c.write.Lock()
	defer c.write.Unlock()
	if err := write(); err != nil {
		return err
	}
	return c.flushLocked()
}
