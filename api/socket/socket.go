// Package socket passes listening sockets from process to process, so that one
// takes the place of another and no connection is refused in between.
//
// A process that serves makes an [Offer] at a path. Its successor connects there
// ([Take]), gets the sockets, makes itself ready, and says so ([Taken.Done]).
// Until then nothing has changed for the one that serves: a successor that does
// not come up is forgotten. From then on both accept, and the predecessor is to
// stop. What waits in the queue of a socket waits for whoever accepts next; it is
// the system's, and stays while one of the processes has the socket open.
//
// Whoever starts processes also starts the successor: with its program,
// environment and limits, and it sees the predecessor end. That is why the
// predecessor does not start it itself.
package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What the two say to each other.
const (
	serving = "serving\n" // the successor
	leaving = "leaving\n" // the predecessor: the path is free
)

// maxNames bounds what the predecessor says of the sockets, and maxSockets how
// many they are.
const (
	maxNames   = 4096
	maxSockets = 16
)

// ErrNobody is returned when nobody offers sockets.
var ErrNobody = errors.New("nobody offers sockets")

// ErrInUse is returned for a path at which another process offers its own.
var ErrInUse = errors.New("another process offers its sockets there")

// Taken are sockets of a predecessor that still serves them.
type Taken struct {
	// Listeners are the sockets by name. They are the caller's to close.
	Listeners map[string]net.Listener

	conn *net.UnixConn
}

// Take gets the sockets that are offered at a path. The context bounds the wait
// for them. Error: ErrNobody.
func Take(ctx context.Context, path string) (*Taken, error) {
	dialed, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%s: %w", path, ErrNobody)
	case err != nil:
		return nil, fmt.Errorf("take sockets over: %w", err)
	}
	conn := dialed.(*net.UnixConn) // the network is unix
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	listeners, err := receive(conn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take sockets over: %w", err), conn.Close())
	}
	return &Taken{Listeners: listeners, conn: conn}, nil
}

func receive(conn *net.UnixConn) (map[string]net.Listener, error) {
	names, rights := make([]byte, maxNames), make([]byte, syscall.CmsgSpace(4*maxSockets))
	n, rightsLen, _, _, err := conn.ReadMsgUnix(names, rights)
	if err != nil {
		return nil, err
	}
	fds, err := parseRights(rights[:rightsLen])
	if err != nil {
		return nil, err
	}
	var named []string
	if err := json.Unmarshal(names[:n], &named); err != nil || len(named) != len(fds) {
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
		return nil, errors.Join(fmt.Errorf("%d sockets are called %q", len(fds), names[:n]), err)
	}
	return listenersOf(named, fds)
}

func parseRights(rights []byte) ([]int, error) {
	messages, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, message := range messages {
		fds, err := syscall.ParseUnixRights(&message)
		if err != nil {
			return nil, err
		}
		all = append(all, fds...)
	}
	return all, nil
}

// listenersOf makes listeners of sockets, which it closes: a listener has its
// own. After an error there is none.
func listenersOf(names []string, fds []int) (map[string]net.Listener, error) {
	listeners := make(map[string]net.Listener, len(fds))
	var failed error
	for i, fd := range fds {
		syscall.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), names[i])
		listener, err := net.FileListener(file)
		if err = errors.Join(err, file.Close()); err != nil {
			failed = errors.Join(failed, fmt.Errorf("socket %q: %w", names[i], err))
			continue
		}
		listeners[names[i]] = listener
	}
	if failed != nil {
		for _, listener := range listeners {
			_ = listener.Close()
		}
		return nil, failed
	}
	return listeners, nil
}

// Done tells the predecessor that this process serves, and returns when the path
// is free for an Offer of its own; the context bounds the wait.
func (t *Taken) Done(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = t.conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err := t.conn.Write([]byte(serving)); err != nil {
		return fmt.Errorf("take sockets over: %w", err)
	}
	answer := make([]byte, len(leaving))
	if n, err := t.conn.Read(answer); err != nil || string(answer[:n]) != leaving {
		return errors.Join(errors.New("take sockets over: the predecessor does not leave"), err)
	}
	return t.conn.Close()
}

// Close lets the predecessor go on as if nothing had been. After Done it does
// nothing.
func (t *Taken) Close() error {
	if err := t.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Activated returns the listening sockets that systemd started this process with,
// by the names that its units give them (FileDescriptorName=). None is no error.
// It is to be called once.
func Activated() (map[string]net.Listener, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil { // they are for no child
			return nil, err
		}
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxSockets {
		return nil, fmt.Errorf("socket activation: LISTEN_FDS is %q", count)
	}
	if n == 0 {
		return nil, nil
	}
	named := strings.Split(names, ":")
	if len(named) != n {
		return nil, fmt.Errorf("socket activation: %d sockets are called %q", n, names)
	}
	fds := make([]int, n)
	for i := range fds {
		fds[i] = firstActivated + i
	}
	listeners, err := listenersOf(named, fds)
	if err == nil && len(listeners) != n {
		err = fmt.Errorf("socket activation: two sockets have one name: %q", names)
	}
	if err != nil {
		return nil, fmt.Errorf("socket activation: %w", err)
	}
	return listeners, nil
}

// firstActivated is the first socket that systemd passes.
const firstActivated = 3
