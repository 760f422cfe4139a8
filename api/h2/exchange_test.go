package h2

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

func TestExchange(t *testing.T) {
	s := serveSite(t, nil)
	p := s.dial()

	t.Run("a body in several frames", func(t *testing.T) {
		p.t = t
		p.open(1, false, post("/echo", "content-length: 11")...)
		_ = p.WriteData(1, false, []byte("hello "))
		_ = p.WriteData(1, true, []byte("world"))
		if status, body := p.answer(1); status != "200" || body != "hello world" || p.fields["content-length"] != "11" || p.fields["date"] == "" {
			t.Errorf("status %s, %q, %v", status, body, p.fields)
		}
	})
	t.Run("a body in the same write as its header", func(t *testing.T) {
		p.t = t
		// The fields by their index: the whole fits the buffer.
		var out bytes.Buffer
		framer := http2.NewFramer(&out, nil)
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: p.headers(post("/echo")...), EndHeaders: true})
		_ = framer.WriteData(3, true, []byte("x"))
		_, _ = p.Write(out.Bytes())
		if _, body := p.answer(3); body != "x" {
			t.Errorf("got %q", body)
		}
	})
	t.Run("refused before its body", func(t *testing.T) {
		p.t = t
		p.open(5, false, post("/early", "content-length: 9999999")...)
		if status, _ := p.answer(5); status != "401" {
			t.Errorf("status %s", status)
		}
		if f, ok := p.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 5 || f.ErrCode != http2.ErrCodeNo {
			t.Errorf("the client may go on with its body: %v", f)
		}
	})
	t.Run("refused before its small body", func(t *testing.T) {
		p.t = t
		p.open(7, false, post("/early", "content-length: 3")...)
		if status, _ := p.answer(7); status != "401" {
			t.Errorf("status %s", status)
		}
		_ = p.WriteData(7, true, []byte("xyz")) // is no error
		p.open(9, true, post("/echo")...)
		_, _ = p.answer(9)
	})
	t.Run("a body that is too long", func(t *testing.T) {
		p.t = t
		p.open(11, false, post("/echo")...)
		for range 7 {
			_ = p.WriteData(11, false, make([]byte, 15_000))
		}
		if status, _ := p.answer(11); status != "413" {
			t.Errorf("status %s", status)
		}
		for range maxUnwanted/15_000 - 6 { // the client need not have seen it
			_ = p.WriteData(11, false, make([]byte, 15_000))
		}
		if f, ok := p.next().(*http2.RSTStreamFrame); !ok || f.ErrCode != http2.ErrCodeNo {
			t.Errorf("the client may go on with its body: %v", f)
		}
	})
	t.Run("an empty body of HEAD", func(t *testing.T) {
		p.t = t
		p.open(13, true, ":method: HEAD", ":scheme: http", ":path: /large")
		if status, body := p.answer(13); status != "200" || body != "" || p.fields["content-length"] != "300000" {
			t.Errorf("status %s, %d bytes, %v", status, len(body), p.fields)
		}
	})
	t.Run("one that waits holds nobody up", func(t *testing.T) {
		p.t = t
		p.open(15, false, post("/wait")...)
		_ = p.WriteData(15, true, []byte("waited"))
		p.open(17, true, post("/echo")...)
		_, _ = p.answer(17)
		s.letIn()
		if _, body := p.answer(15); body != "waited" {
			t.Errorf("got %q", body)
		}
	})
	t.Run("a large header", func(t *testing.T) {
		p.t = t
		p.open(19, true, post("/echo", "x: "+string(bytes.Repeat([]byte("y"), 20_000)), "z: "+string(bytes.Repeat([]byte("y"), 20_000)))...)
		if status, _ := p.answer(19); status != "431" {
			t.Errorf("status %s", status)
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	s := serveSite(t, nil)
	p := s.dial()
	for i := range uint32(11) {
		p.open(2*i+1, true, post("/held")...)
	}
	if f, ok := p.next().(*http2.RSTStreamFrame); !ok || f.StreamID != 21 || f.ErrCode != http2.ErrCodeRefusedStream {
		t.Errorf("the eleventh stream: %v", f)
	}
	s.probe(3).stream.Answer()
	if status, _ := p.answer(7); status != "200" {
		t.Errorf("status %s", status)
	}
	p.open(23, true, post("/echo")...)
	if status, _ := p.answer(23); status != "200" {
		t.Errorf("with room again: status %s", status)
	}
}

// A stream that its client gave up ends once no method runs, and not before.
func TestResetWhileItOpens(t *testing.T) {
	s := serveSite(t, nil)
	p := s.dial()
	p.open(1, true, post("/wait")...)
	probe := s.probe(0)
	_ = p.WriteRSTStream(1, http2.ErrCodeCancel)
	p.open(3, true, post("/echo")...)
	_, _ = p.answer(3)
	select {
	case <-probe.done:
		t.Error("End while Open runs")
	default:
	}
	s.letIn()
	<-probe.done
	if !errors.Is(probe.endErr, ErrStreamEnded) {
		t.Errorf("ended with %v", probe.endErr)
	}
	probe.stream.Answer() // and does nothing
}

// An answer waits for the windows of its client, and no longer.
func TestFlowControl(t *testing.T) {
	s := serveSite(t, nil)
	p := s.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	read := func(want int) {
		t.Helper()
		for got := 0; got < want; {
			f := p.next()
			if data, ok := f.(*http2.DataFrame); ok {
				got += len(data.Data())
				if got > want {
					t.Fatalf("%d bytes, and the window has %d", got, want)
				}
			} else if f == nil {
				t.Fatal("the connection ended")
			}
		}
	}
	p.open(1, true, post("/large")...)
	read(10)
	_ = p.WriteWindowUpdate(1, 7)
	read(7)
	_ = p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 110}) // a change by 100
	read(100)
	_ = p.WriteWindowUpdate(1, 1<<20)
	read(65_535 - 117) // the connection's
	p.open(3, false, post("/echo")...)
	_ = p.WriteData(3, true, []byte("x"))
	_ = p.WriteWindowUpdate(0, 1<<20)
	read(300_000 - 65_535 + 1)
}

// A client that takes nothing has a bounded amount of answers made for it.
func TestAnswersThatNobodyTakes(t *testing.T) {
	s := serveSite(t, func(o *Options) { o.MaxStreams = 200 })
	p := s.dial(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	const streams = 100 // of 300 kB each
	for i := range uint32(streams) {
		p.open(2*i+1, true, post("/large")...)
	}
	encoded := func() (n, held int) {
		s.Server.mu.Lock()
		defer s.Server.mu.Unlock()
		for c := range s.conns {
			c.mu.Lock()
			for _, stream := range c.streams {
				if stream.encoded {
					n++
				}
			}
			held = c.held
			c.mu.Unlock()
		}
		return n, held
	}
	s.probe(streams - 1)
	_ = p.WritePing(false, [8]byte{})
	for ping := false; !ping; {
		_, ping = p.next().(*http2.PingFrame)
	}
	if n, held := encoded(); n > 10 || held > maxHeld+1<<20 {
		t.Errorf("%d answers were made, of %d bytes", n, held)
	}
	_ = p.WriteWindowUpdate(0, 1<<30)
	for i := range uint32(streams) {
		_ = p.WriteWindowUpdate(2*i+1, 1<<20)
	}
	for ended := 0; ended < streams; {
		f := p.next()
		if data, ok := f.(*http2.DataFrame); ok && data.StreamEnded() {
			ended++
		} else if f == nil {
			t.Fatal("the connection ended")
		}
	}
	if _, held := encoded(); held != 0 {
		t.Errorf("%d bytes are held at the end", held)
	}
}

func TestBodyErrors(t *testing.T) {
	s := serveSite(t, nil)
	p := s.dial()
	p.open(1, false, post("/echo")...)
	probe := s.probe(0)
	_ = p.Close()
	<-probe.done
	if probe.body != nil || errors.Is(probe.bodyErr, os.ErrDeadlineExceeded) || !errors.Is(probe.endErr, ErrStreamEnded) {
		t.Errorf("body %q, %v; ended with %v", probe.body, probe.bodyErr, probe.endErr)
	}
}

// N held requests cost their connections' goroutines and a constant.
func TestHeldRequestsHaveNoGoroutines(t *testing.T) {
	const conns, streams, constant = 20, 50, 10
	s := serveSite(t, func(o *Options) { o.MaxStreams = streams })
	before := runtime.NumGoroutine()
	for range conns {
		p := s.dial()
		for i := range uint32(streams) {
			p.open(2*i+1, false, post("/held")...)
			_ = p.WriteData(2*i+1, true, []byte("x"))
		}
	}
	s.probe(conns*streams - 1)
	eventually(t, "one goroutine for each connection", func() bool {
		return runtime.NumGoroutine()-before <= conns+constant
	})
}

// Answers, resets and ends of connections at any moment: every exchange ends
// once, and no two of its methods run at a time, which the probes check.
func TestExchangesUnderChaos(t *testing.T) {
	s := serveSite(t, func(o *Options) { o.MaxStreams = 250 })
	const conns, streams = 8, 150
	var clients sync.WaitGroup
	for n := range conns {
		p := s.dial()
		go func() { // until the connection ends
			for {
				if _, err := p.ReadFrame(); err != nil {
					return
				}
			}
		}()
		clients.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(n)))
			for i := range uint32(streams) {
				id := 2*i + 1
				p.open(id, random.IntN(3) == 0, post([]string{"/held", "/echo", "/wait", "/early", "/large"}[random.IntN(5)], "n: "+strconv.Itoa(int(id)))...)
				_ = p.WriteData(id, random.IntN(2) == 0, make([]byte, random.IntN(2000)))
				if random.IntN(2) == 0 {
					_ = p.WriteRSTStream(uint32(random.IntN(int(i+1)))*2+1, http2.ErrCodeCancel)
				}
				if random.IntN(50) == 0 {
					s.letIn()
				}
			}
			if n%2 == 0 {
				_ = p.Close()
			}
		})
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for i := range conns * streams / 4 {
			s.mu.Lock()
			var stream *Stream
			if i < len(s.probes) && s.probes[i].path == "/held" {
				stream = s.probes[i].stream
			}
			s.mu.Unlock()
			if stream != nil {
				stream.Answer()
			}
			runtime.Gosched()
		}
	}()
	clients.Wait()
	<-answered
}

// The sweep finds a body slow in the moment in which its end is read: then it is
// late, or it is there, and never an empty one in its place.
func TestABodyThatComesAtTheLastMoment(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that the reader comes before what the sweep starts
	site := newSite(t, nil)
	defer site.Close()
	_, server := net.Pipe()
	c := newConn(site.Server, server)
	c.phase, c.streams = serving, map[uint32]*Stream{}
	s := &Stream{conn: c, id: 1, declared: -1, opened: true, slow: true}
	c.streams[s.id] = s
	c.incomplete++
	s.exchange = site.route(s, &Request{Path: "/held"})
	c.to = copy(c.in[:], "hello")

	c.tooSlow(s)
	if err := c.serveInPlace(s, len("hello")); err != nil {
		t.Fatal(err)
	}
	probe := site.probe(0)
	eventually(t, "it is served", func() bool {
		probe.mu.Lock()
		defer probe.mu.Unlock()
		return probe.body != nil || probe.bodyErr != nil
	})
	if string(probe.body) != "hello" && !errors.Is(probe.bodyErr, os.ErrDeadlineExceeded) {
		t.Errorf("served %q, %v", probe.body, probe.bodyErr)
	}
}
