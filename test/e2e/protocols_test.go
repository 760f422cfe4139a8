package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

// caller makes one call by some protocol. A refusal is a *process.Error with
// its code and detail, whatever it looks like on the wire.
type caller func(ctx context.Context, procedure, token string, request, response proto.Message) error

// TestProtocols has every kind of client walk through the same conversation,
// over cleartext and over TLS.
func TestProtocols(t *testing.T) {
	plain := start(t)
	certificate := newCertificate(t)
	secure := startTLS(t, certificate)
	for _, client := range []struct {
		name string
		call caller
		// server that the client speaks to.
		server *process.Server
	}{
		{"Connect JSON by hand over h2c", byHand(process.HTTP2(), plain.URL(), true), plain},
		{"Connect binary by hand over h2c", byHand(process.HTTP2(), plain.URL(), false), plain},
		{"Connect JSON by hand over HTTP1", byHand(process.HTTP1(), plain.URL(), true), plain},
		{"Connect binary by hand over HTTP1", byHand(process.HTTP1(), plain.URL(), false), plain},
		{"Connect JSON by hand over TLS", byHand(process.HTTPS(certificate.client()), secure.URL(), true), secure},
		{"connect-go binary", byConnect(process.HTTP2(), plain.URL()), plain},
		{"connect-go JSON", byConnect(process.HTTP2(), plain.URL(), connecthttp.WithProtoJSON()), plain},
		{"connect-go over HTTP1", byConnect(process.HTTP1(), plain.URL()), plain},
		{"connect-go over TLS", byConnect(process.HTTPS(certificate.client()), secure.URL()), secure},
		{"connect-go as gRPC", byConnect(process.HTTP2(), plain.URL(), connecthttp.WithGRPC()), plain},
		{"connect-go as gRPC with JSON", byConnect(process.HTTP2(), plain.URL(), connecthttp.WithGRPC(), connecthttp.WithProtoJSON()), plain},
		{"gRPC-Web", byConnect(process.HTTP2(), plain.URL(), connecthttp.WithGRPCWeb()), plain},
		{"gRPC-Web over HTTP1", byConnect(process.HTTP1(), plain.URL(), connecthttp.WithGRPCWeb()), plain},
		{"gRPC-Web over TLS", byConnect(process.HTTPS(certificate.client()), secure.URL(), connecthttp.WithGRPCWeb()), secure},
		{"grpc-go", byGRPC(t, plain.Address, insecure.NewCredentials()), plain},
		{"grpc-go over TLS", byGRPC(t, secure.Address, credentials.NewTLS(certificate.client())), secure},
		{"curl over h2c", byCurl("2", plain.URL(), "--http2-prior-knowledge"), plain},
		{"curl over HTTP1", byCurl("1.1", plain.URL(), "--http1.1"), plain},
		{"curl over TLS", byCurl("2", secure.URL(), "--http2", "--cacert", certificate.certFile), secure},
		{"curl over TLS and HTTP1", byCurl("1.1", secure.URL(), "--http1.1", "--cacert", certificate.certFile), secure},
	} {
		t.Run(client.name, func(t *testing.T) {
			w := &walk{t: t, server: client.server, call: client.call}
			w.conversation("u-" + strings.ReplaceAll(strings.ToLower(client.name), " ", "-"))
		})
	}
}

// walk is one client's way through the API.
type walk struct {
	t      *testing.T
	server *process.Server
	call   caller
}

func (w *walk) ok(procedure, token string, request, response proto.Message) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), hangLimit)
	defer cancel()
	if err := w.call(ctx, procedure, token, request, response); err != nil {
		w.t.Fatalf("%s: %v", procedure, err)
	}
}

func (w *walk) refused(procedure, token string, request proto.Message, code, reason, field string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), hangLimit)
	defer cancel()
	err := w.call(ctx, procedure, token, request, new(tegamiv1.LogoutResponse))
	refusal, ok := errors.AsType[*process.Error](err)
	if !ok {
		w.t.Fatalf("%s: got %v, want %s", procedure, err, code)
	}
	if refusal.Code != code || reason != "" && refusal.Detail.GetReason() != reason || field != "" && refusal.Detail.GetField() != field {
		w.t.Errorf("%s: got %v, want %s, reason %q, field %q", procedure, refusal, code, reason, field)
	}
}

// conversation uses each method and each kind of answer once.
func (w *walk) conversation(me string) {
	w.t.Helper()
	w.ok(register, "", &tegamiv1.RegisterRequest{UserId: me, Password: password, DisplayName: "Zoë 👩🏽‍🚀"}, new(tegamiv1.RegisterResponse))
	w.refused(register, "", &tegamiv1.RegisterRequest{UserId: me, Password: password}, "already_exists", "user_exists", "")
	w.refused(login, "", &tegamiv1.LoginRequest{UserId: me, Password: "wrong-" + password}, "unauthenticated", "", "")
	signedIn := new(tegamiv1.LoginResponse)
	w.ok(login, "", &tegamiv1.LoginRequest{UserId: me, Password: password, DeviceId: "phone"}, signedIn)
	fresh := new(tegamiv1.RefreshResponse)
	w.ok("AuthService/Refresh", "", &tegamiv1.RefreshRequest{RefreshToken: signedIn.GetRefreshToken()}, fresh)
	token := fresh.GetAccessToken()
	w.refused("TalkService/GetHead", "", &tegamiv1.GetHeadRequest{}, "unauthenticated", "", "")
	w.refused(fetchOps, "nonsense", &tegamiv1.FetchOpsRequest{}, "unauthenticated", "", "")

	// A poll with nothing to answer, and one that is woken.
	empty := new(tegamiv1.FetchOpsResponse)
	w.ok(fetchOps, token, &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(1)}, empty)
	if len(empty.GetOps()) != 0 || empty.GetReason() != timedOut {
		w.t.Errorf("an empty mailbox has %v", empty)
	}
	w.server.CreateUsers(me + ".friend")
	friend := device(w.t, w.server, me+".friend", "phone")
	page, failed := new(tegamiv1.FetchOpsResponse), make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(w.t.Context(), hangLimit)
		defer cancel()
		failed <- w.call(ctx, fetchOps, token, &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(long)}, page)
	}()
	awaitHeld(w.t, w.server, 1)
	hello := text(me, "سلام 👨‍👩‍👧‍👦 é e\u0301\x00")
	if err := friend.Call(w.t.Context(), sendMessage, hello, new(tegamiv1.SendMessageResponse)); err != nil {
		w.t.Fatal(err)
	}
	if err := <-failed; err != nil {
		w.t.Fatalf("held poll: %v", err)
	}
	if len(page.GetOps()) != 1 || page.GetReason() != operations || page.GetRevision() != 1 ||
		page.GetOps()[0].GetReceiveMessage().GetText() != hello.GetText() {
		w.t.Errorf("woken with %v", page)
	}

	// Sends and their retries.
	reply := withID(text(me+".friend", "reply"), "r")
	first, again := new(tegamiv1.SendMessageResponse), new(tegamiv1.SendMessageResponse)
	w.ok(sendMessage, token, reply, first)
	w.ok(sendMessage, token, reply, again)
	if first.GetMessageId() == "" || !proto.Equal(first, again) {
		w.t.Errorf("the retry was answered %v, the first %v", again, first)
	}
	w.refused(sendMessage, token, withID(text(me+".friend", "another"), "r"), "already_exists", "different_body", "")
	w.refused(sendMessage, token, text("nobody", "x"), "not_found", "unknown_recipient", "")
	w.refused(sendMessage, token, text("NOBODY", "x"), "invalid_argument", "", "to")
	w.refused(fetchOps, token, &tegamiv1.FetchOpsRequest{AfterRevision: 99}, "out_of_range", "cursor_ahead", "")
	w.refused(fetchOps, token, &tegamiv1.FetchOpsRequest{Limit: -1}, "invalid_argument", "", "limit")
	large := &tegamiv1.SendMessageRequest_Content{Content: &tegamiv1.Content{MimeType: "a/b", Data: make([]byte, 256<<10)}}
	w.refused(sendMessage, token, &tegamiv1.SendMessageRequest{To: me, Body: large}, "resource_exhausted", "", "")

	// What is there now.
	head := new(tegamiv1.GetHeadResponse)
	w.ok("TalkService/GetHead", token, &tegamiv1.GetHeadRequest{}, head)
	list := new(tegamiv1.ListMessagesResponse)
	w.ok(listMessages, token, &tegamiv1.ListMessagesRequest{Peer: me + ".friend"}, list)
	if head.GetRevision() != 2 || len(list.GetMessages()) != 2 || list.GetMessages()[0].GetMessageId() != first.GetMessageId() {
		w.t.Errorf("head %v, conversation %v", head, list)
	}
	devices := new(tegamiv1.ListDevicesResponse)
	w.ok("AuthService/ListDevices", token, &tegamiv1.ListDevicesRequest{}, devices)
	if len(devices.GetDevices()) != 1 || !devices.GetDevices()[0].GetCurrent() {
		w.t.Errorf("devices %v", devices)
	}
	w.ok("AuthService/RevokeDevice", token, &tegamiv1.RevokeDeviceRequest{DeviceId: "phone"}, new(tegamiv1.RevokeDeviceResponse))
	w.refused("AuthService/Logout", token, &tegamiv1.LogoutRequest{}, "unauthenticated", "", "")
}

// byHand speaks Connect with net/http alone.
func byHand(client *http.Client, url string, json bool) caller {
	return func(ctx context.Context, procedure, token string, request, response proto.Message) error {
		c := &process.Client{HTTP: client, URL: url, Token: token, JSON: json}
		return c.Call(ctx, procedure, request, response)
	}
}

// byConnect uses connect-go.
func byConnect(client *http.Client, url string, options ...connecthttp.Option) caller {
	c := connect.NewClient(connecthttp.NewTransport(client, url, options...))
	return func(ctx context.Context, procedure, token string, request, response proto.Message) error {
		ctx, info := connect.NewClientContext(ctx)
		if token != "" {
			info.RequestHeader().Set("Authorization", "Bearer "+token)
		}
		err := c.CallUnary(ctx, specOf(procedure), request, response)
		failed, ok := errors.AsType[*connect.Error](err)
		if !ok || !failed.IsRemote() {
			return err
		}
		refusal := &process.Error{Code: failed.Code().String(), Message: failed.Message(), Detail: new(tegamiv1.ErrorDetail)}
		for _, detail := range failed.Details() {
			if decoded, err := connectproto.UnmarshalErrorDetail(detail); err != nil {
				return fmt.Errorf("error detail: %w", err)
			} else if detail, ok := decoded.(*tegamiv1.ErrorDetail); ok {
				refusal.Detail = detail
			}
		}
		return refusal
	}
}

// specOf finds a method by its procedure, as generated clients do.
func specOf(procedure string) connect.Spec {
	spec := connect.Spec{StreamType: connect.StreamTypeUnary, Procedure: "/tegami.v1." + procedure}
	name := protoreflect.FullName(strings.ReplaceAll("tegami.v1."+procedure, "/", "."))
	if method, err := protoregistry.GlobalFiles.FindDescriptorByName(name); err == nil {
		spec.Schema = method
	}
	return spec
}

// byGRPC uses grpc-go.
func byGRPC(t *testing.T, address string, transport credentials.TransportCredentials) caller {
	t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return func(ctx context.Context, procedure, token string, request, response proto.Message) error {
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		err := connection.Invoke(ctx, "/tegami.v1."+procedure, request, response)
		failed, ok := status.FromError(err)
		if err == nil || !ok {
			return err
		}
		refusal := &process.Error{Code: codeWord(failed.Code()), Message: failed.Message(), Detail: new(tegamiv1.ErrorDetail)}
		for _, detail := range failed.Details() {
			if detail, ok := detail.(*tegamiv1.ErrorDetail); ok {
				refusal.Detail = detail
			}
		}
		return refusal
	}
}

// codeWord writes a code as Connect does: AlreadyExists is already_exists.
func codeWord(code codes.Code) string {
	var b strings.Builder
	for i, r := range code.String() {
		if r >= 'A' && r <= 'Z' && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// byCurl runs curl, which must speak the given version of HTTP.
func byCurl(version, url string, flags ...string) caller {
	return func(ctx context.Context, procedure, token string, request, response proto.Message) error {
		body, err := protojson.Marshal(request)
		if err != nil {
			return err
		}
		arguments := append([]string{
			"--silent", "--show-error", "--data-binary", "@-", "--header", "Content-Type: application/json",
			"--write-out", "\n%{http_code} %{http_version}",
		}, flags...)
		if token != "" {
			arguments = append(arguments, "--header", "Authorization: Bearer "+token)
		}
		command := exec.CommandContext(ctx, "curl", append(arguments, url+"/tegami.v1."+procedure)...)
		command.Stdin = bytes.NewReader(body)
		var complaint strings.Builder
		command.Stderr = &complaint
		output, err := command.Output()
		if err != nil {
			return fmt.Errorf("curl: %w: %s (%q)", err, complaint.String(), output)
		}
		end := bytes.LastIndexByte(output, '\n')
		var code int
		var spoken string
		if _, err := fmt.Sscan(string(output[end+1:]), &code, &spoken); err != nil {
			return err
		}
		if spoken != version {
			return fmt.Errorf("curl spoke HTTP/%s, want %s", spoken, version)
		}
		return process.ReadBody(code, output[:end], response)
	}
}

// startTLS runs a server with a certificate.
func startTLS(t *testing.T, c *certificate) *process.Server {
	t.Helper()
	server := process.Start(t, process.Options{
		Binary: process.Build(t, "-race"), TLS: c.client(),
		Config: fmt.Sprintf("tls: {cert: %q, key: %q}\n", c.certFile, c.keyFile),
	})
	conclude(t, server)
	return server
}

func TestTLS(t *testing.T) {
	c := newCertificate(t)
	server := startTLS(t, c)

	plain := &process.Client{HTTP: process.HTTP1(), URL: "http://" + server.Address, JSON: true}
	if err := plain.Call(t.Context(), "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, new(tegamiv1.GetHeadResponse)); err == nil {
		t.Error("a server with TLS answers in cleartext")
	} else if _, ok := errors.AsType[*process.Error](err); ok {
		t.Errorf("a server with TLS refuses in cleartext, by the protocol: %v", err)
	}

	for name, version := range map[string]uint16{"TLS 1.0": tls.VersionTLS10, "TLS 1.1": tls.VersionTLS11} {
		config := c.client()
		config.MinVersion, config.MaxVersion = version, version
		dialer := tls.Dialer{Config: config}
		if connection, err := dialer.DialContext(t.Context(), "tcp", server.Address); err == nil {
			connection.Close()
			t.Errorf("the server speaks %s", name)
		}
	}
}
