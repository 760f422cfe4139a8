package worker

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tegami-im/tegami/worker/hook"
)

// receiver is the other side of webhooks and push: an HTTP server that fails,
// hangs, redirects and forgets that it answered, and notes what it took.
type receiver struct {
	t   *testing.T
	url string

	mu     sync.Mutex // guards the following
	random *rand.Rand
	// trouble is the percentage of requests that do not go well.
	trouble int
	// gone are users for whom the answer is 410.
	gone map[string]bool
	// next is, for each user, the journal offset of the first event not taken.
	next map[string]int64
	// taken counts events taken for the first time, again those that came again,
	// and refused requests that were not taken.
	taken, again, refused int
	notified              map[string]int // notifications by message id
}

func newReceiver(t *testing.T, seed uint64) *receiver {
	r := &receiver{t: t, random: rand.New(rand.NewPCG(seed, 1)), gone: map[string]bool{}, next: map[string]int64{}, notified: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/hook", r.signed(r.takeEvent))
	mux.HandleFunc("/push", r.signed(r.takeNotification))
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// signed checks a request as receivers should, and makes trouble.
func (r *receiver) signed(take func(body []byte) (status int)) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return // the worker was killed
		}
		if err := hook.Verify(request.Header.Get(hook.HeaderSignature), body, secret, time.Now(), time.Minute); err != nil {
			r.t.Errorf("request %s: %v", request.Header.Get(hook.HeaderID), err)
		}
		r.mu.Lock()
		trouble := r.random.IntN(100) < r.trouble
		kind := r.random.IntN(20)
		r.mu.Unlock()
		if !trouble {
			w.WriteHeader(take(body))
			return
		}
		switch {
		case kind == 0: // it hangs
			<-request.Context().Done()
			return
		case kind < 3: // it takes the event, and the answer is lost
			take(body)
			panic(http.ErrAbortHandler)
		case kind < 6:
			http.Redirect(w, request, "/elsewhere", http.StatusTemporaryRedirect)
		case kind < 9:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refused++
	}
}

// takeEvent takes a webhook. Of each user every event must come, in order; the
// same one may come again.
func (r *receiver) takeEvent(body []byte) (status int) {
	var event struct {
		User   string `json:"user"`
		Offset string `json:"offset"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		r.t.Errorf("%s: %v", body, err)
	}
	offset, _ := strconv.ParseInt(event.Offset, 10, 64) // protojson leaves 0 out
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone[event.User] {
		return http.StatusGone
	}
	switch next := r.next[event.User]; {
	case offset == next:
		r.next[event.User]++
		r.taken++
	case offset < next:
		r.again++
	default:
		r.t.Errorf("event %d of %s comes before %d", offset, event.User, next)
	}
	return http.StatusNoContent
}

func (r *receiver) takeNotification(body []byte) (status int) {
	var notification struct {
		Devices   []string `json:"devices"`
		MessageID string   `json:"message_id"`
	}
	if err := json.Unmarshal(body, &notification); err != nil || len(notification.Devices) != 1 {
		r.t.Errorf("%s: %v", body, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notified[notification.MessageID]++
	return http.StatusOK
}

// counts returns what was taken, came again, and was refused.
func (r *receiver) counts() (taken, again, refused int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken, r.again, r.refused
}

func (r *receiver) notifications() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.notified)
}

func (r *receiver) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}
