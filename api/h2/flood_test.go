package h2

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// Frames that only make work are counted.
func TestFloods(t *testing.T) {
	s := serveSite(t, nil)
	for name, send := range map[string]func(p *peer, i uint32) error{
		"PING":               func(p *peer, _ uint32) error { return p.WritePing(false, [8]byte{}) },
		"SETTINGS":           func(p *peer, _ uint32) error { return p.WriteSettings() },
		"PRIORITY":           func(p *peer, _ uint32) error { return p.WritePriority(1, http2.PriorityParam{}) },
		"unknown":            func(p *peer, _ uint32) error { return p.WriteRawFrame(0x42, 0, 0, nil) },
		"SETTINGS, answered": func(p *peer, _ uint32) error { return p.WriteSettingsAck() },
		"empty DATA": func(p *peer, i uint32) error {
			if i == 0 {
				p.open(1, false, post("/held")...)
			}
			return p.WriteData(1, false, nil)
		},
		"RST_STREAM": func(p *peer, i uint32) error {
			p.open(2*i+1, true, post("/held")...)
			return p.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		},
		"bad HEADERS": func(p *peer, i uint32) error {
			p.open(2*i+1, true, "x: y")
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.dial()
			p.t = t
			go func() {
				for i := range uint32(200_000) {
					if send(p, i) != nil {
						return
					}
				}
			}()
			for {
				switch f := p.next().(type) {
				case *http2.GoAwayFrame:
					if f.ErrCode != http2.ErrCodeEnhanceYourCalm {
						t.Errorf("GOAWAY %v", f.ErrCode)
					}
					return
				case nil:
					t.Fatal("the connection ended without GOAWAY")
				}
			}
		})
	}
}

// A client that resets what was answered, and does what is answered with a reset,
// and that takes a byte now and then, so as not to be gone, has the server keep
// nothing for it that grows.
func TestWhatIsKeptForASlowReaderIsBounded(t *testing.T) {
	for name, annoy := range map[string]func(p *peer, i uint32){
		"resets of answered requests": func(p *peer, i uint32) {
			p.open(2*i+1, true, post("/early")...)
			_ = p.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		},
		"requests that are reset": func(p *peer, i uint32) {
			p.open(2*i+1, true, "x: y")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, s *site, dial func() *peer) {
				p := dial()
				p.greet()
				one := make([]byte, 1)
				every(t, 8*time.Second, func() error {
					_, err := p.Read(one)
					return err
				})
				for i := range uint32(5000) {
					<-time.After(2 * time.Millisecond)
					annoy(p, i)
				}
				synctest.Wait()
				s.Server.mu.Lock()
				defer s.Server.mu.Unlock()
				for c := range s.conns {
					c.mu.Lock()
					if len(c.queue) > s.opts.MaxStreams || len(c.control) > 2*maxControl {
						t.Errorf("%d streams are in the queue, %d bytes before them", len(c.queue), len(c.control))
					}
					c.mu.Unlock()
				}
			})
		})
	}
}

// Draining: what has begun is answered, what a client could not know is still
// served, what comes after that is not, and then the connection ends.
func TestShutdown(t *testing.T) {
	s := serveSite(t, nil)
	p, idle := s.dial(), s.dial()
	p.open(1, true, post("/held")...)
	probe := s.probe(0)
	idle.open(1, true, post("/echo")...)
	_, _ = idle.answer(1)
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }() //nolint:usetesting // as long as it takes

	if f, ok := p.next().(*http2.GoAwayFrame); !ok || f.LastStreamID != 1<<31-1 || f.ErrCode != http2.ErrCodeNo {
		t.Fatalf("first: %v", f)
	}
	ping, ok := p.next().(*http2.PingFrame)
	if !ok {
		t.Fatal("no PING after the first GOAWAY")
	}
	data := ping.Data
	p.open(3, true, post("/echo")...) // sent before it heard
	if status, _ := p.answer(3); status != "200" {
		t.Errorf("between the two: status %s", status)
	}
	_ = p.WritePing(true, data)
	if f, ok := p.next().(*http2.GoAwayFrame); !ok || f.LastStreamID != 3 || f.ErrCode != http2.ErrCodeNo {
		t.Fatalf("second: %v", f)
	}
	p.open(5, false, post("/echo")...) // sent although it heard
	_ = p.WriteData(5, true, []byte("x"))
	select {
	case err := <-stopped:
		t.Fatalf("stopped while a request is held: %v", err)
	default:
	}
	probe.stream.Answer()
	for answered := false; ; {
		switch f := p.next().(type) {
		case *http2.HeadersFrame:
			if f.StreamID != 1 {
				t.Errorf("stream %d is answered", f.StreamID)
			}
			answered = true
		case nil:
			if !answered {
				t.Error("the connection ended before the answer")
			}
			// The one that does not answer PING is not waited for.
			_ = p.Close()
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			return
		}
	}
}

// A client that has just connected is served, and told then. One that says nothing
// is not waited for.
func TestShutdownServesWhoHasJustConnected(t *testing.T) {
	s := serveSite(t, nil)
	late, _ := s.silent(), s.silent()
	eventually(t, "both are accepted", func() bool { return s.open.Load() == 2 })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }() //nolint:usetesting // as long as it takes
	eventually(t, "it stops", s.isStopping)

	p := newPeer(t, late)
	_ = p.SetDeadline(time.Now().Add(hangLimit))
	p.greet()
	p.open(1, true, post("/echo")...)
	if f, ok := p.next().(*http2.GoAwayFrame); !ok || f.LastStreamID != 1<<31-1 || f.ErrCode != http2.ErrCodeNo {
		t.Fatalf("first: %v", f)
	}
	if ping, ok := p.next().(*http2.PingFrame); !ok {
		t.Fatal("no PING after the first GOAWAY")
	} else if status, _ := p.answer(1); status != "200" {
		t.Errorf("status %s", status)
	} else {
		_ = p.WritePing(true, ping.Data)
	}
	for p.next() != nil { // until it ends
	}
	_ = p.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestShutdownGivesUp(t *testing.T) {
	s := serveSite(t, nil)
	p := s.dial()
	p.open(1, true, post("/held")...)
	probe := s.probe(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	_ = s.Close()
	<-probe.done
	if err := s.Serve(pipeListener{closed: make(chan struct{})}); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("serve after close: %v", err)
	}
}
