package h2

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

var (
	// ErrBodyTooLong is why an exchange gets no body that is above
	// [Options.MaxBodyBytes].
	ErrBodyTooLong = errors.New("h2: body too long")
	// ErrStreamEnded is why an exchange ends that was not answered: the client
	// reset it, broke the protocol, or is gone.
	ErrStreamEnded = errors.New("h2: stream ended")
)

// Request is the header of a request. It is only lent.
type Request struct {
	Method, Scheme, Authority, Path string
	// Fields are the other fields in their order, with lower-case names.
	Fields []hpack.HeaderField
	// ContentLength is -1 when it is not declared.
	ContentLength int64
	// Remote is the client's address and port.
	Remote string
}

// Exchange is one request and its answer. Its methods are the steps of a
// request. They are never called at the same time, and End is the last. Only
// Open with wait and Encode may block; a panic in any of them is the
// exchange's to catch.
type Exchange interface {
	// Open lets the request in, by its header. Without wait it must not block,
	// and returns false when it would have to; it is then called again with
	// wait, on a goroutine of its own. To refuse the request it calls
	// [Stream.Answer] and returns true.
	Open(wait bool) bool
	// Serve takes the body, which is only lent, or why there is none:
	// [ErrBodyTooLong], or [os.ErrDeadlineExceeded] for one that came too
	// slowly. It is not called for a request that was answered before.
	Serve(body []byte, err error)
	// Encode builds the answer after [Stream.Answer], just before it is
	// written.
	Encode(*Answer)
	// End is called just before the last of the answer is written, with nil,
	// or with the reason why it never will be.
	End(err error)
}

// Answer is what a request is answered with.
type Answer struct {
	Status int
	// Fields have lower-case names. Content-Length and Date are added.
	Fields []Field
	// Body is to be appended to.
	Body []byte
	// Trailer has lower-case names too.
	Trailer []Field
	// length is what the header declares, -1 for nothing.
	length int64
}

// Field is a field of an answer's header or trailer.
type Field struct{ Name, Value string }

func (a *Answer) reset() {
	a.Fields, a.Body, a.Trailer = a.Fields[:0], a.Body[:0], a.Trailer[:0]
	a.Status, a.length = 200, lengthOfBody
}

// lengthOfBody has the header declare the length of the body.
const lengthOfBody = -2

// Stream is a request that is under way.
type Stream struct {
	conn     *conn
	exchange Exchange // nil once End was called, or is about to be
	body     []byte   // what has come of it; the reader's, until bodyDone
	arrived  *sync.Cond
	out      []byte  // what is left to be sent
	trailer  []Field // to be sent behind out

	started  int64 // when the header was there, on the server's clock
	parkedAt int64 // since when it waits for a window in vain; 0: it does not
	declared int64 // length of the body, -1 when not declared
	received int64
	sendLeft int32 // window for what is sent
	recvLeft int32 // window for what comes
	returned int32 // bytes taken that recvLeft was not given back
	held     int   // what out counts for in conn.held
	charged  int   // what body counts for in conn.buffered

	id    uint32
	place place

	// A stream's life. The connection's lock guards them.
	head     bool // the request's method is HEAD
	opened   bool // Open is through
	served   bool // Serve was called, or never will be
	busy     bool // a method of the exchange runs, so that no other may
	ready    bool // Answer was called
	encoded  bool
	bodyDone bool // END_STREAM has come
	tooLong  bool
	slow     bool
	answered bool // END_STREAM was sent
	dead     bool // no longer in the connection's map before it was answered
}

// place is where a stream waits on its way out.
type place uint8

const (
	nowhere place = iota
	queued        // in conn.queue
	parked        // for a window
	gated         // for other answers of the connection to be taken
)

// Answer says that the answer can be encoded. It may be called once, from any
// goroutine and during Open and Serve; it never blocks. After the end of the
// stream it does nothing.
func (s *Stream) Answer() {
	c := s.conn
	c.mu.Lock()
	s.ready = true
	wake := c.enqueue(s)
	c.mu.Unlock()
	if wake {
		c.server.pool.start(c)
	}
}

// Context ends with the server. It is one for all streams.
func (s *Stream) Context() context.Context { return s.conn.server.ctx }

// open takes a stream through Open. It runs on the reader. Nobody else touches
// the exchange before proceed: it is busy.
func (s *Stream) open() error {
	c, exchange := s.conn, s.exchange
	if exchange.Open(false) {
		c.mu.Lock()
		s.opened = true
		c.proceed(s)
		return nil
	}
	c.mu.Lock()
	if c.handlers >= c.server.opts.MaxStreams {
		c.proceed(s) // only to be reset
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeRefusedStream}
	}
	c.handlers++
	c.mu.Unlock()
	c.server.pool.start(taskFunc(func() {
		exchange.Open(true)
		c.mu.Lock()
		c.handlers--
		s.opened = true
		c.proceed(s)
	}))
	return nil
}

// proceed takes the next step of a stream whose exchange's method has
// returned. It is called with the lock, which it gives back.
func (c *conn) proceed(s *Stream) {
	s.busy = false
	switch {
	case s.dead:
		exchange := s.takeExchange()
		c.mu.Unlock()
		if exchange != nil {
			exchange.End(ErrStreamEnded)
		}
	case s.ready:
		wake := c.enqueue(s)
		c.mu.Unlock()
		if wake {
			c.server.pool.start(c)
		}
	case s.mayServe():
		c.deliver(s, nil)
	default:
		c.mu.Unlock()
	}
}

// mayServe reports whether it is time for Serve.
func (s *Stream) mayServe() bool {
	return s.opened && !s.served && !s.busy && !s.ready && (s.bodyDone || s.tooLong || s.slow)
}

// deliver hands the body over, as it was collected unless the caller has it. It
// is called with the lock, which it gives back.
func (c *conn) deliver(s *Stream, body []byte) {
	var err error
	switch {
	case s.tooLong:
		err = ErrBodyTooLong
	case !s.bodyDone:
		err = os.ErrDeadlineExceeded
	case body == nil:
		body, s.body = s.body, nil // before, it is the reader's
	}
	s.served, s.busy = true, true
	exchange := s.exchange
	c.uncharge(s)
	c.mu.Unlock()
	exchange.Serve(body, err)
	c.mu.Lock()
	c.proceed(s)
}

// takeExchange returns the exchange for its End, nil if that was called.
func (s *Stream) takeExchange() Exchange {
	exchange := s.exchange
	s.exchange = nil
	return exchange
}

// kill removes a stream that ends without its answer. It is called with the
// lock; the caller must call End of what it returns, if anything, without it.
func (c *conn) kill(s *Stream) Exchange {
	if s.dead || c.streams[s.id] != s {
		return nil
	}
	c.remove(s)
	s.dead = true
	c.release(s)
	if s.place == queued {
		// The writer may not come to it for long, while more come and end.
		c.queue = slices.DeleteFunc(c.queue, func(queued *Stream) bool { return queued == s })
		s.place = nowhere
	}
	if s.arrived != nil {
		s.arrived.Broadcast()
	}
	if s.busy {
		return nil // proceed will
	}
	return s.takeExchange()
}

// release gives up what is left to be sent of a stream.
func (c *conn) release(s *Stream) {
	before := c.held
	c.held -= s.held
	s.held, s.out, s.trailer = 0, nil, nil
	if before >= maxHeld && c.held < maxHeld {
		c.requeue(gated)
	}
}

// uncharge gives up what has come of a body.
func (c *conn) uncharge(s *Stream) {
	c.buffered -= s.charged
	s.charged = 0
}

// remove takes a stream out of the map.
func (c *conn) remove(s *Stream) {
	delete(c.streams, s.id)
	c.uncharge(s)
	if !s.bodyDone {
		c.incomplete--
	}
	if len(c.streams) == 0 {
		c.idleSince = c.server.now()
		c.closeIfDrained()
	}
}
