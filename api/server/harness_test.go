package server_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/api/auth"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/limit"
	"github.com/tegami-im/tegami/api/server"
)

const (
	adminToken = "an-admin-token-for-tests" //nolint:gosec // G101: made up here
	// hangLimit ends a test that waits for what never comes.
	hangLimit = 20 * time.Second
)

// signingKey is made once: the tests of foreign keys make another.
var signingKey = sync.OnceValue(func() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// env is a server on real sockets before a fake talk tier.
type env struct {
	*server.Server
	talk *fakeTalk
	logs *lockedBuffer
	tls  *tls.Config // of clients; nil in cleartext
}

// lockedBuffer collects what is logged.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// start serves until the test ends. change adjusts the options, or is nil.
func start(t testing.TB, change func(*server.Options)) *env {
	t.Helper()
	e := &env{talk: newFakeTalk(), logs: &lockedBuffer{}}
	opts := server.Options{
		Listen:      "127.0.0.1:0",
		AdminListen: "127.0.0.1:0",
		SigningKey:  signingKey(),
		AdminToken:  adminToken,
		Limits:      server.Limits{Sends: limit.Rate{PerSecond: -1}, Polls: limit.Rate{PerSecond: -1}, Finds: limit.Rate{PerSecond: -1}},
		Passwords:   server.PasswordOptions{Wait: hangLimit},
		Logger:      slog.New(slog.NewJSONHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&opts)
	}
	var err error
	if e.Server, err = server.New(opts, e.talk); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve() }()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return e
}

func (e *env) url() string {
	if e.tls != nil {
		return "https://" + e.PublicAddr().String()
	}
	return "http://" + e.PublicAddr().String()
}

func (e *env) adminURL() string { return "http://" + e.AdminAddr().String() }

// urlOf returns where a procedure is served.
func (e *env) urlOf(procedure string) string {
	if strings.Contains(procedure, "AdminService") {
		return e.adminURL()
	}
	return e.url()
}

// httpClient returns a client that speaks HTTP/1.1 or HTTP/2 only.
func (e *env) httpClient(t testing.TB, major int) *http.Client {
	protocols := new(http.Protocols)
	if major == 1 {
		protocols.SetHTTP1(true)
	} else {
		protocols.SetHTTP2(true)
		protocols.SetUnencryptedHTTP2(true)
	}
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: e.tls.Clone()}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// failed is the error of a call as a client sees it.
type failed struct {
	code       string
	text       string
	detail     *tegamiv1.ErrorDetail // nil when the server sent none
	retryAfter string                // the header
}

func (f *failed) Error() string {
	return f.code + ": " + f.text + " " + f.detail.String()
}

// client makes calls in one protocol and encoding over one version of HTTP.
type client struct {
	name string
	call func(ctx context.Context, procedure, token string, request, response proto.Message) error
}

// clients returns a client of every kind.
func (e *env) clients(t testing.TB) []client {
	kinds := []struct {
		name  string
		major int
		opts  []connecthttp.Option
	}{
		{"Connect binary over HTTP/2", 2, nil},
		{"Connect binary over HTTP/1.1", 1, nil},
		{"Connect JSON over HTTP/2", 2, []connecthttp.Option{connecthttp.WithProtoJSON()}},
		{"Connect JSON over HTTP/1.1", 1, []connecthttp.Option{connecthttp.WithProtoJSON()}},
		{"gRPC", 2, []connecthttp.Option{connecthttp.WithGRPC()}},
		{"gRPC JSON", 2, []connecthttp.Option{connecthttp.WithGRPC(), connecthttp.WithProtoJSON()}},
		{"gRPC-Web over HTTP/2", 2, []connecthttp.Option{connecthttp.WithGRPCWeb()}},
		{"gRPC-Web over HTTP/1.1", 1, []connecthttp.Option{connecthttp.WithGRPCWeb()}},
	}
	var all []client
	for _, kind := range kinds {
		all = append(all, e.connectClient(t, kind.name, kind.major, kind.opts...))
	}
	all = append(all, e.jsonClient(t))
	if e.tls == nil {
		all = append(all, e.grpcClient(t))
	}
	return all
}

// connectClient calls through Connect's own client.
func (e *env) connectClient(t testing.TB, name string, major int, opts ...connecthttp.Option) client {
	httpClient := e.httpClient(t, major)
	call := func(ctx context.Context, procedure, token string, request, response proto.Message) error {
		ctx, info := connect.NewClientContext(ctx)
		if token != "" {
			info.RequestHeader().Set("Authorization", "Bearer "+token)
		}
		rpc := connect.NewClient(connecthttp.NewTransport(httpClient, e.urlOf(procedure), opts...))
		err := rpc.CallUnary(ctx, connect.Spec{StreamType: connect.StreamTypeUnary, Procedure: procedure}, request, response)
		if err == nil {
			return nil
		}
		cerr, ok := errors.AsType[*connect.Error](err)
		if !ok {
			return err
		}
		result := &failed{code: cerr.Code().String(), text: cerr.Message()}
		result.retryAfter = info.ResponseHeader().Get("Retry-After")
		if result.retryAfter == "" {
			result.retryAfter = info.ResponseTrailer().Get("Retry-After")
		}
		for _, detail := range cerr.Details() {
			if detail.Type == "tegami.v1.ErrorDetail" {
				result.detail = &tegamiv1.ErrorDetail{}
				if err := proto.Unmarshal(detail.Value, result.detail); err != nil {
					return err
				}
			}
		}
		return result
	}
	return client{name: name, call: call}
}

// grpcClient calls through grpc-go, without generated stubs.
func (e *env) grpcClient(t testing.TB) client {
	conns := map[string]*grpc.ClientConn{}
	for _, address := range []net.Addr{e.PublicAddr(), e.AdminAddr()} {
		conn, err := grpc.NewClient(address.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns["http://"+address.String()] = conn
	}
	call := func(ctx context.Context, procedure, token string, request, response proto.Message) error {
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		var header, trailer metadata.MD
		err := conns[e.urlOf(procedure)].Invoke(ctx, procedure, request, response, grpc.Header(&header), grpc.Trailer(&trailer))
		if err == nil {
			return nil
		}
		s := status.Convert(err)
		result := &failed{code: connect.Code(s.Code()).String(), text: s.Message()}
		if after := append(header.Get("retry-after"), trailer.Get("retry-after")...); len(after) > 0 {
			result.retryAfter = after[0]
		}
		for _, detail := range s.Details() {
			if d, ok := detail.(*tegamiv1.ErrorDetail); ok {
				result.detail = d
			}
		}
		return result
	}
	return client{name: "grpc-go", call: call}
}

// jsonClient calls like a script would: a POST with JSON over HTTP/1.1.
func (e *env) jsonClient(t testing.TB) client {
	httpClient := e.httpClient(t, 1)
	call := func(ctx context.Context, procedure, token string, request, response proto.Message) error {
		body, err := protojson.Marshal(request)
		if err != nil {
			return err
		}
		var headers []string
		if deadline, ok := ctx.Deadline(); ok {
			headers = []string{"Connect-Timeout-Ms", strconv.FormatInt(time.Until(deadline).Milliseconds(), 10)}
		}
		answer, err := post(ctx, httpClient, e.urlOf(procedure)+procedure, "application/json", token, bytes.NewReader(body), headers...)
		if err != nil {
			return err
		}
		if err := answer.failure(); err != nil {
			return err
		}
		return protojson.Unmarshal(answer.body, response)
	}
	return client{name: "plain POST", call: call}
}

// answer is an HTTP response read to its end.
type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	body    []byte
}

func post(ctx context.Context, c *http.Client, url, contentType, token string, body io.Reader, headers ...string) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", contentType)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return do(c, request)
}

func do(c *http.Client, request *http.Request) (*answer, error) {
	response, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return &answer{status: response.StatusCode, header: response.Header, trailer: response.Trailer, body: content}, err
}

// failure returns the error that the answer is in Connect's protocol, or nil
// for one that succeeded.
func (a *answer) failure() error {
	if a.status == http.StatusOK {
		return nil
	}
	var wire struct {
		Code    string
		Message string
		Details []struct{ Type, Value string }
	}
	if err := json.Unmarshal(a.body, &wire); err != nil {
		return errors.New("status " + http.StatusText(a.status) + " with the body " + string(a.body))
	}
	result := &failed{code: wire.Code, text: wire.Message, retryAfter: a.header.Get("Retry-After")}
	for _, detail := range wire.Details {
		value, err := base64.RawStdEncoding.DecodeString(detail.Value)
		if err != nil {
			return err
		}
		result.detail = &tegamiv1.ErrorDetail{}
		if err := proto.Unmarshal(value, result.detail); err != nil {
			return err
		}
	}
	return result
}

// device is a signed-in device.
type device struct {
	user, id, access, refresh string
}

// signIn makes users and signs a device of each in, by the admin calls.
func (e *env) signIn(t testing.TB, users ...string) []device {
	t.Helper()
	c := e.connectClient(t, "admin", 2)
	create := &tegamiv1.CreateUsersRequest{}
	for _, user := range users {
		create.Users = append(create.Users, &tegamiv1.NewUser{UserId: user})
	}
	if err := c.call(t.Context(), tegamiv1connect.AdminServiceCreateUsersProcedure, adminToken, create, &tegamiv1.CreateUsersResponse{}); err != nil {
		t.Fatal(err)
	}
	var devices []device
	for _, user := range users {
		var issued tegamiv1.IssueTokenResponse
		if err := c.call(t.Context(), tegamiv1connect.AdminServiceIssueTokenProcedure, adminToken,
			&tegamiv1.IssueTokenRequest{UserId: user, DeviceId: "phone"}, &issued); err != nil {
			t.Fatal(err)
		}
		devices = append(devices, device{user, issued.GetDeviceId(), issued.GetAccessToken(), issued.GetRefreshToken()})
	}
	return devices
}

// failureOf returns the failure that err is, and ends the test if it is none.
func failureOf(t testing.TB, err error) *failed {
	t.Helper()
	f, ok := errors.AsType[*failed](err)
	if !ok {
		t.Fatalf("got %v, want an error answer of the server", err)
	}
	return f
}

// within returns a context that ends a test that hangs.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
	t.Cleanup(cancel)
	return ctx
}

// tokensUnder issues tokens under another key or with other options.
func tokensUnder(t testing.TB, key ed25519.PrivateKey, opts auth.TokenOptions) *auth.Tokens {
	t.Helper()
	tokens, err := auth.NewTokens(key, opts)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}
