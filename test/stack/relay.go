package stack

import (
	"net"
	"sync"
	"testing"
)

// Relay is a TCP relay before a server, which loses what a test wants lost. A
// server that tells clients its own address, as Kafka does, must be told the
// relay's.
type Relay struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu        sync.Mutex // guards the following
	open      map[net.Conn]bool
	swallow   bool
	swallowed int64
	closed    bool
}

// NewRelay returns a relay to target, on a port of its own, until the test ends.
func NewRelay(t testing.TB, target string) *Relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it returns at once
	if err != nil {
		t.Fatal(err)
	}
	return NewRelayOn(t, listener, target)
}

// NewRelayOn returns a relay from a listener to target until the test ends.
func NewRelayOn(t testing.TB, listener net.Listener, target string) *Relay {
	r := &Relay{listener: listener, target: target, open: map[net.Conn]bool{}}
	r.running.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

// Addr returns where the relay listens.
func (r *Relay) Addr() string { return r.listener.Addr().String() }

// SwallowReplies has everything lost that the server sends from now on, or, with
// false, what it sends on new connections go through again: the ones that there
// are never get their lost bytes back, and are cut.
func (r *Relay) SwallowReplies(swallow bool) {
	r.mu.Lock()
	r.swallow = swallow
	r.mu.Unlock()
	if !swallow {
		r.Cut()
	}
}

// Swallowed returns how many bytes of replies were lost.
func (r *Relay) Swallowed() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.swallowed
}

// Cut closes every connection that there is.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.open {
		conn.Close()
	}
}

func (r *Relay) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.listener.Close()
	r.Cut()
	r.running.Wait()
}

func (r *Relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.target) //nolint:noctx // a refused connection returns at once
		if err != nil {
			client.Close()
			continue
		}
		if !r.keep(client, server) {
			return
		}
		r.running.Go(func() { r.copy(server, client, false) })
		r.running.Go(func() { r.copy(client, server, true) })
	}
}

func (r *Relay) keep(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range conns {
		if r.closed {
			conn.Close()
			continue
		}
		r.open[conn] = true
	}
	return !r.closed
}

// copy passes on what comes from a connection until either side ends.
func (r *Relay) copy(to, from net.Conn, replies bool) {
	defer func() {
		to.Close()
		from.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, from)
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && (!replies || !r.lose(n)) {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *Relay) lose(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.swallow {
		r.swallowed += int64(n)
	}
	return r.swallow
}
