package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// fakeServer answers like a Tegami server that keeps everything in memory,
// and does wrong what a test has it do wrong.
type fakeServer struct {
	url    string
	fsyncs float64 // grows by this with each message

	mu        sync.Mutex
	mailboxes map[string]*fakeMailbox
	sends     int
	// deliver puts a message into the recipient's mailbox; nil: as it should.
	deliver deliver
	// refuse names the code that a send is refused with; nil: none is.
	refuse func(number int) string
	// wake wakes the polls of a mailbox; nil: as it should.
	wake func(number int) bool
	// supersede is how many reads of each mailbox, polls that are not to be held,
	// end as if a newer poll had come.
	supersede int
	// keep makes a message durable; nil: nothing is.
	keep func(*tegamiv1.Message)
}

// deliver puts the nth message into its recipient's mailbox, or does not.
type deliver func(number int, box *fakeMailbox, op *tegamiv1.Operation)

// fakeMailbox is guarded by its server.
type fakeMailbox struct {
	ops        []*tegamiv1.Operation
	changed    chan struct{} // closed and replaced when there are more
	superseded int           // reads that ended so
}

func newFakeMailbox() *fakeMailbox { return &fakeMailbox{changed: make(chan struct{})} }

// add appends an operation with the next revision.
func (b *fakeMailbox) add(op *tegamiv1.Operation) {
	op = proto.Clone(op).(*tegamiv1.Operation)
	op.Revision = int64(len(b.ops)) + 1
	b.ops = append(b.ops, op)
}

func (b *fakeMailbox) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func startFake(t *testing.T) *fakeServer {
	t.Helper()
	f := newFake()
	server := httptest.NewUnstartedServer(f.handler())
	server.Config.Protocols = fakeProtocols()
	server.Start()
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func newFake() *fakeServer { return &fakeServer{mailboxes: map[string]*fakeMailbox{}} }

func fakeProtocols() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	protocols.SetHTTP1(true)
	return protocols
}

func (f *fakeServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /tegami.v1.AdminService/CreateUsers", f.createUsers)
	mux.HandleFunc("POST /tegami.v1.AdminService/IssueToken", f.issueToken)
	mux.HandleFunc("GET /metrics", f.metrics)
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /debug/free-memory", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST "+sendPath, f.send)
	mux.HandleFunc("POST "+fetchPath, f.fetch)
	return mux
}

// config runs a scenario against the fake.
func (f *fakeServer) config(scenario Scenario) Config {
	return Config{
		Server: Server{URL: f.url, Admin: f.url, AdminToken: "admin"}, Scenario: scenario,
		WakeLimit: 500 * time.Millisecond,
	}
}

func decode[M proto.Message](w http.ResponseWriter, r *http.Request, into M) bool {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, into)
	}
	if err != nil || r.Header.Get("Content-Type") != "application/proto" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return false
	}
	return true
}

func answer(w http.ResponseWriter, message proto.Message) {
	body, _ := proto.Marshal(message)
	w.Header().Set("Content-Type", "application/proto")
	_, _ = w.Write(body)
}

func (f *fakeServer) createUsers(w http.ResponseWriter, r *http.Request) {
	request := &tegamiv1.CreateUsersRequest{}
	if !decode(w, r, request) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, user := range request.Users {
		f.mailboxes[user.UserId] = newFakeMailbox()
	}
	answer(w, &tegamiv1.CreateUsersResponse{Created: int32(len(request.Users))})
}

func (f *fakeServer) issueToken(w http.ResponseWriter, r *http.Request) {
	request := &tegamiv1.IssueTokenRequest{}
	if !decode(w, r, request) {
		return
	}
	answer(w, &tegamiv1.IssueTokenResponse{AccessToken: request.UserId})
}

func (f *fakeServer) metrics(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(w, "process_cpu_seconds_total %v\n", float64(f.sends)*100e-6)
	fmt.Fprintf(w, "tegami_fsyncs_total %v\n", float64(f.sends)*f.fsyncs)
	fmt.Fprintf(w, "process_resident_memory_bytes %v\n", 1<<20+1000*len(f.mailboxes))
}

// caller is who sends a request: the token is the name.
func caller(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func (f *fakeServer) send(w http.ResponseWriter, r *http.Request) {
	request := &tegamiv1.SendMessageRequest{}
	if !decode(w, r, request) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sends++
	if f.refuse != nil {
		if code := f.refuse(f.sends); code != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(map[string]string{"code": code})
			return
		}
	}
	message := &tegamiv1.Message{
		MessageId: fmt.Sprint(f.sends), From: caller(r), To: request.To,
		Body: &tegamiv1.Message_Text{Text: request.GetText()}, ClientMessageId: request.ClientMessageId,
	}
	sender, recipient := f.mailboxes[message.From], f.mailboxes[message.To]
	if sender == nil || recipient == nil {
		http.Error(w, "unknown user", http.StatusNotFound)
		return
	}
	received := receive(message)
	if f.deliver == nil {
		recipient.add(received)
	} else {
		f.deliver(f.sends, recipient, received)
	}
	sender.add(sent(message))
	if f.keep != nil {
		f.keep(message)
	}
	if f.wake == nil || f.wake(f.sends) {
		recipient.wake()
	}
	answer(w, &tegamiv1.SendMessageResponse{MessageId: message.MessageId, CreateTime: timestamppb.Now()})
}

func receive(message *tegamiv1.Message) *tegamiv1.Operation {
	return &tegamiv1.Operation{Kind: &tegamiv1.Operation_ReceiveMessage{ReceiveMessage: message}}
}

func sent(message *tegamiv1.Message) *tegamiv1.Operation {
	return &tegamiv1.Operation{Kind: &tegamiv1.Operation_SendMessage{SendMessage: message}}
}

func (f *fakeServer) fetch(w http.ResponseWriter, r *http.Request) {
	request := &tegamiv1.FetchOpsRequest{}
	if !decode(w, r, request) {
		return
	}
	timeout := time.NewTimer(request.Timeout.AsDuration())
	defer timeout.Stop()
	for {
		page, changed := f.page(caller(r), request)
		if len(page.Ops) > 0 || request.Timeout.AsDuration() == 0 {
			answer(w, page)
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			answer(w, page)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (f *fakeServer) page(user string, request *tegamiv1.FetchOpsRequest) (*tegamiv1.FetchOpsResponse, chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	box := f.mailboxes[user]
	if box == nil { // made before a restart, and got nothing
		box = newFakeMailbox()
		f.mailboxes[user] = box
	}
	after := min(request.AfterRevision, int64(len(box.ops)))
	page := &tegamiv1.FetchOpsResponse{Revision: request.AfterRevision, Reason: tegamiv1.FetchOpsResponse_TIMEOUT}
	if request.Timeout.AsDuration() == 0 && box.superseded < f.supersede {
		box.superseded++
		page.Reason = tegamiv1.FetchOpsResponse_SUPERSEDED
		return page, box.changed
	}
	if page.Ops = box.ops[after:]; len(page.Ops) > 0 {
		page.Revision = page.Ops[len(page.Ops)-1].Revision
		page.Reason = tegamiv1.FetchOpsResponse_OPERATIONS
	}
	return page, box.changed
}
