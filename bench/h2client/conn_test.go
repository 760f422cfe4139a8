package h2client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2/hpack"
)

// hang is far above anything that should happen here.
const hang = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a net/http server: cleartext, or with TLS.
func serve(t testing.TB, secure bool, handler http.HandlerFunc) (*httptest.Server, Options) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	options := Options{}
	if secure {
		server.EnableHTTP2 = true
		server.StartTLS()
		options.TLS = server.Client().Transport.(*http.Transport).TLSClientConfig
	} else {
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
	}
	t.Cleanup(server.Close)
	return server, options
}

func dial(t testing.TB, server *httptest.Server, options Options) *Conn {
	t.Helper()
	conn, err := Dial(t.Context(), server.Listener.Addr().String(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		<-conn.Done()
	})
	return conn
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	t.Cleanup(cancel)
	return ctx
}

// echo answers with what it saw of the request, then the body.
func echo(w http.ResponseWriter, r *http.Request) {
	head := fmt.Sprintf("%s %s %s %s %d|", r.Proto, r.Method, r.URL.Path, r.Header.Get("Authorization"), r.ContentLength)
	_, _ = io.Copy(w, io.MultiReader(strings.NewReader(head), r.Body))
}

func TestRequestAndAnswer(t *testing.T) {
	for name, secure := range map[string]bool{"cleartext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			server, options := serve(t, secure, echo)
			conn := dial(t, server, options)
			for i := range 3 { // the second and third use the header table
				body := strings.Repeat("x", i)
				got, err := conn.Do(within(t), Request{
					Path:   "/a/b",
					Header: []hpack.HeaderField{{Name: "authorization", Value: "Bearer secret"}},
					Body:   []byte(body),
				})
				want := fmt.Sprintf("HTTP/2.0 POST /a/b Bearer secret %d|%s", i, body)
				if err != nil || got.Status != http.StatusOK || string(got.Body) != want {
					t.Errorf("got %d %q, %v; want %q", got.Status, got.Body, err, want)
				}
			}
		})
	}
}

// Bodies far beyond every window arrive whole, many at once.
func TestFlowControl(t *testing.T) {
	server, options := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // all of it first, so that windows fill
		_, _ = w.Write(body)
	})
	conn := dial(t, server, options)
	type result struct {
		name byte
		got  Response
		ok   bool
	}
	const requests, size = 8, 3 << 20
	results := make(chan result, requests)
	for i := range byte(requests) {
		body := bytes.Repeat([]byte{'a' + i}, size)
		_, err := conn.Start(Request{Path: "/", Body: body}, func(got Response) {
			results <- result{i, got, bytes.Equal(got.Body, body)}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range requests {
		select {
		case r := <-results:
			if !r.ok || r.got.Err != nil {
				t.Errorf("request %d: %d bytes came back, %v", r.name, len(r.got.Body), r.got.Err)
			}
		case <-time.After(hang):
			t.Fatal("the windows were not renewed")
		}
	}
}

func TestResponseAboveTheLimitIsReset(t *testing.T) {
	server, options := serve(t, false, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 100_000))
	})
	options.MaxResponse = 99_999
	conn := dial(t, server, options)
	// The server may not send more than the window, so the answer never ends.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := conn.Do(ctx, Request{Path: "/"}); err == nil {
		t.Error("an answer above the limit was accepted")
	}
}

func TestManyHeldRequestsNeedNoGoroutine(t *testing.T) {
	release := make(chan struct{})
	var held atomic.Int32
	full := make(chan struct{})
	server, options := serve(t, false, func(http.ResponseWriter, *http.Request) {
		if held.Add(1) == 200 {
			close(full)
		}
		<-release
	})
	conn := dial(t, server, options)
	answers := make(chan Response, 200)
	for range 200 {
		if _, err := conn.Start(Request{Path: "/"}, func(r Response) { answers <- r }); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-full:
	case <-time.After(hang):
		t.Fatalf("only %d requests arrived", held.Load())
	}
	close(release)
	for range 200 {
		if r := <-answers; r.Status != http.StatusOK {
			t.Fatalf("answer %+v", r)
		}
	}
}

func TestStreamLimitOfTheServer(t *testing.T) {
	release := make(chan struct{})
	server, options := serve(t, false, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	conn := dial(t, server, options)
	var err error
	started := 0
	for err == nil && started < 1000 {
		if _, err = conn.Start(Request{Path: "/"}, func(Response) {}); err == nil {
			started++
		}
	}
	if !errors.Is(err, ErrTooManyStreams) || started < 100 {
		t.Errorf("after %d requests: %v", started, err)
	}
}

func TestCancelReachesTheServer(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	server, options := serve(t, false, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/held" {
			return
		}
		close(arrived)
		<-r.Context().Done()
		close(ended)
	})
	conn := dial(t, server, options)
	answers := make(chan Response, 2)
	id, err := conn.Start(Request{Path: "/held"}, func(r Response) { answers <- r })
	if err != nil {
		t.Fatal(err)
	}
	<-arrived
	conn.Cancel(id)
	conn.Cancel(id) // a second time is nothing
	<-ended
	if r := <-answers; !errors.Is(r.Err, context.Canceled) || len(answers) > 0 {
		t.Errorf("the cancelled request got %+v and %d more answers", r, len(answers))
	}
	if _, err := conn.Do(within(t), Request{Path: "/"}); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

func TestEndOfTheConnectionEndsEveryRequest(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*Conn, *httptest.Server)
		want error
	}{
		"closed here":  {func(c *Conn, _ *httptest.Server) { _ = c.Close() }, ErrClosed},
		"closed there": {func(_ *Conn, s *httptest.Server) { s.CloseClientConnections() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan struct{})
			server, options := serve(t, false, func(_ http.ResponseWriter, r *http.Request) {
				close(arrived)
				<-r.Context().Done()
			})
			conn := dial(t, server, options)
			answers := make(chan Response, 1)
			if _, err := conn.Start(Request{Path: "/"}, func(r Response) { answers <- r }); err != nil {
				t.Fatal(err)
			}
			<-arrived
			test.end(conn, server)
			r := <-answers
			if r.Err == nil || test.want != nil && !errors.Is(r.Err, test.want) {
				t.Errorf("the request got %+v, want %v", r, test.want)
			}
			<-conn.Done()
			if _, err := conn.Start(Request{Path: "/"}, func(Response) {}); err == nil {
				t.Error("a dead connection took a request")
			}
		})
	}
}

func TestDialRefusesOtherProtocols(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(echo)) // HTTP/1.1 only
	defer plain.Close()
	if _, err := Dial(within(t), plain.Listener.Addr().String(), Options{}); err == nil {
		t.Error("cleartext HTTP/1.1 was taken for HTTP/2")
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(echo))
	defer secure.Close()
	config := &tls.Config{RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}
	if _, err := Dial(within(t), secure.Listener.Addr().String(), Options{TLS: config}); err == nil {
		t.Error("a TLS server without h2 was taken for HTTP/2")
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	conn := scripted(b, func(s *script) {
		_ = s.framer.WriteWindowUpdate(0, 1<<31-1-defaultWindow) // enough for the whole run
		for {
			if id, ok := s.request(); ok {
				s.headers(id, false, ":status", "200", "content-type", "application/proto")
				_ = s.framer.WriteData(id, true, make([]byte, 200))
			} else {
				return
			}
		}
	})
	header := []hpack.HeaderField{
		{Name: "content-type", Value: "application/proto"},
		{Name: "authorization", Value: "Bearer " + strings.Repeat("t", 250)},
	}
	body := make([]byte, 150)
	next := make(chan struct{}, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Start(Request{Path: "/tegami.v1.TalkService/SendMessage", Header: header, Body: body},
			func(Response) { next <- struct{}{} }); err != nil {
			b.Fatal(err)
		}
		<-next
	}
}
