package h2

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// pipeListener hands out the server's ends of pipes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error   { close(l.closed); return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// inTime runs a test in a bubble where time passes when all wait. dial returns
// the client's end of a connection to the site, on which nothing was said.
func inTime(t *testing.T, run func(t *testing.T, s *site, dial func() *peer)) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		l := pipeListener{make(chan net.Conn), make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		defer func() {
			_ = s.Close()
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("serve: %v", err)
			}
			s.letIn()
			s.judge()
		}()
		run(t, s, func() *peer {
			client, server := net.Pipe()
			t.Cleanup(func() { _ = client.Close() })
			l.conns <- server
			return newPeer(t, client)
		})
	})
}

// reading reads frames in the background and tells what came and when, until
// the connection ends.
type reading struct {
	frames chan frameAt
}

type frameAt struct {
	kind  http2.FrameType
	code  http2.ErrCode // of GOAWAY and RST_STREAM
	after time.Duration
}

func (p *peer) reading() *reading {
	r := &reading{frames: make(chan frameAt, 1000)}
	began := time.Now()
	go func() {
		defer close(r.frames)
		for {
			f, err := p.ReadFrame()
			if err != nil {
				return
			}
			at := frameAt{kind: f.Header().Type, after: time.Since(began)}
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				at.code = f.ErrCode
			case *http2.RSTStreamFrame:
				at.code = f.ErrCode
			}
			r.frames <- at
		}
	}()
	return r
}

// until waits for a frame of a kind, or for the end of the connection, which
// is a kind of 0xff.
func (r *reading) until(kind http2.FrameType) frameAt {
	began := time.Now()
	for f := range r.frames {
		if f.kind == kind {
			return f
		}
	}
	return frameAt{kind: 0xff, after: time.Since(began)}
}

// every does something again and again, until it fails or the test ends.
func every(t *testing.T, interval time.Duration, do func() error) {
	go func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if do() != nil {
					return
				}
			case <-t.Context().Done():
				return
			}
		}
	}()
}

const ended = http2.FrameType(0xff)

// about reports whether a time is the wanted one or a little later: the sweep
// comes now and then.
func about(got, want time.Duration) bool { return got >= want && got <= want+2*time.Second }

func TestSilentClientsAreLetGo(t *testing.T) {
	for name, said := range map[string]string{
		"that say nothing":           "",
		"that begin a preface":       "PRI * HT",
		"that begin a HEADERS frame": http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x05\x01\x05\x00\x00\x00\x01\x82",
		"that begin a header block":  http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82",
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, _ *site, dial func() *peer) {
				p := dial()
				began := time.Now()
				go func() { _, _ = io.WriteString(p, said) }()
				_, _ = io.Copy(io.Discard, p.Conn)
				if took := time.Since(began); !about(took, 5*time.Second) {
					t.Errorf("let go after %v", took)
				}
			})
		})
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	inTime(t, func(t *testing.T, _ *site, dial func() *peer) {
		p := dial()
		r := p.reading()
		p.greet()
		every(t, 20*time.Second, func() error { return p.WritePing(true, [8]byte{}) }) // as if asked
		if f := r.until(http2.FrameGoAway); f.kind == ended || f.code != http2.ErrCodeNo || !about(f.after, 3*time.Minute) {
			t.Errorf("got %v", f)
		}
		if f := r.until(ended); !about(f.after, 0) {
			t.Errorf("closed after %v", f.after)
		}
	})
}

func TestDeadClientsAreNoticed(t *testing.T) {
	inTime(t, func(t *testing.T, s *site, dial func() *peer) {
		p := dial()
		r := p.reading()
		p.greet()
		p.open(1, true, post("/held")...)
		if f := r.until(http2.FramePing); !about(f.after, 30*time.Second) {
			t.Errorf("PING after %v", f.after)
		}
		if f := r.until(ended); f.kind != ended || !about(f.after, 10*time.Second) {
			t.Errorf("given up after %v", f.after)
		}
		<-s.probe(0).done
	})
}

// A held request outlives every timeout, while its client answers PING.
func TestHeldRequestsOutliveTimeouts(t *testing.T) {
	inTime(t, func(t *testing.T, s *site, dial func() *peer) {
		p := dial()
		p.greet()
		p.open(1, true, post("/held")...)
		time.AfterFunc(time.Hour, s.probe(0).stream.Answer)
		began := time.Now()
		for {
			switch f := p.next().(type) {
			case *http2.PingFrame:
				_ = p.WritePing(true, f.Data)
			case *http2.HeadersFrame:
				if !about(time.Since(began), time.Hour) {
					t.Errorf("answered after %v", time.Since(began))
				}
				return
			case nil:
				t.Fatalf("ended after %v", time.Since(began))
			}
		}
	})
}

func TestSlowBodies(t *testing.T) {
	inTime(t, func(t *testing.T, s *site, dial func() *peer) {
		p := dial()
		r := p.reading()
		p.greet()
		p.open(1, false, post("/echo")...)
		every(t, time.Second, func() error { return p.WriteData(1, false, []byte("x")) })
		if f := r.until(http2.FrameHeaders); !about(f.after, 10*time.Second) {
			t.Errorf("answered after %v", f.after)
		}
		if f := r.until(http2.FrameRSTStream); f.code != http2.ErrCodeNo {
			t.Errorf("reset with %v", f.code)
		}
		if probe := s.probe(0); !errors.Is(probe.bodyErr, os.ErrDeadlineExceeded) || probe.endErr != nil {
			t.Errorf("body: %v; ended with %v", probe.bodyErr, probe.endErr)
		}
	})
}

// A body whose request was answered long ago is not waited for either.
func TestSlowBodiesOfAnsweredRequests(t *testing.T) {
	inTime(t, func(t *testing.T, _ *site, dial func() *peer) {
		p := dial()
		r := p.reading()
		p.greet()
		p.open(1, false, post("/early")...)
		if f := r.until(http2.FrameRSTStream); f.code != http2.ErrCodeNo || !about(f.after, 10*time.Second) {
			t.Errorf("got %v", f)
		}
	})
}

func TestClientsThatDoNotRead(t *testing.T) {
	inTime(t, func(t *testing.T, s *site, dial func() *peer) {
		p := dial()
		p.greet() // nothing reads, and a pipe holds nothing
		p.open(1, true, post("/large")...)
		<-s.probe(0).done
		synctest.Wait()
		time.Sleep(15 * time.Second) //nolint:forbidigo // the bubble's time
		synctest.Wait()
		if n := s.open.Load(); n != 0 {
			t.Error("the connection is still there")
		}
	})
}

// An answer whose window stays closed is given up, and what it holds with it; others
// of the connection go on.
func TestAnswersThatAreNotTaken(t *testing.T) {
	inTime(t, func(t *testing.T, s *site, dial func() *peer) {
		p := dial()
		r := p.reading()
		time.AfterFunc(time.Hour, func() { _ = p.Close() })
		p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		pong := appendPing(nil, http2.FlagPingAck, make([]byte, 8))
		every(t, 20*time.Second, func() error { // not by the framer, which the test has
			_, err := p.Write(pong)
			return err
		})
		p.open(1, true, post("/large")...)
		<-time.After(50 * time.Second)
		_ = p.WriteWindowUpdate(1, 10) // it takes a little: it is slow, not gone
		p.open(3, true, post("/held")...)
		if f := r.until(http2.FrameRSTStream); f.code != http2.ErrCodeCancel || !about(f.after, 230*time.Second) {
			t.Errorf("got %v", f)
		}
		if probe := s.probe(0); !errors.Is(probe.endErr, ErrStreamEnded) {
			t.Errorf("ended with %v", probe.endErr)
		}
		synctest.Wait()
		s.Server.mu.Lock()
		for c := range s.conns {
			c.mu.Lock()
			if c.held != 0 || len(c.streams) != 1 {
				t.Errorf("%d bytes are held, %d streams are left", c.held, len(c.streams))
			}
			c.mu.Unlock()
		}
		s.Server.mu.Unlock()
		s.probe(1).stream.Answer()
		if f := r.until(http2.FrameHeaders); f.kind != http2.FrameHeaders {
			t.Errorf("got %v", f)
		}
	})
}

// A client that takes a byte now and then is slow, not gone.
func TestClientsThatReadSlowly(t *testing.T) {
	inTime(t, func(t *testing.T, _ *site, dial func() *peer) {
		p := dial()
		p.greet()
		p.open(1, true, post("/echo")...)
		every(t, 20*time.Second, func() error { return p.WritePing(false, [8]byte{}) })
		began := time.Now()
		one := make([]byte, 1)
		for range 60 { // SETTINGS, WINDOW_UPDATE, SETTINGS, and most of the answer
			<-time.After(8 * time.Second)
			if _, err := io.ReadFull(p.Conn, one); err != nil {
				t.Fatalf("given up after %v: %v", time.Since(began), err)
			}
		}
	})
}
