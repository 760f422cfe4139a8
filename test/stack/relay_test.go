package stack

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// joined returns the two ends of a relayed connection, in a bubble.
func joined(t *testing.T) (r *Relay, client, server net.Conn) {
	t.Helper()
	client, near := net.Pipe()
	far, server := net.Pipe()
	r = newRelay("")
	r.join(near, far, nil)
	t.Cleanup(r.close)
	return r, client, server
}

// send writes without waiting for anybody to read.
func send(conn net.Conn, text string) {
	go func() { _, _ = io.WriteString(conn, text) }()
	synctest.Wait()
}

// wantAt reads a text, and checks how long after begin it arrives.
func wantAt(t *testing.T, conn net.Conn, begin time.Time, text string, after time.Duration) {
	t.Helper()
	data := make([]byte, len(text))
	if _, err := io.ReadFull(conn, data); err != nil || string(data) != text {
		t.Fatalf("got %q, %v; want %q", data, err, text)
	}
	if late := time.Since(begin); late != after {
		t.Errorf("%q came after %v, want %v", text, late, after)
	}
}

func TestRelayDelaysEachWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, client, server := joined(t)
		begin := time.Now()
		send(client, "at once")
		wantAt(t, server, begin, "at once", 0)

		r.Delay(500*time.Millisecond, 2*time.Second)
		send(client, "one")
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // the bubble's time
		send(client, "two")
		wantAt(t, server, begin, "one", 500*time.Millisecond)
		send(server, "reply")
		wantAt(t, server, begin, "two", 600*time.Millisecond)
		wantAt(t, client, begin, "reply", 2500*time.Millisecond)
	})
}

func TestRelayKeepsTheOrderWhenADelayBecomesShorter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, client, server := joined(t)
		begin := time.Now()
		r.Delay(time.Second, 0)
		send(client, "slow")
		r.Delay(0, 0)
		send(client, "fast")
		wantAt(t, server, begin, "slow", time.Second)
		wantAt(t, server, begin, "fast", time.Second)
	})
}

func TestRelayLosesRepliesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, client, server := joined(t)
		r.SwallowReplies(true)
		send(client, "request")
		wantAt(t, server, time.Now(), "request", 0)
		send(server, "reply")
		if lost := r.Swallowed(); lost != int64(len("reply")) {
			t.Errorf("%d bytes of replies were lost", lost)
		}
		r.SwallowReplies(false)
		if n, err := client.Read(make([]byte, 10)); err == nil {
			t.Errorf("a connection that lost bytes goes on, with %d", n)
		}
	})
}

// What was under way when the server closed its side still arrives.
func TestRelayDeliversBeforeItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, client, server := joined(t)
		r.Delay(0, time.Second)
		begin := time.Now()
		send(server, "last words")
		server.Close()
		wantAt(t, client, begin, "last words", time.Second)
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is open")
		}
	})
}

func TestRelayRefusesAsADeadServerDoes(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it returns at once
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := NewRelay(t, listener.Addr().String())
	dial := func() (net.Conn, error) {
		return net.Dial("tcp", r.Addr()) //nolint:noctx // it returns at once
	}
	client, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	r.Refuse()
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
	if refused, err := dial(); err == nil {
		refused.Close()
		t.Error("a new connection is accepted")
	}
	r.Accept(t)
	again, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
