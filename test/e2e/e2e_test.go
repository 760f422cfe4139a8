// Package e2e uses a real server as clients do: over sockets, by every
// protocol, knowing nothing but the public API. The server is built with the
// race detector.
package e2e

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

func TestMain(m *testing.M) { process.Main(m) }

// hangLimit is far above what any call here takes.
const hangLimit = 50 * time.Second

// secret is in every body and every password of these tests, and in no log.
const secret = "geheim"

// token is what an access token looks like.
var token = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]*`)

// start runs a server. At the end of the test it is stopped as an operator
// does, which must go well, and its log must be free of errors and of secrets.
func start(t *testing.T, config ...string) *process.Server {
	t.Helper()
	server := process.Start(t, process.Options{Binary: process.Build(t, "-race"), Config: strings.Join(config, "\n") + "\n"})
	conclude(t, server)
	return server
}

func conclude(t *testing.T, server *process.Server) {
	t.Helper()
	t.Cleanup(func() {
		if server.Running() {
			server.Signal(syscall.SIGTERM)
			if code := server.Exit(); code != 0 {
				t.Errorf("exit code %d after SIGTERM", code)
			}
		}
		for _, complaint := range server.Complaints() {
			t.Errorf("the server complained: %s", complaint)
		}
		if log := server.Log(); strings.Contains(log, secret) {
			t.Errorf("the log holds a body or a password:\n%s", log)
		} else if found := token.FindString(log); found != "" {
			t.Errorf("the log holds a token: %s", found)
		}
	})
}

// user is one device of one user.
type user struct {
	*process.Client

	t    *testing.T
	name string
}

// signIn makes users, when they are new, and signs a device of each in.
func signIn(t *testing.T, server *process.Server, names ...string) []user {
	t.Helper()
	server.CreateUsers(names...)
	users := make([]user, len(names))
	for i, name := range names {
		users[i] = device(t, server, name, "phone")
	}
	return users
}

// device signs one more device of a user in.
func device(t *testing.T, server *process.Server, name, id string) user {
	t.Helper()
	return user{Client: server.Device(name, id), t: t, name: name}
}

// text makes the request that sends a text, with a secret in it.
func text(to, body string) *tegamiv1.SendMessageRequest {
	return &tegamiv1.SendMessageRequest{To: to, Body: &tegamiv1.SendMessageRequest_Text{Text: secret + " " + body}}
}

func withID(request *tegamiv1.SendMessageRequest, id string) *tegamiv1.SendMessageRequest {
	request.ClientMessageId = id
	return request
}

// call makes a call that must succeed.
func call[Response proto.Message](u user, procedure string, request proto.Message, response Response) Response {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), hangLimit)
	defer cancel()
	if err := u.Call(ctx, procedure, request, response); err != nil {
		u.t.Fatalf("%s: %s: %v", u.name, procedure, err)
	}
	return response
}

func (u user) send(request *tegamiv1.SendMessageRequest) *tegamiv1.SendMessageResponse {
	u.t.Helper()
	return call(u, "TalkService/SendMessage", request, new(tegamiv1.SendMessageResponse))
}

// fetch asks for what is after a revision, without being held.
func (u user) fetch(after int64) *tegamiv1.FetchOpsResponse {
	u.t.Helper()
	return call(u, "TalkService/FetchOps", &tegamiv1.FetchOpsRequest{AfterRevision: after, Limit: 1000}, new(tegamiv1.FetchOpsResponse))
}

func (u user) head() int64 {
	u.t.Helper()
	return call(u, "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, new(tegamiv1.GetHeadResponse)).GetRevision()
}

// refused makes a call that must be refused, and returns how it was.
func refused(u user, procedure string, request proto.Message) *process.Error {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), hangLimit)
	defer cancel()
	err := u.Call(ctx, procedure, request, new(tegamiv1.LogoutResponse)) // Any empty message reads any answer.
	refusal, ok := errors.AsType[*process.Error](err)
	if !ok {
		u.t.Fatalf("%s: %s: got %v, want a refusal", u.name, procedure, err)
	}
	return refusal
}

// want fails unless a refusal has a code and a reason.
func want(t *testing.T, refusal *process.Error, code, reason string) {
	t.Helper()
	if refusal.Code != code || refusal.Detail.GetReason() != reason {
		t.Errorf("got %v, want %s with reason %q", refusal, code, reason)
	}
	if status := httpStatus[refusal.Code]; refusal.Status != status {
		t.Errorf("%s came with status %d, want %d", refusal.Code, refusal.Status, status)
	}
}

// httpStatus is the table of the Connect protocol.
var httpStatus = map[string]int{
	"invalid_argument": 400, "not_found": 404, "already_exists": 409, "permission_denied": 403,
	"resource_exhausted": 429, "aborted": 409, "out_of_range": 400, "unimplemented": 501,
	"internal": 500, "unavailable": 503, "unauthenticated": 401,
}

// held is a poll under way.
type held struct {
	t       *testing.T
	answers chan answer
}

type answer struct {
	page *tegamiv1.FetchOpsResponse
	err  error
}

// poll asks to be held. It returns at once; awaitHeld waits until the server
// has it.
func (u user) poll(after int64, timeout time.Duration) *held {
	return u.hold(&tegamiv1.FetchOpsRequest{AfterRevision: after, Timeout: durationpb.New(timeout)})
}

func (u user) hold(request *tegamiv1.FetchOpsRequest) *held {
	h := &held{t: u.t, answers: make(chan answer, 1)}
	go func() {
		ctx, cancel := context.WithTimeout(u.t.Context(), request.GetTimeout().AsDuration()+hangLimit)
		defer cancel()
		page := new(tegamiv1.FetchOpsResponse)
		err := u.Call(ctx, "TalkService/FetchOps", request, page)
		h.answers <- answer{page, err}
	}()
	return h
}

// wait returns the answer to a poll, which must come long before the poll's
// own time is over.
func (h *held) wait() (*tegamiv1.FetchOpsResponse, error) {
	h.t.Helper()
	select {
	case a := <-h.answers:
		return a.page, a.err
	case <-time.After(hangLimit):
		h.t.Fatalf("the poll was not answered within %v", hangLimit)
		return nil, nil
	}
}

// page waits for an answer that must be a page with a reason.
func (h *held) page(reason tegamiv1.FetchOpsResponse_Reason) *tegamiv1.FetchOpsResponse {
	h.t.Helper()
	page, err := h.wait()
	if err != nil {
		h.t.Fatal(err)
	}
	if page.GetReason() != reason {
		h.t.Fatalf("the poll ended with %v and %d operations, want %v", page.GetReason(), len(page.GetOps()), reason)
	}
	return page
}

// refusal waits for an answer that must be a refusal.
func (h *held) refusal() *process.Error {
	h.t.Helper()
	_, err := h.wait()
	refusal, ok := errors.AsType[*process.Error](err)
	if !ok {
		h.t.Fatalf("got %v, want a refusal", err)
	}
	return refusal
}

// open fails when the poll was answered already.
func (h *held) open() {
	h.t.Helper()
	select {
	case a := <-h.answers:
		h.t.Fatalf("the poll was answered: %v, %v", a.page, a.err)
	default:
	}
}

// awaitHeld waits until the server holds so many polls.
func awaitHeld(t *testing.T, server *process.Server, count int) {
	t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	hang := time.After(hangLimit)
	for server.Metric("tegami_polls_held") != float64(count) {
		select {
		case <-look.C:
		case <-hang:
			t.Fatalf("%v polls held, want %d", server.Metric("tegami_polls_held"), count)
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s: %s", url, response.Status, body)
	}
	return string(body)
}

// texts are the bodies of the messages of a page, in order.
func texts(page *tegamiv1.FetchOpsResponse) []string {
	var out []string
	for _, op := range page.GetOps() {
		out = append(out, strings.TrimPrefix(message(op).GetText(), secret+" "))
	}
	return out
}

// message is the message that an operation carries.
func message(op *tegamiv1.Operation) *tegamiv1.Message {
	if m := op.GetReceiveMessage(); m != nil {
		return m
	}
	return op.GetSendMessage()
}
