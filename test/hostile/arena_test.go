package hostile

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tegami-im/tegami/test/process"
)

// arena is a server and the attackers' connections to it.
type arena struct {
	t      *testing.T
	server *process.Server

	mu    sync.Mutex
	conns []net.Conn
}

// enter starts a server. At the end of the test it must stop as it should, and
// must not have complained.
func enter(t *testing.T) *arena {
	t.Helper()
	server := process.Start(t, process.Options{Binary: process.Build(t)})
	t.Cleanup(func() {
		server.Stop()
		for _, complaint := range server.Complaints() {
			t.Errorf("the server complained: %s", complaint)
		}
	})
	a := &arena{t: t, server: server}
	t.Cleanup(a.leave)
	return a
}

// leave closes every connection of the attackers.
func (a *arena) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, conn := range a.conns {
		conn.Close()
	}
	a.conns = nil
}

// dial opens a connection that leave closes. Its writes fail once the attack
// has lasted long enough. The server may refuse it.
func (a *arena) dial() (net.Conn, error) {
	dialer := net.Dialer{Timeout: attackTime}
	conn, err := dialer.DialContext(a.t.Context(), "tcp", a.server.Address)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns = append(a.conns, conn)
	return conn, conn.SetDeadline(time.Now().Add(attackTime))
}

// peer is an HTTP/2 connection on which a test sends what it likes.
type peer struct {
	net.Conn

	*http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
}

// http2 opens a connection and says what a client says first.
func (a *arena) http2(settings ...http2.Setting) (*peer, error) {
	conn, err := a.dial()
	if err != nil {
		return nil, err
	}
	p := &peer{Conn: conn, Framer: http2.NewFramer(conn, conn)}
	p.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	return p, p.WriteSettings(settings...)
}

// post is the header block of a request.
func (p *peer) post(procedure, token string, more ...hpack.HeaderField) []byte {
	p.block.Reset()
	for _, field := range append([]hpack.HeaderField{
		{Name: ":method", Value: http.MethodPost},
		{Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "tegami"},
		{Name: ":path", Value: "/tegami.v1." + procedure},
		{Name: "content-type", Value: "application/proto"},
		{Name: "authorization", Value: "Bearer " + token},
	}, more...) {
		_ = p.encoder.WriteField(field) // into a buffer
	}
	return p.block.Bytes()
}

// request sends a whole request.
func (p *peer) request(id uint32, procedure, token string, body []byte) error {
	err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.post(procedure, token), EndHeaders: true})
	if err != nil {
		return err
	}
	return p.WriteData(id, true, body)
}

// awaitPong reads what the server sends and tells whether an answer to a PING
// was among it, or the connection ended before.
func (p *peer) awaitPong() <-chan bool {
	answered := make(chan bool, 1)
	go func() {
		for {
			frame, err := p.ReadFrame()
			ping, ok := frame.(*http2.PingFrame)
			if err != nil || ok && ping.IsAck() {
				answered <- err == nil
				return
			}
		}
	}()
	return answered
}

// drain reads what the server sends, so that it is never the reader that is
// slow, until the connection ends.
func drain(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// metric reads one of the server's own figures.
func (a *arena) metric(name string) int {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, "http://"+a.server.Admin+"/metrics", http.NoBody)
	if err != nil {
		a.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				a.t.Fatal(err)
			}
			return int(number)
		}
	}
	a.t.Fatalf("the server has no metric %s", name)
	return 0
}

// await waits until a condition holds.
func (a *arena) await(what string, condition func() bool) {
	a.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(hangLimit)
	for !condition() {
		select {
		case <-limit:
			a.t.Fatalf("waited %v for %s", hangLimit, what)
		case <-tick.C:
		}
	}
}

// attackers runs so many attackers at once and waits for them.
func attackers(count int, attack func(number int)) {
	var wait sync.WaitGroup
	for number := range count {
		wait.Go(func() { attack(number) })
	}
	wait.Wait()
}

// everySecond calls do until it fails or the attack has lasted long enough.
func everySecond(do func() error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for end := time.Now().Add(attackTime); time.Now().Before(end) && do() == nil; {
		<-tick.C
	}
}
