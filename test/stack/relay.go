package stack

import (
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Relay is a TCP relay before a server, which delays and loses what a test
// wants late and lost. A server that tells clients its own address, as Kafka and
// HBase do, must be told the relay's; Stack.Relay sees to it. Its methods may be
// used by several goroutines, and take effect on connections that there are.
type Relay struct {
	address, target string
	running         sync.WaitGroup
	closing         chan struct{}

	mu                sync.Mutex   // guards the following
	listener          net.Listener // nil: it refuses connections
	open              map[net.Conn]bool
	requests, replies time.Duration
	swallow           bool
	swallowed         int64
}

// NewRelay returns a relay to target, on a port of its own, until the test ends.
func NewRelay(t testing.TB, target string) *Relay {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return newRelayAt(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), target)
}

func newRelayAt(t testing.TB, address, target string) *Relay {
	t.Helper()
	listener, err := net.Listen("tcp", address) //nolint:noctx // it returns at once
	if err != nil {
		t.Fatal(err)
	}
	return NewRelayOn(t, listener, target)
}

// NewRelayOn returns a relay from a listener to target until the test ends.
func NewRelayOn(t testing.TB, listener net.Listener, target string) *Relay {
	r := newRelay(target)
	r.address = listener.Addr().String()
	r.serve(listener)
	t.Cleanup(r.close)
	return r
}

func newRelay(target string) *Relay {
	return &Relay{target: target, closing: make(chan struct{}), open: map[net.Conn]bool{}}
}

// Relay puts a relay before a service, which must not be up yet, until the test
// ends. Clients of Redis and Kafka use the relay's address. Those of HBase use
// Addr as ever, its ZooKeeper, which sends them to the relay.
func (s *Stack) Relay(t testing.TB, service string) *Relay {
	t.Helper()
	switch service {
	case Redis:
		return NewRelay(t, s.Addr(Redis))
	case Kafka:
		r := NewRelay(t, s.Addr(Kafka))
		s.Set("KAFKA_PROPERTIES", "advertised.listeners=PLAINTEXT://"+r.Addr())
		return r
	case HBase:
		// Its region server says that it is on this port of localhost. It listens
		// on the same port of another loopback address.
		const apart = "127.0.0.2"
		port := strconv.Itoa(s.Port("HBASE_REGIONSERVER_PORT"))
		s.Set("HBASE_REGIONSERVER_BIND", apart)
		return newRelayAt(t, net.JoinHostPort("127.0.0.1", port), net.JoinHostPort(apart, port))
	}
	t.Fatalf("no relay is known for %s", service)
	return nil
}

// Addr returns where the relay listens.
func (r *Relay) Addr() string { return r.address }

// Delay has everything come later by so much, requests on their way to the
// server and replies on their way back. Each byte is late by the same time, and
// none overtakes another: what is under way when a delay becomes shorter
// arrives when it would have, and what follows not before it.
func (r *Relay) Delay(requests, replies time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.replies = requests, replies
}

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

// Refuse cuts every connection and refuses new ones, as the system does for a
// server that is gone.
func (r *Relay) Refuse() {
	r.mu.Lock()
	if r.listener != nil {
		r.listener.Close()
		r.listener = nil
	}
	r.mu.Unlock()
	r.Cut()
}

// Accept ends what Refuse began.
func (r *Relay) Accept(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	accepts := r.listener != nil
	r.mu.Unlock()
	if accepts {
		return
	}
	listener, err := net.Listen("tcp", r.address) //nolint:noctx // it returns at once
	if err != nil {
		t.Fatal(err)
	}
	r.serve(listener)
}

func (r *Relay) close() {
	close(r.closing)
	r.Refuse()
	r.running.Wait()
}

func (r *Relay) serve(listener net.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener = listener
	r.running.Go(func() { r.accept(listener) })
}

func (r *Relay) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.target) //nolint:noctx // a refused connection returns at once
		if err != nil {
			client.Close()
			continue
		}
		r.join(client, server, listener)
	}
}

// join relays between two connections, unless the relay has refused connections
// since the listener accepted one of them.
func (r *Relay) join(client, server net.Conn, accepted net.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != accepted {
		client.Close()
		server.Close()
		return
	}
	r.open[client], r.open[server] = true, true
	r.running.Go(func() { r.pass(server, client, false) })
	r.running.Go(func() { r.pass(client, server, true) })
}

// chunk is what was read at once, and when it is to arrive.
type chunk struct {
	data []byte
	due  time.Time
}

// underWay is how many chunks may be between the two ends; then the sender
// waits, as on a connection whose receiver is slow.
const underWay = 1024

// pass takes what comes from one connection to the other until either ends.
func (r *Relay) pass(to, from net.Conn, replies bool) {
	chunks := make(chan chunk, underWay)
	r.running.Go(func() { r.deliver(to, from, chunks) })
	defer close(chunks)
	buffer := make([]byte, 64<<10)
	for last := (time.Time{}); ; {
		n, err := from.Read(buffer)
		if delay, lost := r.fate(n, replies); n > 0 && !lost {
			if due := time.Now().Add(delay); due.After(last) {
				last = due
			}
			chunks <- chunk{data: append([]byte(nil), buffer[:n]...), due: last}
		}
		if err != nil {
			return
		}
	}
}

// fate says what becomes of n bytes that were just read.
func (r *Relay) fate(n int, replies bool) (delay time.Duration, lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !replies {
		return r.requests, false
	}
	if r.swallow {
		r.swallowed += int64(n)
	}
	return r.replies, r.swallow
}

// deliver writes each chunk when it is due, and closes both connections when no
// more will come or it cannot write.
func (r *Relay) deliver(to, from net.Conn, chunks <-chan chunk) {
	for c := range chunks {
		if !r.until(c.due) {
			break
		}
		if _, err := to.Write(c.data); err != nil {
			break
		}
	}
	to.Close()
	from.Close()
	r.mu.Lock()
	delete(r.open, from)
	r.mu.Unlock()
	for range chunks { // The reader may be waiting for room; its connection is closed.
	}
}

// until waits, and reports false when the relay is closed meanwhile.
func (r *Relay) until(due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.closing:
		return false
	}
}
