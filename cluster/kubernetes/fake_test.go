package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"strings"
	"sync"
)

// fake is an API server that knows Leases of one namespace, and keeps the rules that
// the package relies on: every write has a revision of its own, an object is replaced
// only as it was read, a precondition is one, a watch goes on from a revision unless
// that was forgotten.
type fake struct {
	mu       sync.Mutex // guards the following
	token    string     // that it asks for; empty: none
	revision int
	leases   map[string]lease
	history  []change
	oldest   int           // revisions below are forgotten
	changed  chan struct{} // closed with the next change
	frozen   bool          // it takes no writes
	deaf     bool          // it tells watches nothing
	hung     int           // it tells nothing to watches that began before this revision
	loseNext bool          // it takes the next write, and its answer is lost
	hangNext bool          // it never answers the next write
	writes   int
}

type change struct {
	revision int
	event    event
}

func newFake() *fake {
	return &fake{leases: map[string]lease{}, changed: make(chan struct{}), revision: 100}
}

const leasesPath = "/apis/coordination.k8s.io/v1/namespaces/chat/leases"

// ServeHTTP implements http.Handler.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	token := f.token
	f.mu.Unlock()
	switch name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, leasesPath), "/"); {
	case token != "" && r.Header.Get("Authorization") != "Bearer "+token:
		refuse(w, http.StatusUnauthorized, "Unauthorized")
	case !strings.HasPrefix(r.URL.Path, leasesPath):
		refuse(w, http.StatusForbidden, "Forbidden")
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") == "true":
		f.watch(w, r)
	case r.Method == http.MethodGet:
		f.read(w, r, name)
	default:
		f.write(w, r, name)
	}
}

func refuse(w http.ResponseWriter, code int, reason string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(status{Code: code, Reason: reason, Message: reason})
}

func selected(l lease, r *http.Request) bool {
	key, value, _ := strings.Cut(r.URL.Query().Get("labelSelector"), "=")
	return l.Metadata.Labels[key] == value
}

func (f *fake) read(w http.ResponseWriter, r *http.Request, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if name != "" {
		if l, ok := f.leases[name]; ok {
			_ = json.NewEncoder(w).Encode(l)
			return
		}
		refuse(w, http.StatusNotFound, "NotFound")
		return
	}
	var all leaseList
	all.Metadata.ResourceVersion = strconv.Itoa(f.revision)
	for _, l := range f.leases {
		if selected(l, r) {
			all.Items = append(all.Items, l)
		}
	}
	_ = json.NewEncoder(w).Encode(all)
}

func (f *fake) write(w http.ResponseWriter, r *http.Request, name string) {
	f.mu.Lock()
	hangs := f.hangNext
	f.hangNext = false
	f.mu.Unlock()
	if hangs {
		<-r.Context().Done()
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var given lease
	var options deleteOptions
	body, _ := io.ReadAll(r.Body)
	if json.Unmarshal(body, &given) != nil || json.Unmarshal(body, &options) != nil {
		refuse(w, http.StatusBadRequest, "BadRequest")
		return
	}
	before, there := f.leases[name]
	switch {
	case f.frozen:
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable")
		return
	case r.Method != http.MethodPost && !there:
		refuse(w, http.StatusNotFound, "NotFound")
		return
	case r.Method == http.MethodPut && given.Metadata.ResourceVersion != before.Metadata.ResourceVersion,
		r.Method == http.MethodDelete && !met(options, before):
		refuse(w, http.StatusConflict, "Conflict")
		return
	}
	f.revision++
	f.writes++
	kind := eventModified
	switch r.Method {
	case http.MethodPost:
		kind, name = eventAdded, given.Metadata.Name
		given.Metadata.UID = fmt.Sprint("uid-", f.revision)
	case http.MethodDelete:
		kind, given = eventDeleted, before
		delete(f.leases, name)
	}
	given.Metadata.ResourceVersion = strconv.Itoa(f.revision)
	if kind != eventDeleted {
		f.leases[name] = given
	}
	f.tell(kind, given)
	if f.loseNext {
		f.loseNext = false
		refuse(w, http.StatusGatewayTimeout, "Timeout")
		return
	}
	_ = json.NewEncoder(w).Encode(given)
}

func met(options deleteOptions, l lease) bool {
	p := options.Preconditions
	return (p.UID == "" || p.UID == l.Metadata.UID) && (p.ResourceVersion == "" || p.ResourceVersion == l.Metadata.ResourceVersion)
}

// tell keeps an event and wakes the watches. The caller holds mu.
func (f *fake) tell(kind string, l lease) {
	object, _ := json.Marshal(l)
	f.history = append(f.history, change{f.revision, event{Type: kind, Object: object}})
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) watch(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	f.mu.Lock()
	gone := err != nil || from < f.oldest
	f.mu.Unlock()
	encoder, began := json.NewEncoder(w), from
	if gone { // as Kubernetes does, in the stream
		object, _ := json.Marshal(status{Code: http.StatusGone, Reason: "Expired", Message: "too old resource version"})
		_ = encoder.Encode(event{Type: eventError, Object: object})
		return
	}
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	for {
		f.mu.Lock()
		changed := f.changed
		var news []change
		for _, c := range f.history {
			if c.revision > from && !f.deaf && began >= f.hung {
				news = append(news, c)
			}
		}
		f.mu.Unlock()
		for _, c := range news {
			from = c.revision
			var l lease
			_ = json.Unmarshal(c.event.Object, &l)
			if selected(l, r) && encoder.Encode(c.event) != nil {
				return
			}
			_ = flush.Flush()
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}

// set changes how the server behaves.
func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
	close(f.changed)
	f.changed = make(chan struct{})
}

// network reaches a fake without sockets, so that time can be a test's. It can be
// cut.
type network struct {
	fake *fake

	mu   sync.Mutex // guards the following
	cut  bool
	open map[*io.PipeReader]bool
}

var errCut = errors.New("the network is cut")

func (n *network) client() *http.Client { return &http.Client{Transport: n} }

// setCut breaks or mends all connections.
func (n *network) setCut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
	for body := range n.open {
		if cut {
			_ = body.CloseWithError(errCut)
		}
	}
}

// RoundTrip implements http.RoundTripper.
func (n *network) RoundTrip(request *http.Request) (*http.Response, error) {
	n.mu.Lock()
	cut := n.cut
	n.mu.Unlock()
	if cut {
		return nil, errCut
	}
	ctx, cancel := context.WithCancel(request.Context())
	served := request.Clone(ctx)
	served.URL.Path = path.Clean(served.URL.Path)
	reader, writer := io.Pipe()
	answer := &pipeAnswer{ResponseRecorder: httptest.NewRecorder(), pipe: writer, started: make(chan struct{})}
	go func() {
		n.fake.ServeHTTP(answer, served)
		answer.start(http.StatusOK)
		_ = writer.Close()
	}()
	context.AfterFunc(ctx, func() { _ = reader.CloseWithError(ctx.Err()) })
	select {
	case <-answer.started:
	case <-ctx.Done():
		cancel()
		return nil, ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut {
		cancel()
		return nil, errCut
	}
	if n.open == nil {
		n.open = map[*io.PipeReader]bool{}
	}
	n.open[reader] = true
	return &http.Response{StatusCode: answer.code, Header: answer.Header(), Body: &body{reader, cancel, n}, Request: request}, nil
}

type body struct {
	*io.PipeReader
	cancel context.CancelFunc
	of     *network
}

func (b *body) Close() error {
	b.cancel()
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	delete(b.of.open, b.PipeReader)
	return b.PipeReader.Close()
}

// pipeAnswer hands an answer on as it is written.
type pipeAnswer struct {
	*httptest.ResponseRecorder
	pipe    *io.PipeWriter
	once    sync.Once
	code    int
	started chan struct{}
}

func (p *pipeAnswer) start(code int) {
	p.once.Do(func() {
		p.code = code
		close(p.started)
	})
}

func (p *pipeAnswer) WriteHeader(code int) { p.start(code) }

func (p *pipeAnswer) Write(data []byte) (int, error) {
	p.start(http.StatusOK)
	return p.pipe.Write(data)
}

func (p *pipeAnswer) Flush() {}
