package h2

import (
	"crypto/tls"
	"errors"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// bufferSize is what a connection reads through: a small request fits.
	bufferSize = 1 << 10
	// connectionWindow is what a client may send before it hears of more.
	connectionWindow = 1 << 20
	// maxControl bounds the frames that answer the client's own, but for those
	// that one read of the connection brings about.
	maxControl = 16 << 10
	// maxHeld is from where on no further answer is encoded for a client that
	// has not taken those before.
	maxHeld = 2 << 20
	// maxBuffered bounds the bodies that a connection has sent parts of.
	maxBuffered = 8 << 20
	// maxCosts is how many frames in a second may only make work.
	maxCosts = 1000
	// lingerTime is how long a client may take to read what was last said to
	// it.
	lingerTime = time.Second
)

// conn is one connection. Its goroutine reads; at most one more, of the
// server's pool, writes.
type conn struct {
	server *Server
	net    net.Conn
	remote string
	secure bool // TLS
	weak   bool // TLS in a way that HTTP/2 does not allow

	// Of the reader alone.
	in       [bufferSize]byte
	from, to int // what of in is not taken yet
	left     int // of the payload of the frame that is being read
	decoder  *hpack.Decoder
	block    block
	recvLeft int32 // window for what comes
	returned int32 // bytes taken that recvLeft was not given back
	now      int64 // of the last read, on the server's clock
	costs    int   // frames that only make work, since costsAt
	costsAt  int64

	due    atomic.Int64 // when the sweep looks at it again, on the server's clock
	readAt atomic.Int64 // when something came last

	mu          sync.Mutex
	streams     map[uint32]*Stream
	queue       []*Stream // with something to write
	control     []byte    // frames to be written before
	phase       phase
	lastID      uint32 // of the newest stream
	incomplete  int    // streams whose body has not come
	handlers    int    // goroutines that work for it, of streams that ended too
	buffered    int    // bytes of bodies that wait for their rest
	held        int    // bytes of answers that wait for a window
	peerWindow  int32  // what each stream starts with
	peerFrame   int    // the largest payload that the peer takes
	sendLeft    int32  // window for what is sent
	writing     bool   // a goroutine of the pool is lent to it
	tableSaid   bool   // the first header block was sent
	cut         bool   // the write deadline is set
	shut        bool   // nothing more will be written
	corked      bool   // the reader will wake the writer
	last        bool   // it is to be drained once it is served
	writeSince  int64  // when the write that runs began; 0: none does
	blockSince  int64  // when the header block began whose end has not come
	pingedAt    int64  // when a PING was sent that nothing has followed; 0: none
	idleSince   int64
	endAt       int64 // when it is closed at the latest; 0: not said
	announcedAt int64 // when GOAWAY was first sent; 0: it was not
}

// phase is how far a connection has come.
type phase uint8

const (
	greeting phase = iota // what it speaks is not known yet
	serving
	draining // GOAWAY was announced; new streams are still served
	leaving  // no new streams are served
	closing  // it is closed when what is queued was written
	closed
)

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{
		server: s, net: nc, remote: nc.RemoteAddr().String(),
		peerWindow: defaultWindow, sendLeft: defaultWindow, peerFrame: maxFrame,
		recvLeft: connectionWindow,
	}
	c.now = s.now()
	c.readAt.Store(c.now)
	c.idleSince = c.now
	c.due.Store(c.now + int64(s.opts.HeaderTimeout))
	return c
}

// begin says what a server says first, and readies the reader.
func (c *conn) begin() {
	opts := &c.server.opts
	c.decoder = hpack.NewDecoder(4096, c.onField)
	c.decoder.SetMaxStringLength(opts.MaxHeaderBytes)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != greeting {
		return
	}
	c.phase = serving
	c.streams = make(map[uint32]*Stream)
	c.control = appendSettings(c.control,
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(opts.MaxStreams)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(opts.MaxHeaderBytes)},
	)
	c.control = appendWindowUpdate(c.control, 0, connectionWindow-defaultWindow)
	c.corked = true
	c.soon(c.now + int64(opts.PingAfter))
	if c.last {
		c.endAt = 0
		c.announce()
	}
}

// serve reads until the connection ends, and then ends its streams. It runs on
// the connection's own goroutine.
func (c *conn) serve() {
	c.begin()
	err := error(http2.ConnectionError(http2.ErrCodeInadequateSecurity))
	if !c.weak {
		err = c.read()
	}
	if code, ok := errors.AsType[http2.ConnectionError](err); ok {
		c.say(http2.ErrCode(code))
		c.endStreams()
		c.linger()
	}
	_ = c.net.Close()
	c.mu.Lock()
	c.phase = closed
	c.mu.Unlock()
	c.endStreams()
	c.server.forget(c)
}

// say queues the last GOAWAY.
func (c *conn) say(code http2.ErrCode) {
	c.mu.Lock()
	if c.phase < closing {
		c.control = appendGoAway(c.control, c.lastID, code)
		c.phase = closing
	}
	wake := c.wake()
	c.mu.Unlock()
	if wake {
		c.server.pool.start(c)
	}
}

// linger takes in and forgets what still comes: closing a socket with bytes
// unread would have the client's system throw away what was last said.
func (c *conn) linger() {
	_ = c.net.SetReadDeadline(time.Now().Add(lingerTime))
	for taken := 0; taken < 1<<20; {
		n, err := c.net.Read(c.in[:])
		if err != nil {
			return
		}
		taken += n
	}
}

// endStreams ends every stream that is left.
func (c *conn) endStreams() {
	c.mu.Lock()
	var ended []Exchange
	for _, s := range c.streams {
		if exchange := c.kill(s); exchange != nil {
			ended = append(ended, exchange)
		}
	}
	c.mu.Unlock()
	for _, exchange := range ended {
		exchange.End(ErrStreamEnded)
	}
}

// drain tells the client that the connection ends once what it has begun is
// done. What it sends before it can have heard of that is still served: the
// second GOAWAY, which draws the line, follows the answer to a PING. A client
// that has just connected gets a moment to say what it speaks, and is told then.
func (c *conn) drain() {
	c.mu.Lock()
	switch c.phase {
	case greeting:
		c.last = true
		c.endAt = c.server.now() + int64(lingerTime)
		c.soon(c.endAt)
	case serving:
		c.announce()
	default: // it ends already
	}
	wake := c.wake()
	c.mu.Unlock()
	if wake {
		c.server.pool.start(c)
	}
}

// announce says that the connection is going to end. It is called with the lock.
func (c *conn) announce() {
	c.phase = draining
	c.announcedAt = c.server.now()
	c.control = appendGoAway(c.control, maxWindow, http2.ErrCodeNo)
	c.control = appendPing(c.control, 0, drainPing[:])
	c.soon(c.announcedAt + int64(lingerTime))
}

// drainPing tells the PING of a drain from others.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// leave draws the line. It is called with the lock.
func (c *conn) leave() {
	if c.phase != draining {
		return
	}
	c.phase = leaving
	c.control = appendGoAway(c.control, c.lastID, http2.ErrCodeNo)
	c.closeIfDrained()
}

// closeIfDrained ends a connection that nothing is left to do on. It is called
// with the lock.
func (c *conn) closeIfDrained() {
	if c.phase == leaving && len(c.streams) == 0 {
		c.phase = closing // and closed once the writer is through
	}
}

// reset ends a stream, whose client is told why.
func (c *conn) reset(id uint32, code http2.ErrCode) {
	c.mu.Lock()
	var exchange Exchange
	if s := c.streams[id]; s != nil {
		exchange = c.kill(s)
	}
	c.control = appendReset(c.control, id, code)
	c.corked = true
	c.mu.Unlock()
	if exchange != nil {
		exchange.End(ErrStreamEnded)
	}
}

// soon has the sweep look at the connection no later than at.
func (c *conn) soon(at int64) {
	for {
		due := c.due.Load()
		if due <= at || c.due.CompareAndSwap(due, at) {
			return
		}
	}
}

// cutOff closes the connection without a farewell of TLS, which could block.
func (c *conn) cutOff() {
	if secure, ok := c.net.(*tls.Conn); ok {
		_ = secure.NetConn().Close()
		return
	}
	_ = c.net.Close()
}

// tick does what is due and returns when it wants to be looked at again. It
// runs on the server's sweep.
func (c *conn) tick(now int64) {
	o := &c.server.opts
	c.due.Store(math.MaxInt64) // until soon says otherwise
	next := now + int64(o.PingAfter)
	// passed reports whether a time since then is over, and has the sweep come
	// back at its end.
	passed := func(since int64, timeout time.Duration) bool {
		at := since + int64(timeout)
		if at > now {
			next = min(next, at)
		}
		return at <= now
	}
	var slow []*Stream
	c.mu.Lock()
	if c.phase == greeting && passed(c.idleSince, o.HeaderTimeout) ||
		c.blockSince != 0 && passed(c.blockSince, o.HeaderTimeout) ||
		c.endAt != 0 && passed(c.endAt, 0) {
		c.cutOff()
	}
	if c.writeSince != 0 && passed(c.writeSince, o.WriteTimeout) && !c.cut {
		// The write returns; whether it got anywhere decides what follows.
		c.cut = true
		_ = c.net.SetWriteDeadline(time.Now())
	}
	if c.phase != greeting {
		c.tickPing(now, passed)
	}
	if c.phase == serving && len(c.streams) == 0 && !c.writing && passed(c.idleSince, o.IdleTimeout) {
		c.phase = leaving
		c.control = appendGoAway(c.control, c.lastID, http2.ErrCodeNo)
		c.closeIfDrained()
	}
	if c.phase == draining && passed(c.announcedAt, lingerTime) {
		c.leave()
	}
	if c.incomplete > 0 {
		for _, s := range c.streams {
			if !s.bodyDone && !s.slow && passed(s.started, o.BodyTimeout) {
				s.slow = true
				slow = append(slow, s)
			}
		}
	}
	ended := c.notTaken(passed)
	wake := c.wake()
	c.mu.Unlock()
	c.soon(next)
	for _, exchange := range ended {
		exchange.End(ErrStreamEnded)
	}
	for _, s := range slow {
		c.tooSlow(s)
	}
	if wake {
		c.server.pool.start(c)
	}
}

// notTaken gives up the answers whose client has opened no window for long. It is
// called with the lock; the caller must call End of what it returns.
func (c *conn) notTaken(passed func(int64, time.Duration) bool) (ended []Exchange) {
	if c.held == 0 {
		return nil
	}
	for _, s := range c.streams {
		if s.parkedAt == 0 || !passed(s.parkedAt, c.server.opts.IdleTimeout) {
			continue
		}
		if exchange := c.kill(s); exchange != nil {
			ended = append(ended, exchange)
		}
		c.control = appendReset(c.control, s.id, http2.ErrCodeCancel)
	}
	return ended
}

// tickPing asks a connection that is silent whether it is there.
func (c *conn) tickPing(now int64, passed func(int64, time.Duration) bool) {
	o := &c.server.opts
	readAt := c.readAt.Load()
	if c.pingedAt != 0 && readAt >= c.pingedAt {
		c.pingedAt = 0
	}
	switch {
	case c.pingedAt != 0:
		if passed(c.pingedAt, o.PingTimeout) {
			c.cutOff()
		}
	case passed(readAt, o.PingAfter):
		c.pingedAt = now
		c.control = appendPing(c.control, 0, make([]byte, 8))
		passed(now, o.PingTimeout)
	}
}

// tooSlow ends the wait for a body. An answer that went before it ends with a
// reset, so that the client stops.
func (c *conn) tooSlow(s *Stream) {
	c.mu.Lock()
	switch {
	case s.dead || s.bodyDone:
	case s.answered:
		c.remove(s)
		c.control = appendReset(c.control, s.id, http2.ErrCodeNo)
		if c.wake() {
			defer c.server.pool.start(c)
		}
	case s.arrived != nil:
		s.arrived.Broadcast()
	case s.mayServe():
		// Serve may do more than the sweep has time for.
		s.busy = true
		c.server.pool.start(taskFunc(func() {
			c.mu.Lock()
			s.busy = false
			if s.dead || !s.mayServe() {
				c.proceed(s)
				return
			}
			c.deliver(s, nil)
		}))
	}
	c.mu.Unlock()
}
