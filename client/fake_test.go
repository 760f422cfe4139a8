package client_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/client"
)

// fakeServer answers calls from memory. One mailbox, no passwords but
// "secret", tokens that count up. It is an http.RoundTripper as well, so that a
// test may run in a synctest bubble.
type fakeServer struct {
	// fault, when set, is asked before each call what goes wrong with it.
	fault func(method string, n int) fault
	// tokenLife is how long access tokens are good for; an hour when zero.
	tokenLife time.Duration

	mu        sync.Mutex // guards the following
	calls     map[string]int
	times     map[string][]time.Time
	ops       []*tegamiv1.Operation
	sent      map[string]*tegamiv1.SendMessageResponse // by client message id
	grown     chan struct{}
	issued    int
	expire    time.Time
	refreshes int
}

// fault is what goes wrong with a call.
type fault struct {
	refuse  *tegamiv1.ErrorDetail
	code    client.Code
	status  int
	page    *tegamiv1.FetchOpsResponse
	lost    bool // the call happens, its answer does not arrive
	offline bool // the call does not happen
	header  http.Header
	gateway bool // a proxy answers with HTML
}

func newFakeServer() *fakeServer {
	return &fakeServer{
		calls: make(map[string]int),
		times: make(map[string][]time.Time),
		sent:  make(map[string]*tegamiv1.SendMessageResponse),
		grown: make(chan struct{}),
	}
}

func (f *fakeServer) client() *http.Client { return &http.Client{Transport: f} }

// login signs alice in. It makes call 0 of Login.
func (f *fakeServer) login(opts ...client.Option) (*client.Client, error) {
	opts = append(opts, client.WithHTTPClient(f.client()))
	return client.Login(context.Background(), "http://fake", "alice", "secret", opts...)
}

// RoundTrip serves a request in place of a network.
func (f *fakeServer) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	method := r.URL.Path[len("/tegami.v1."):]
	n := f.calls[method]
	f.calls[method]++
	f.times[method] = append(f.times[method], time.Now())
	f.mu.Unlock()
	var wrong fault
	if f.fault != nil {
		wrong = f.fault(method, n)
	}
	if wrong.offline {
		return nil, errors.New("connection refused")
	}
	w := httptest.NewRecorder()
	switch {
	case wrong.gateway:
		maps.Copy(w.Header(), wrong.header)
		w.WriteHeader(wrong.status)
		_, _ = io.WriteString(w, "<html>")
	case wrong.code != "":
		refuse(w, wrong.code, wrong.refuse)
	case wrong.page != nil:
		answer(w, wrong.page)
	default:
		f.ServeHTTP(w, r)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if wrong.lost {
		return nil, io.ErrUnexpectedEOF
	}
	return w.Result(), nil
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	open := map[string]func(http.ResponseWriter, []byte){
		"/tegami.v1.AuthService/Register":     func(w http.ResponseWriter, _ []byte) { answer(w, &tegamiv1.RegisterResponse{}) },
		"/tegami.v1.AuthService/Login":        f.loginCall,
		"/tegami.v1.AuthService/Refresh":      f.refreshCall,
		"/tegami.v1.AdminService/CreateUsers": f.createCall,
	}
	if call, ok := open[r.URL.Path]; ok {
		call(w, body)
		return
	}
	if !f.authenticated(r) {
		refuse(w, client.CodeUnauthenticated, &tegamiv1.ErrorDetail{Reason: "expired"})
		return
	}
	switch r.URL.Path {
	case "/tegami.v1.TalkService/SendMessage":
		f.sendCall(w, body)
	case "/tegami.v1.TalkService/FetchOps":
		f.fetchCall(r.Context(), w, body)
	case "/tegami.v1.TalkService/GetHead":
		f.mu.Lock()
		defer f.mu.Unlock()
		answer(w, &tegamiv1.GetHeadResponse{Revision: int64(len(f.ops)), FirstRevision: 1})
	default:
		refuse(w, client.CodeUnimplemented, nil)
	}
}

func (f *fakeServer) authenticated(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return r.Header.Get("Authorization") == fmt.Sprintf("Bearer access-%d", f.issued) && time.Now().Before(f.expire)
}

// issue makes the tokens of a session. The caller holds f.mu.
func (f *fakeServer) issue() *tegamiv1.LoginResponse {
	life := f.tokenLife
	if life == 0 {
		life = time.Hour
	}
	f.issued++
	f.expire = time.Now().Add(life)
	return &tegamiv1.LoginResponse{
		AccessToken:  fmt.Sprintf("access-%d", f.issued),
		RefreshToken: fmt.Sprintf("refresh-%d", f.issued),
		ExpireTime:   timestamppb.New(f.expire),
		DeviceId:     "phone",
	}
}

func (f *fakeServer) loginCall(w http.ResponseWriter, body []byte) {
	var request tegamiv1.LoginRequest
	_ = proto.Unmarshal(body, &request)
	user := request.GetUserId()
	if request.GetIdToken() == "token of alice" {
		user = "alice"
	} else if request.GetPassword() != "secret" {
		refuse(w, client.CodeUnauthenticated, &tegamiv1.ErrorDetail{Reason: "bad_credentials"})
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	issued := f.issue()
	issued.UserId = user
	answer(w, issued)
}

func (f *fakeServer) refreshCall(w http.ResponseWriter, body []byte) {
	var request tegamiv1.RefreshRequest
	_ = proto.Unmarshal(body, &request)
	f.mu.Lock()
	defer f.mu.Unlock()
	if request.GetRefreshToken() != fmt.Sprintf("refresh-%d", f.issued) {
		refuse(w, client.CodeUnauthenticated, &tegamiv1.ErrorDetail{Reason: "token_reused"})
		return
	}
	f.refreshes++
	answer(w, f.issue()) // but for the user, LoginResponse and RefreshResponse have the same fields
}

func (f *fakeServer) createCall(w http.ResponseWriter, _ []byte) {
	answer(w, &tegamiv1.CreateUsersResponse{Created: 1, Existing: []string{"bob"}})
}

// sendCall delivers to the mailbox of the sender: enough for a client.
func (f *fakeServer) sendCall(w http.ResponseWriter, body []byte) {
	var request tegamiv1.SendMessageRequest
	_ = proto.Unmarshal(body, &request)
	f.mu.Lock()
	defer f.mu.Unlock()
	response, ok := f.sent[request.GetClientMessageId()]
	if !ok {
		response = &tegamiv1.SendMessageResponse{
			MessageId:  fmt.Sprintf("message-%d", len(f.sent)+1),
			CreateTime: timestamppb.Now(),
		}
		f.sent[request.GetClientMessageId()] = response
		f.deliver(request.GetText())
	}
	answer(w, response)
}

// deliver adds an operation. The caller holds f.mu.
func (f *fakeServer) deliver(text string) {
	f.ops = append(f.ops, &tegamiv1.Operation{
		Revision: int64(len(f.ops)) + 1,
		Kind: &tegamiv1.Operation_ReceiveMessage{ReceiveMessage: &tegamiv1.Message{
			From: "bob", To: "alice", Body: &tegamiv1.Message_Text{Text: text},
		}},
	})
	close(f.grown)
	f.grown = make(chan struct{})
}

func (f *fakeServer) fetchCall(ctx context.Context, w http.ResponseWriter, body []byte) {
	var request tegamiv1.FetchOpsRequest
	_ = proto.Unmarshal(body, &request)
	timeout := time.NewTimer(request.GetTimeout().AsDuration())
	defer timeout.Stop()
	for {
		f.mu.Lock()
		ops, grown := f.ops[min(request.GetAfterRevision(), int64(len(f.ops))):], f.grown
		f.mu.Unlock()
		if len(ops) > 0 {
			answer(w, &tegamiv1.FetchOpsResponse{Ops: ops, Revision: ops[len(ops)-1].GetRevision(), Reason: tegamiv1.FetchOpsResponse_OPERATIONS})
			return
		}
		select {
		case <-grown:
		case <-timeout.C:
			answer(w, &tegamiv1.FetchOpsResponse{Revision: request.GetAfterRevision(), Reason: tegamiv1.FetchOpsResponse_TIMEOUT})
			return
		case <-ctx.Done():
			return
		}
	}
}

func (f *fakeServer) count(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

func answer(w http.ResponseWriter, message proto.Message) {
	encoded, _ := proto.Marshal(message)
	w.Header().Set("Content-Type", "application/proto")
	_, _ = w.Write(encoded)
}

var statusOf = map[client.Code]int{
	client.CodeUnauthenticated: 401, client.CodeUnavailable: 503, client.CodeResourceExhausted: 429,
	client.CodeNotFound: 404, client.CodeOutOfRange: 400, client.CodeUnimplemented: 501,
}

func refuse(w http.ResponseWriter, code client.Code, detail *tegamiv1.ErrorDetail) {
	type wireDetail struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	body := struct {
		Code    client.Code  `json:"code"`
		Message string       `json:"message"`
		Details []wireDetail `json:"details,omitempty"`
	}{Code: code, Message: "no"}
	if detail != nil {
		encoded, _ := proto.Marshal(detail)
		body.Details = []wireDetail{{"tegami.v1.ErrorDetail", base64.RawStdEncoding.EncodeToString(encoded)}}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf[code])
	_ = json.NewEncoder(w).Encode(body)
}

func after(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
