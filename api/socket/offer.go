package socket

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Offer gives the listening sockets of this process to one that takes its place.
// Its methods are safe for concurrent use.
type Offer struct {
	listener *net.UnixListener
	names    []string
	sockets  []syscall.RawConn
	patience time.Duration
	taken    chan struct{}
	served   sync.WaitGroup

	mu     sync.Mutex // guards the following
	asker  net.Conn   // who was given the sockets last
	closed bool
}

// NewOffer offers sockets at a path, to processes of this user. They must stay
// open until the Offer is closed, which the caller must do. patience is how long a
// successor that has them may take until it serves: one that hangs must not keep
// others out. Error: ErrInUse.
func NewOffer(path string, sockets map[string]net.Listener, patience time.Duration) (*Offer, error) {
	o := &Offer{names: slices.Sorted(maps.Keys(sockets)), patience: patience, taken: make(chan struct{})}
	for _, name := range o.names {
		socket, ok := sockets[name].(syscall.Conn)
		if !ok {
			return nil, fmt.Errorf("offer sockets: %q is a %T", name, sockets[name])
		}
		raw, err := socket.SyscallConn()
		if err != nil {
			return nil, fmt.Errorf("offer sockets: %w", err)
		}
		o.sockets = append(o.sockets, raw)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("offer sockets: %w", err)
	}
	var err error
	if o.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
		return nil, fmt.Errorf("offer sockets: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("offer sockets: %w", err), o.listener.Close())
	}
	o.served.Go(o.serve)
	return o, nil
}

// removeStale removes what a process left behind that was killed.
func removeStale(path string) error {
	conn, err := net.Dial("unix", path) //nolint:noctx // it returns at once
	if err == nil {
		return errors.Join(fmt.Errorf("%s: %w", path, ErrInUse), conn.Close())
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return os.Remove(path)
	}
	return nil
}

// Taken is closed when a successor serves.
func (o *Offer) Taken() <-chan struct{} { return o.taken }

// serve deals with one successor after the other, until one serves.
func (o *Offer) serve() {
	for {
		conn, err := o.listener.AcceptUnix()
		if err != nil {
			return // it is closed
		}
		if o.hold(conn) && o.give(conn) == nil && o.serves(conn) {
			_ = o.listener.Close() // and the path is free
			close(o.taken)
			_, _ = conn.Write([]byte(leaving))
			_ = conn.Close()
			return
		}
		_ = conn.Close()
	}
}

// hold has Close end a connection, too.
func (o *Offer) hold(conn net.Conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asker = conn
	return !o.closed
}

// give sends the sockets over a connection. They stay this process's, too.
func (o *Offer) give(conn *net.UnixConn) error {
	names, err := json.Marshal(o.names)
	if err != nil {
		return err
	}
	return send(conn, names, nil, o.sockets)
}

// send collects the descriptors of the sockets that are left, one inside the
// other's callback: none may be closed before all were sent.
func send(conn *net.UnixConn, names []byte, fds []int, left []syscall.RawConn) error {
	if len(left) == 0 {
		_, _, err := conn.WriteMsgUnix(names, syscall.UnixRights(fds...), nil)
		return err
	}
	var failed error
	err := left[0].Control(func(fd uintptr) { failed = send(conn, names, append(fds, int(fd)), left[1:]) })
	return errors.Join(err, failed)
}

// serves waits for what the successor says.
func (o *Offer) serves(conn net.Conn) bool {
	if conn.SetReadDeadline(time.Now().Add(o.patience)) != nil {
		return false
	}
	word := make([]byte, len(serving))
	n, err := conn.Read(word)
	return err == nil && string(word[:n]) == serving
}

// Close ends the offer. A successor that has the sockets and does not serve yet
// has to go without.
func (o *Offer) Close() error {
	o.mu.Lock()
	o.closed = true
	if o.asker != nil {
		_ = o.asker.Close()
	}
	o.mu.Unlock()
	err := o.listener.Close()
	o.served.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
