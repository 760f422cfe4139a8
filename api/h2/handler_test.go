package h2

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// client returns a client of net/http's that speaks HTTP/2 alone.
func (s *site) client() *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// reply is an answer read to its end.
type reply struct {
	status          int
	header, trailer http.Header
	length          int64
	body            string
}

func (s *site) do(ctx context.Context, method, path string, body io.Reader, header ...string) (*reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	response, err := s.client().Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return &reply{response.StatusCode, response.Header, response.Trailer, response.ContentLength, string(content)}, err
}

// What a handler sees and says reaches the other side as with net/http.
func TestHandler(t *testing.T) {
	s := serveSite(t, nil)
	large := strings.Repeat("0123456789", 100_000)
	for _, test := range []struct {
		name, method, path string
		body               io.Reader
		header             []string
		check              func(r *reply) bool
	}{
		{"a request", "POST", "/show?a=b", nil, []string{"Cookie", "a=1", "Cookie", "b=2"}, func(r *reply) bool {
			return r.status == http.StatusTeapot && r.body == "POST HTTP/2.0" && r.header.Get("X-Host") == s.addr &&
				r.header.Get("X-Cookie") == "a=1; b=2" && r.header.Get("X-Uri") == "/show?a=b" && r.header.Get("Connection") == "" &&
				r.length == 13 && r.header.Get("Date") != "" && strings.HasPrefix(r.header.Get("Content-Type"), "text/plain")
		}},
		{"a large body", "POST", "/copy", strings.NewReader(large), nil, func(r *reply) bool {
			return r.status == http.StatusOK && r.body == large
		}},
		{"a body of unknown length", "PUT", "/copy", io.MultiReader(strings.NewReader(large)), nil, func(r *reply) bool {
			return r.body == large
		}},
		{"a body to be asked for", "POST", "/copy", strings.NewReader("x"), []string{"Expect", "100-continue"}, func(r *reply) bool {
			return r.body == "x"
		}},
		{"a body that is not read", "POST", "/other", strings.NewReader(large), nil, func(r *reply) bool {
			return r.body == "handled"
		}},
		{"HEAD", "HEAD", "/other", nil, nil, func(r *reply) bool {
			return r.status == http.StatusOK && r.body == "" && r.length == 7
		}},
		{"OPTIONS", "OPTIONS", "/show", nil, nil, func(r *reply) bool { return r.body == "OPTIONS HTTP/2.0" }},
		{"trailers", "POST", "/trailer", strings.NewReader("x"), nil, func(r *reply) bool {
			return r.body == "x" && r.trailer.Get("X-Announced") == "1" && r.trailer.Get("X-Late") == "2" && r.header.Get("X-Announced") == ""
		}},
		{"trailers without a body", "GET", "/trailer", nil, nil, func(r *reply) bool {
			return r.body == "" && r.trailer.Get("X-Late") == "2"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := s.do(t.Context(), test.method, test.path, test.body, test.header...)
			if err != nil {
				t.Fatal(err)
			}
			if !test.check(r) {
				t.Errorf("status %d, %v, %.50q, %v", r.status, r.header, r.body, r.trailer)
			}
		})
	}
	t.Run("a panic", func(t *testing.T) {
		_, err := s.do(t.Context(), "GET", "/panic", nil)
		if err == nil || !strings.Contains(err.Error(), http2.ErrCodeInternal.String()) {
			t.Errorf("got %v", err)
		}
	})
}

// A request that ends takes the context of its handler along.
func TestHandlersEndWithTheirRequest(t *testing.T) {
	var running atomic.Int64
	s := serveSite(t, func(o *Options) {
		o.MaxStreams = 3
		o.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Add(-1)
			_, err := io.ReadAll(r.Body) // ends with the request, too
			if err == nil || errors.Is(err, io.EOF) {
				<-r.Context().Done()
			}
		})
	})
	awaitRunning := func(n int64) {
		t.Helper()
		eventually(t, "so many handlers run", func() bool { return running.Load() == n })
	}
	p := s.dial()
	p.open(1, true, post("/")...)
	p.open(3, false, post("/")...)
	awaitRunning(2)
	_ = p.WriteRSTStream(1, http2.ErrCodeCancel)
	_ = p.WriteRSTStream(3, http2.ErrCodeCancel)
	awaitRunning(0)
	p.open(5, false, post("/")...)
	awaitRunning(1)
	_ = p.Close()
	awaitRunning(0)
	other := s.dial()
	other.open(1, true, post("/")...)
	awaitRunning(1)
	_ = s.Close()
	awaitRunning(0)
}

// Handlers of requests that were reset count until they are through.
func TestHandlersAreBounded(t *testing.T) {
	release := make(chan struct{})
	var running atomic.Int64
	s := serveSite(t, func(o *Options) {
		o.MaxStreams = 3
		o.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			running.Add(1)
			defer running.Add(-1)
			<-release // as one that hashes a password
		})
	})
	p := s.dial()
	refused := 0
	for i := range uint32(20) {
		p.open(2*i+1, true, post("/")...)
		_ = p.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
	}
	_ = p.WritePing(false, [8]byte{})
	for ping := false; !ping; {
		switch p.next().(type) {
		case *http2.RSTStreamFrame:
			refused++
		case *http2.PingFrame:
			ping = true
		case nil:
			t.Fatal("the connection ended")
		}
	}
	if n := running.Load(); n > 3 || refused != 17 {
		t.Errorf("%d handlers run, %d requests were refused", n, refused)
	}
	close(release)
	eventually(t, "they end", func() bool { return running.Load() == 0 })
}

// Whatever does not begin as HTTP/2 does is handed over, whole.
func TestOtherProtocolsAreHandedOver(t *testing.T) {
	given := make(chan net.Conn)
	s := serveSite(t, func(o *Options) {
		o.MaxConnections = 1
		o.HTTP1 = func(conn net.Conn) { given <- conn }
	})
	for name, pieces := range map[string][]string{
		"a request":                 {"GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		"a request in pieces":       {"P", "OST / HTTP/1.1\r\n\r\n"},
		"most of a preface":         {"PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r", "x"},
		"the beginning of TLS":      {"\x16\x03\x01"},
		"more than the buffer":      {strings.Repeat("A", 3000)},
		"a preface in another case": {"pri * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var conn net.Conn
			eventually(t, "the connection before is closed", func() bool { return s.open.Load() == 0 })
			conn = s.silent()
			for _, piece := range pieces {
				_, _ = io.WriteString(conn, piece)
			}
			got := <-given
			want := strings.Join(pieces, "")
			text := make([]byte, len(want))
			if _, err := io.ReadFull(got, text); err != nil || string(text) != want {
				t.Errorf("got %q, %v", text, err)
			}
			// It counts until it is closed.
			other := bufio.NewReader(s.silent())
			if _, err := other.ReadByte(); !errors.Is(err, io.EOF) && err == nil {
				t.Error("one connection too many is served")
			}
			_, _ = got.Write([]byte("bye"))
			_ = got.Close()
			_ = got.Close() // counts once
			if text, _ := io.ReadAll(conn); !bytes.Equal(text, []byte("bye")) {
				t.Errorf("the client got %q", text)
			}
		})
	}
}
