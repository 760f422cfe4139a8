package h2client

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// script is a server that does what a test tells it to, frame by frame.
type script struct {
	conn    net.Conn
	framer  *http2.Framer
	block   bytes.Buffer
	encoder *hpack.Encoder
}

// scripted connects a client to a script that has exchanged settings.
func scripted(t testing.TB, run func(*script)) *Conn {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		s := &script{conn: conn, framer: http2.NewFramer(conn, conn)}
		s.encoder = hpack.NewEncoder(&s.block)
		_ = s.framer.WriteSettings()
		run(s)
	}()
	conn, err := Dial(t.Context(), listener.Addr().String(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		_ = listener.Close()
		<-conn.Done()
		<-ended
	})
	return conn
}

// request reads up to the end of the next request.
func (s *script) request() (id uint32, ok bool) {
	for {
		frame, err := s.framer.ReadFrame()
		if err != nil {
			return 0, false
		}
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return f.StreamID, true
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return f.StreamID, true
			}
		}
	}
}

func (s *script) headers(id uint32, end bool, fields ...string) {
	block := s.encode(fields...)
	_ = s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
}

func (s *script) encode(fields ...string) []byte {
	s.block.Reset()
	for pair := range slices.Chunk(fields, 2) {
		_ = s.encoder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
	}
	return s.block.Bytes()
}

func TestAnswersOfEveryShape(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(*script, uint32)
		status int
		body   string
	}{
		"headers alone": {func(s *script, id uint32) {
			s.headers(id, true, ":status", "204")
		}, http.StatusNoContent, ""},
		"one DATA frame": {func(s *script, id uint32) {
			s.headers(id, false, ":status", "200")
			_ = s.framer.WriteData(id, true, []byte("one"))
		}, http.StatusOK, "one"},
		"several DATA frames, padded, the last one empty": {func(s *script, id uint32) {
			s.headers(id, false, ":status", "200")
			_ = s.framer.WriteDataPadded(id, false, []byte("one, "), make([]byte, 9))
			_ = s.framer.WriteData(id, false, []byte("two"))
			_ = s.framer.WriteData(id, true, nil)
		}, http.StatusOK, "one, two"},
		"an interim answer first": {func(s *script, id uint32) {
			s.headers(id, false, ":status", "103", "link", "x")
			s.headers(id, false, ":status", "429")
			_ = s.framer.WriteData(id, true, []byte("later"))
		}, http.StatusTooManyRequests, "later"},
		"trailers": {func(s *script, id uint32) {
			s.headers(id, false, ":status", "200")
			_ = s.framer.WriteData(id, false, []byte("body"))
			s.headers(id, true, "grpc-status", "0")
		}, http.StatusOK, "body"},
		"a header block in three frames": {func(s *script, id uint32) {
			block := s.encode(":status", "200", "x", "a long value that is cut")
			_ = s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:1]})
			_ = s.framer.WriteContinuation(id, false, block[1:len(block)/2])
			_ = s.framer.WriteContinuation(id, true, block[len(block)/2:])
			_ = s.framer.WriteData(id, true, []byte("whole"))
		}, http.StatusOK, "whole"},
		"frames that a client may ignore around it": {func(s *script, id uint32) {
			_ = s.framer.WriteRawFrame(0xbe, 0, id, []byte("unknown type"))
			_ = s.framer.WriteWindowUpdate(0, 10)
			_ = s.framer.WriteWindowUpdate(id+100, 10)
			_ = s.framer.WriteRSTStream(id+100, http2.ErrCodeCancel)
			s.headers(id, false, ":status", "200")
			_ = s.framer.WritePing(true, [8]byte{})
			_ = s.framer.WriteData(id, true, []byte("ok"))
		}, http.StatusOK, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := scripted(t, func(s *script) {
				for id, ok := s.request(); ok; id, ok = s.request() {
					test.answer(s, id)
				}
			})
			for range 2 { // the second proves that the header table stayed right
				got, err := conn.Do(within(t), Request{Path: "/"})
				if err != nil || got.Status != test.status || string(got.Body) != test.body {
					t.Fatalf("got %d %q, %v; want %d %q", got.Status, got.Body, err, test.status, test.body)
				}
			}
		})
	}
}

func TestResetAndGoAway(t *testing.T) {
	conn := scripted(t, func(s *script) {
		first, _ := s.request()
		_ = s.framer.WriteRSTStream(first, http2.ErrCodeRefusedStream)
		second, _ := s.request()
		s.request() // the third, which is not taken
		_ = s.framer.WriteGoAway(second, http2.ErrCodeNo, nil)
		s.headers(second, true, ":status", "200")
		s.request()
	})
	_, err := conn.Do(within(t), Request{Path: "/"})
	var reset http2.StreamError
	if !errors.As(err, &reset) || reset.Code != http2.ErrCodeRefusedStream {
		t.Errorf("the reset request got %v", err)
	}
	second, third := make(chan Response, 1), make(chan Response, 1)
	for _, answers := range []chan Response{second, third} {
		if _, err := conn.Start(Request{Path: "/"}, func(r Response) { answers <- r }); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-third; !errors.Is(r.Err, ErrGoAway) {
		t.Errorf("the request that was not taken got %+v", r)
	}
	if r := <-second; r.Status != http.StatusOK {
		t.Errorf("the request that was taken got %+v", r)
	}
	if _, err := conn.Start(Request{Path: "/"}, func(Response) {}); !errors.Is(err, ErrGoAway) {
		t.Errorf("a request after GOAWAY: %v", err)
	}
}

func TestPingIsAnswered(t *testing.T) {
	payload := [8]byte{1, 2, 3}
	conn := scripted(t, func(s *script) {
		id, _ := s.request()
		_ = s.framer.WritePing(false, payload)
		for {
			frame, err := s.framer.ReadFrame()
			if err != nil {
				return
			}
			if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() && ping.Data == payload {
				s.headers(id, true, ":status", "200")
				s.request()
				return
			}
		}
	})
	if _, err := conn.Do(within(t), Request{Path: "/"}); err != nil {
		t.Error(err)
	}
}

// A body waits for windows that the server opens bit by bit.
func TestBodyWaitsForTheWindow(t *testing.T) {
	const size = 100_000
	conn := scripted(t, func(s *script) {
		got := 0
		for got < size {
			frame, err := s.framer.ReadFrame()
			if err != nil {
				return
			}
			if f, ok := frame.(*http2.DataFrame); ok {
				got += len(f.Data())
				_ = s.framer.WriteWindowUpdate(0, f.Length)
				_ = s.framer.WriteWindowUpdate(f.StreamID, f.Length)
			}
		}
		s.headers(1, true, ":status", "200")
		s.request()
	})
	if _, err := conn.Do(within(t), Request{Path: "/", Body: make([]byte, size)}); err != nil {
		t.Error(err)
	}
}

func FuzzServerBytes(f *testing.F) {
	s := &script{}
	s.encoder = hpack.NewEncoder(&s.block)
	var good bytes.Buffer
	s.framer = http2.NewFramer(&good, nil)
	s.headers(1, false, ":status", "200")
	_ = s.framer.WriteData(1, true, []byte("body"))
	_ = s.framer.WriteGoAway(1, http2.ErrCodeNo, nil)
	f.Add(good.Bytes())
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn := scripted(t, func(s *script) {
			s.request()
			_, _ = s.conn.Write(sent)
		})
		calls := make(chan Response, 2)
		_, err := conn.Start(Request{Path: "/"}, func(r Response) { calls <- r })
		<-conn.Done()
		if err == nil && len(calls) != 1 {
			t.Fatalf("a request was answered %d times", len(calls))
		}
	})
}
