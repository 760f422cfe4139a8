package h2

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/tegami-im/tegami/bench/h2client"
)

// BenchmarkSmallRequest is a request and an answer of a few bytes, over
// loopback, with the client's share: as an exchange, by a handler here, and by
// the same handler on net/http.
func BenchmarkSmallRequest(b *testing.B) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	listen := func(b *testing.B) net.Listener {
		l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		return l
	}
	engine := func(b *testing.B) string {
		opts := testOptions()
		opts.MaxConnections, opts.MaxStreams, opts.Handler = 1000, 250, echo
		opts.Route = func(s *Stream, r *Request) Exchange {
			if r.Path != "/exchange" {
				return nil
			}
			return &echoes{stream: s}
		}
		s, l := New(opts), listen(b)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		b.Cleanup(func() { _, _ = s.Close(), <-served })
		return l.Addr().String()
	}
	netHTTP := func(b *testing.B) string {
		s, l := &http.Server{Handler: echo, Protocols: new(http.Protocols)}, listen(b) //nolint:gosec // G112: the client is our own
		s.Protocols.SetUnencryptedHTTP2(true)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		b.Cleanup(func() { _, _ = s.Close(), <-served })
		return l.Addr().String()
	}
	for _, server := range []struct {
		name, path string
		start      func(b *testing.B) string
	}{
		{"exchange", "/exchange", engine},
		{"handler", "/handler", engine},
		{"net-http", "/handler", netHTTP},
	} {
		for _, shape := range []struct {
			name           string
			conns, streams int
		}{{"200x1", 200, 1}, {"20x20", 20, 20}, {"2x200", 2, 200}} {
			b.Run(server.name+"/"+shape.name, func(b *testing.B) {
				addr := server.start(b)
				answers := make(chan error, shape.conns*shape.streams)
				request := h2client.Request{Path: server.path, Body: []byte("a small request")}
				var starts []func()
				for range shape.conns {
					conn, err := h2client.Dial(b.Context(), addr, h2client.Options{})
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() { _ = conn.Close() })
					for range shape.streams {
						starts = append(starts, func() {
							_, err := conn.Start(request, func(r h2client.Response) {
								if r.Err == nil && (r.Status != http.StatusOK || len(r.Body) != len(request.Body)) {
									r.Err = errors.New("another answer")
								}
								answers <- r.Err
							})
							if err != nil {
								answers <- err
							}
						})
					}
				}
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; n < b.N; {
					batch := min(len(starts), b.N-n)
					for _, start := range starts[:batch] {
						start()
					}
					for range batch {
						if err := <-answers; err != nil {
							b.Fatal(err)
						}
					}
					n += batch
				}
			})
		}
	}
}

// echoes answers with the request's body.
type echoes struct {
	stream *Stream
	body   []byte
}

func (e *echoes) Open(bool) bool { return true }

func (e *echoes) Serve(body []byte, _ error) {
	e.body = append(e.body, body...)
	e.stream.Answer()
}

func (e *echoes) Encode(a *Answer) { a.Body = append(a.Body, e.body...) }

func (e *echoes) End(error) {}
