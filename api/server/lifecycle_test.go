package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/server"
)

// Stopping: new requests are refused, held polls are answered by the talk tier,
// and Drain returns when all are.
func TestDraining(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, c := range e.clients(t) {
		// Opens its connection before the listener closes.
		if err := c.call(within(t), tegamiv1connect.TalkServiceGetHeadProcedure, alice.access, &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	clients := e.clients(t)
	poller := clients[0]
	pages, errs := poll(within(t), poller, alice.access, &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(time.Minute)})
	eventually(t, "the poll is held", func() bool { return e.talk.held() == 1 })

	if !e.Ready() {
		t.Error("not ready before it stops")
	}
	e.Refuse()
	if e.Ready() {
		t.Error("ready while it stops")
	}
	for _, c := range clients {
		for _, r := range routes(t) {
			err := c.call(within(t), r.procedure, r.token(alice), r.request(alice, alice, "1"), r.response())
			if f := failureOf(t, err); f.code != "unavailable" || f.detail.GetReason() != "stopping" || f.retryAfter != "1" {
				t.Errorf("%s: %s: %v", c.name, r.name(), f)
			}
		}
	}
	drained := make(chan error, 1)
	go func() { drained <- e.Drain(within(t)) }()
	select {
	case err := <-drained:
		t.Fatalf("drained while a poll is held: %v", err)
	default:
	}
	e.talk.drain()
	select {
	case page := <-pages:
		if page.GetReason() != tegamiv1.FetchOpsResponse_DRAINING {
			t.Errorf("the held poll got %v", page)
		}
	case err := <-errs:
		t.Errorf("the held poll: %v", err)
	}
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.PublicAddr().String()); err == nil {
		t.Error("connections are still accepted")
	}
}

// Drain gives up when its context ends, and Close ends what is left.
func TestDrainGivesUp(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	_, errs := poll(within(t), e.clients(t)[0], alice.access, &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(time.Minute)})
	eventually(t, "the poll is held", func() bool { return e.talk.held() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := e.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	<-errs //nolint:errcheck // any error will do
	eventually(t, "the poll is cancelled", func() bool { return e.talk.held() == 0 })
}

// A body that comes too slowly is cut off, on every way through; a poll whose
// body is there is held for much longer than that.
func TestSlowBodiesAreCutOff(t *testing.T) {
	e := start(t, func(o *server.Options) { o.HTTP.BodyTimeout = 100 * time.Millisecond })
	alice := e.signIn(t, "alice")[0]
	for _, w := range wires {
		for _, procedure := range []string{tegamiv1connect.TalkServiceSendMessageProcedure, tegamiv1connect.TalkServiceGetHeadProcedure, tegamiv1connect.AuthServiceLoginProcedure} {
			t.Run(w.String()+procedure, func(t *testing.T) {
				t.Parallel()
				request, err := http.NewRequestWithContext(within(t), http.MethodPost, e.url()+procedure, newStalled(nil))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", w.contentType)
				request.Header.Set("Authorization", "Bearer "+alice.access)
				got, err := do(e.httpClient(t, w.major), request)
				if err != nil {
					return // cut off without an answer
				}
				if f := w.failure(t, got); f.code != "deadline_exceeded" || f.detail.GetReason() != "slow_body" {
					t.Errorf("got %v", f)
				}
			})
		}
		t.Run(w.String()+" holds", func(t *testing.T) {
			t.Parallel()
			body := []byte("\x1a\x06\x10\x80\x84\xaf\xdf\x01") // timeout: 468 ms
			if w.json() {
				body = []byte(`{"timeout": "0.468s"}`)
			}
			got, err := post(within(t), e.httpClient(t, w.major), e.url()+tegamiv1connect.TalkServiceFetchOpsProcedure, w.contentType, alice.access,
				strings.NewReader(string(w.frame(body))))
			if err != nil || got.status != 200 || got.trailer.Get("Grpc-Status") > "0" {
				t.Errorf("a poll held for longer than bodies may take: %v, %v", got, err)
			}
		})
	}
}

// Bytes of a body keep nobody's connection alive for ever: a client that sends
// one now and then is cut off as well.
func TestDrippingBodiesAreCutOff(t *testing.T) {
	e := start(t, func(o *server.Options) { o.HTTP.BodyTimeout = 100 * time.Millisecond })
	alice := e.signIn(t, "alice")[0]
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.PublicAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n",
		tegamiv1connect.TalkServiceSendMessageProcedure, alice.access)
	answered := make(chan int, 1)
	go func() {
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			answered <- 0
			return
		}
		response.Body.Close()
		answered <- response.StatusCode
	}()
	deadline := time.After(hangLimit)
	for {
		select {
		case status := <-answered:
			if status != 0 && status != http.StatusGatewayTimeout {
				t.Errorf("status %d", status)
			}
			return
		case <-time.After(10 * time.Millisecond):
			_, _ = conn.Write([]byte(" "))
		case <-deadline:
			t.Fatal("still taken")
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	e := start(t, func(o *server.Options) { o.HTTP.MaxConnections = 3 })
	open := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.PublicAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	served := func(conn net.Conn) bool {
		_ = conn.SetDeadline(time.Now().Add(hangLimit))
		if _, err := fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return false
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return false
		}
		response.Body.Close()
		return true
	}
	var conns []net.Conn
	for range 3 {
		conn := open()
		defer conn.Close()
		conns = append(conns, conn)
		if !served(conn) {
			t.Fatal("a connection within the bound is not served")
		}
	}
	if conn := open(); served(conn) {
		t.Error("a fourth connection is served")
	}
	conns[0].Close()
	eventually(t, "room again", func() bool {
		conn := open()
		defer conn.Close()
		return served(conn)
	})
}

func TestHeadersAreBounded(t *testing.T) {
	e := start(t, nil)
	for _, major := range []int{1, 2} {
		got, err := post(within(t), e.httpClient(t, major), e.url()+tegamiv1connect.TalkServiceGetHeadProcedure, "application/json", "", strings.NewReader("{}"),
			"X-Large", strings.Repeat("x", 48<<10))
		if err != nil {
			continue // the connection was closed at once
		}
		if got.status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("HTTP/%d: status %d", major, got.status)
		}
	}
}

// A panic in a handler is an answer and a line in the log.
func TestPanicsAreAnswered(t *testing.T) {
	e := start(t, func(o *server.Options) {})
	alice := e.signIn(t, "alice")[0]
	e.talk.failWith("panic", errors.New("planted"))
	for _, c := range e.clients(t) {
		err := c.call(within(t), tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, textTo("alice", "hi"), &tegamiv1.SendMessageResponse{})
		if f := failureOf(t, err); f.code != "internal" || f.detail.GetReason() != "internal" || strings.Contains(f.text, "planted") {
			t.Errorf("%s: %v", c.name, f)
		}
	}
	if got := strings.Count(e.logs.String(), `"msg":"panic in a handler"`); got != len(e.clients(t)) {
		t.Errorf("%d panics are in the log", got)
	}
}

// No body, no password and no token is in the log, whatever goes wrong.
func TestLogsHoldNoSecrets(t *testing.T) {
	e := start(t, nil)
	const secret = "SECRET-OF-A-CLIENT" //nolint:gosec // G101: made up here
	devices := e.signIn(t, "alice", "bob")
	alice := devices[0]
	bad := badTokens(t, alice)
	for _, failure := range []string{"", "Send", "Poll", "Head", "Account", "SignIn", "Open", "panic"} {
		e.talk.failWith(failure, errors.New("planted"))
		for _, c := range e.clients(t) {
			for _, r := range routes(t) {
				signsOut := r.procedure == tegamiv1connect.AuthServiceLogoutProcedure || r.procedure == tegamiv1connect.AuthServiceRevokeDeviceProcedure
				hashes := r.procedure == tegamiv1connect.AuthServiceRegisterProcedure || r.procedure == tegamiv1connect.AuthServiceLoginProcedure
				if signsOut || hashes && failure != "Account" {
					continue
				}
				_ = c.call(within(t), r.procedure, r.token(alice), r.request(alice, devices[1], "x"), r.response())
			}
			for _, b := range bad {
				_ = c.call(within(t), tegamiv1connect.TalkServiceGetHeadProcedure, b.token, &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{})
			}
			_ = c.call(within(t), tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, textTo("bob", secret), &tegamiv1.SendMessageResponse{})
		}
		_ = e.jsonClient(t).call(within(t), tegamiv1connect.AuthServiceRegisterProcedure, "", &tegamiv1.RegisterRequest{UserId: "someone", Password: secret}, &tegamiv1.RegisterResponse{})
		_ = e.jsonClient(t).call(within(t), tegamiv1connect.AuthServiceLoginProcedure, "", &tegamiv1.LoginRequest{UserId: "someone", Password: secret}, &tegamiv1.LoginResponse{})
		for _, w := range wires {
			for _, body := range []string{`{"text": "` + secret + `", "x": 1}`, `{"text": "` + secret, secret} {
				_, _ = post(within(t), e.httpClient(t, w.major), e.url()+tegamiv1connect.TalkServiceSendMessageProcedure, w.contentType, alice.access,
					strings.NewReader(string(w.frame([]byte(body)))))
			}
		}
		e.talk.failWith(failure, nil)
	}
	logs := e.logs.String()
	if !strings.Contains(logs, "planted") {
		t.Error("the log does not tell what went wrong")
	}
	forbidden := []string{secret, "correct horse", adminToken, alice.access, alice.refresh, strings.Split(alice.access, ".")[2]}
	for _, b := range bad {
		if len(b.token) > 20 {
			forbidden = append(forbidden, b.token)
		}
	}
	for line := range strings.SplitSeq(logs, "\n") {
		for _, s := range forbidden {
			if strings.Contains(line, s) {
				t.Fatalf("the log holds a secret: %s", line)
			}
		}
	}
}

// The caller's handlers stand beside AdminService, on the admin listener alone,
// and go on while the server stops.
func TestAdminHandlers(t *testing.T) {
	e := start(t, func(o *server.Options) {
		o.AdminHandlers = map[string]http.Handler{"/healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })}
	})
	e.Refuse()
	for url, want := range map[string]int{e.adminURL(): http.StatusNoContent, e.url(): http.StatusNotFound} {
		request, err := http.NewRequestWithContext(within(t), http.MethodGet, url+"/healthz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := do(e.httpClient(t, 1), request); err != nil || got.status != want {
			t.Errorf("%s: %v, %v, want status %d", url, got, err, want)
		}
	}
}

// A profile or a backup runs for longer than the body of a request may take.
func TestAdminHandlersTakeTheirTime(t *testing.T) {
	e := start(t, func(o *server.Options) {
		o.HTTP.BodyTimeout = 20 * time.Millisecond
		o.AdminHandlers = map[string]http.Handler{"/slow": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(200 * time.Millisecond):
			case <-r.Context().Done():
				w.WriteHeader(http.StatusTeapot)
			}
		})}
	})
	for _, major := range []int{1, 2} {
		request, err := http.NewRequestWithContext(within(t), http.MethodGet, e.adminURL()+"/slow", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := do(e.httpClient(t, major), request); err != nil || got.status != http.StatusOK {
			t.Errorf("HTTP/%d: %v, %v", major, got, err)
		}
	}
}

// Every request is counted once, under its method and code.
func TestHooksCountRequests(t *testing.T) {
	var mu sync.Mutex
	counts := map[string]int{}
	stages := map[string]int{}
	e := start(t, func(o *server.Options) {
		o.Hooks.Request = func(procedure, code string, elapsed time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			counts[procedure+" "+code]++
			if elapsed < 0 || elapsed > hangLimit {
				t.Errorf("%s took %v", procedure, elapsed)
			}
		}
		o.Hooks.Stage = func(procedure string, stage server.Stage, _ time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			stages[procedure+" "+stage.String()]++
		}
	})
	alice := e.signIn(t, "alice")[0]
	clients := e.clients(t)
	for _, c := range clients {
		_ = c.call(within(t), tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, textTo("alice", "hi"), &tegamiv1.SendMessageResponse{})
		_ = c.call(within(t), tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, textTo("nobody", "hi"), &tegamiv1.SendMessageResponse{})
		_ = c.call(within(t), tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, textTo("", "hi"), &tegamiv1.SendMessageResponse{})
		_ = c.call(within(t), tegamiv1connect.TalkServiceGetHeadProcedure, "", &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{})
		_ = c.call(within(t), tegamiv1connect.TalkServiceGetHeadProcedure, alice.access, &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{})
	}
	_, _ = post(within(t), e.httpClient(t, 1), e.url()+"/made/up", "application/json", "", strings.NewReader("{}"))
	send, head := tegamiv1connect.TalkServiceSendMessageProcedure, tegamiv1connect.TalkServiceGetHeadProcedure
	// A request is counted after its answer, which the client may have before.
	eventually(t, "all requests are counted", func() bool {
		mu.Lock()
		defer mu.Unlock()
		n := len(clients)
		return counts[send+" ok"] == n && counts[send+" not_found"] == n && counts[send+" invalid_argument"] == n &&
			counts[head+" ok"] == n && counts[head+" unauthenticated"] == n && counts["other unimplemented"] == 1
	})
	mu.Lock()
	defer mu.Unlock()
	for _, stage := range []string{"accepted", "waited", "answered"} {
		if stages[send+" "+stage] == 0 {
			t.Errorf("no send went through the stage %s", stage)
		}
	}
}

// TLS serves HTTP/2 and HTTP/1.1, in every protocol.
func TestTLS(t *testing.T) {
	files := server.TLSFiles{Cert: filepath.Join(t.TempDir(), "cert.pem"), Key: filepath.Join(t.TempDir(), "key.pem")}
	server.WriteTestCertificate(t, files, 1)
	e := start(t, func(o *server.Options) { o.TLS = files })
	e.tls = &tls.Config{InsecureSkipVerify: true}
	alice := e.signIn(t, "alice")[0]
	for _, c := range e.clients(t) {
		if err := c.call(within(t), tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, textTo("alice", "hi"), &tegamiv1.SendMessageResponse{}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		err := c.call(within(t), tegamiv1connect.TalkServiceGetHeadProcedure, "", &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{})
		if f := failureOf(t, err); f.code != "unauthenticated" || f.detail == nil {
			t.Errorf("%s: %v", c.name, f)
		}
	}
	for _, old := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: old, MaxVersion: old}}
		if conn, err := dialer.DialContext(t.Context(), "tcp", e.PublicAddr().String()); err == nil {
			_ = conn.Close()
			t.Errorf("%s is accepted", tls.VersionName(old))
		}
	}
}

// Settings that would be unsafe or could not work are refused.
func TestUnsafeOptionsAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*server.Options)
		want   error
	}{
		"no signing key":              {func(o *server.Options) { o.SigningKey = nil }, nil},
		"no admin token":              {func(o *server.Options) { o.AdminToken = "" }, nil},
		"cleartext on all addresses":  {func(o *server.Options) { o.Listen = "0.0.0.0:0" }, server.ErrCleartext},
		"cleartext on every address":  {func(o *server.Options) { o.Listen = ":0" }, server.ErrCleartext},
		"admin on all addresses":      {func(o *server.Options) { o.AdminListen = "[::]:0" }, server.ErrCleartext},
		"an address without a port":   {func(o *server.Options) { o.Listen = "127.0.0.1" }, server.ErrCleartext},
		"an address that is not ours": {func(o *server.Options) { o.Listen, o.AllowCleartext = "192.0.2.1:0", true }, nil},
		"a certificate without a key": {func(o *server.Options) { o.TLS.Cert = "cert.pem" }, nil},
		"files that are not there":    {func(o *server.Options) { o.TLS = server.TLSFiles{Cert: "none", Key: "none"} }, os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			opts := server.Options{Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", SigningKey: signingKey(), AdminToken: adminToken}
			c.change(&opts)
			s, err := server.New(opts, newFakeTalk())
			if err == nil {
				_ = s.Close()
				t.Fatal("it was accepted")
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// Requests that arrive before Serve wait for it; Close without Serve works too.
func TestCloseWithoutServe(t *testing.T) {
	s, err := server.New(server.Options{Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", SigningKey: signingKey(), AdminToken: adminToken}, newFakeTalk())
	if err != nil {
		t.Fatal(err)
	}
	address := s.PublicAddr().String()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the address is still bound")
	}
}

// A client that does not get on with its handshake holds a place, and one too many
// is closed and counted. The place is free again when it is gone.
func TestHandshakesAreBounded(t *testing.T) {
	files := server.TLSFiles{Cert: filepath.Join(t.TempDir(), "cert.pem"), Key: filepath.Join(t.TempDir(), "key.pem")}
	server.WriteTestCertificate(t, files, 1)
	var shed atomic.Int64
	e := start(t, func(o *server.Options) {
		o.TLS, o.HTTP.MaxHandshakes = files, 1
		o.Hooks.Shed = func(class server.Class) {
			if class == server.Handshakes {
				shed.Add(1)
			}
		}
	})
	silent := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.PublicAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	first := silent()
	defer first.Close()
	eventually(t, "the first is accepted", func() bool { return e.Load() > 0 })
	second := silent()
	defer second.Close()
	_ = second.SetDeadline(time.Now().Add(hangLimit))
	if _, err := second.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one too many: %v", err)
	}
	eventually(t, "it is counted", func() bool { return shed.Load() == 1 })
	_ = first.Close()
	eventually(t, "the place is free", func() bool { return e.Load() == 0 })
	e.tls = &tls.Config{InsecureSkipVerify: true}
	alice := e.signIn(t, "alice")[0]
	for _, c := range e.clients(t)[:1] {
		if err := c.call(within(t), tegamiv1connect.TalkServiceGetHeadProcedure, alice.access, &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{}); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
