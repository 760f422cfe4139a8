package redis

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// dialer makes connections, and ends dials and connections when it is closed,
// so that no goroutine of the client waits for one after that.
//
// Where a dial fails it returns a connection whose every use fails. go-redis
// counts failed dials: after as many as its pool is large it answers from
// memory, and redials in a goroutine of its own that outlives Close. Leaving a
// dead server alone is the breaker's business.
type dialer struct {
	tls  *tls.Config
	life context.Context
	end  context.CancelFunc

	mu    sync.Mutex // guards the following
	conns map[*trackedConn]struct{}
}

func newDialer(config *tls.Config) *dialer {
	life, end := context.WithCancel(context.Background())
	return &dialer{tls: config, life: life, end: end, conns: map[*trackedConn]struct{}{}}
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(d.life, cancel) //nolint:contextcheck // it joins two: the call's and the cache's
	defer stop()
	var conn net.Conn
	var err error
	if d.tls == nil {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
	} else {
		conn, err = (&tls.Dialer{Config: d.tls}).DialContext(ctx, network, address)
	}
	if err != nil {
		return failedConn{err}, nil
	}
	return d.track(address, conn), nil
}

func (d *dialer) track(address string, conn net.Conn) net.Conn {
	tracked := &trackedConn{Conn: conn, dialer: d, address: address}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.life.Err() != nil {
		conn.Close()
		return failedConn{net.ErrClosed}
	}
	d.conns[tracked] = struct{}{}
	return tracked
}

// hangUp closes the connections to a server that stopped answering, so that
// the calls that find it back do not try them one after the other.
func (d *dialer) hangUp(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for tracked := range d.conns {
		if tracked.address == address {
			tracked.hangUp()
		}
	}
}

func (d *dialer) close() {
	d.end()
	d.mu.Lock()
	defer d.mu.Unlock()
	for tracked := range d.conns {
		tracked.hangUp()
	}
}

// trackedConn is a connection that its dialer may close before its user does.
type trackedConn struct {
	net.Conn
	dialer  *dialer
	address string
	closed  atomic.Bool
}

var _ syscall.Conn = (*trackedConn)(nil)

func (c *trackedConn) hangUp() {
	c.closed.Store(true)
	c.Conn.Close()
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.conns, c)
	c.dialer.mu.Unlock()
	if c.closed.Swap(true) {
		return nil
	}
	return c.Conn.Close()
}

// SyscallConn implements syscall.Conn. go-redis peeks at the socket of an idle
// connection to see whether the server has closed it. With TLS it cannot be
// seen there: a connection is held to be alive unless it was closed here.
func (c *trackedConn) SyscallConn() (syscall.RawConn, error) {
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	if conn, ok := c.Conn.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return opaqueConn{}, nil
}

// opaqueConn is a socket that nobody may look into.
type opaqueConn struct{}

// Control and the other methods implement syscall.RawConn.
func (opaqueConn) Control(func(uintptr)) error { return nil }

func (opaqueConn) Read(func(uintptr) bool) error  { return nil }
func (opaqueConn) Write(func(uintptr) bool) error { return nil }

// failedConn is what became of a dial that failed.
type failedConn struct{ err error }

var _ net.Conn = failedConn{}

// Read and the other methods implement net.Conn.
func (c failedConn) Read([]byte) (int, error) { return 0, c.err }

func (c failedConn) Write([]byte) (int, error)        { return 0, c.err }
func (c failedConn) Close() error                     { return nil }
func (c failedConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c failedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c failedConn) SetDeadline(time.Time) error      { return nil }
func (c failedConn) SetReadDeadline(time.Time) error  { return nil }
func (c failedConn) SetWriteDeadline(time.Time) error { return nil }
