package hbase

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// dialer makes the connections of one client. After the client was closed its
// search for regions may go on in the background: it ends when it finds one,
// and would leave that connection open. The dialer therefore cuts connections
// that are made after its close, a moment later.
//
// It returns the connections as they are, never wrapped: the client library
// writes a request as net.Buffers from several goroutines at once, which is one
// write for a *net.TCPConn and several, that mix, for anything else.
type dialer struct {
	mu          sync.Mutex // guards the following
	connections []net.Conn
	closed      bool
}

// lastWords is how long a connection lives that is made after the close.
const lastWords = time.Second

func newDialer() *dialer { return &dialer{} }

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var plain net.Dialer
	connection, err := plain.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		time.AfterFunc(lastWords, func() { _ = connection.Close() })
		return connection, nil
	}
	d.connections = append(slices.DeleteFunc(d.connections, isClosed), connection)
	return connection, nil
}

func isClosed(connection net.Conn) bool {
	c, ok := connection.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	return err != nil || raw.Control(func(uintptr) {}) != nil
}

// close ends the connections.
func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, connection := range d.connections {
		_ = connection.Close()
	}
	d.connections = nil
}

// dialAny returns nil when one of the addresses takes a connection.
func dialAny(ctx context.Context, addresses []string) error {
	var failures []error
	for _, address := range addresses {
		var plain net.Dialer
		connection, err := plain.DialContext(ctx, "tcp", address)
		if err == nil {
			return connection.Close()
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}
