package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/bench/h2client"
	"github.com/tegami-im/tegami/bench/ledger"
)

const (
	sendPath  = "/tegami.v1.TalkService/SendMessage"
	fetchPath = "/tegami.v1.TalkService/FetchOps"
	// pageSize is the limit of a poll; the largest one, so that a reader that
	// fell behind catches up.
	pageSize = 1000
	// pollAgain is the wait before a poll that failed is made again.
	pollAgain = 100 * time.Millisecond
)

// user is one user with one device: it sends, and polls with a cursor.
type user struct {
	crowd  *crowd
	number int
	name   string
	token  string

	conn    *h2client.Conn
	header  []hpack.HeaderField
	timeout time.Duration

	mu struct {
		sync.Mutex
		cursor   int64
		polling  bool // a poll is held, or its answer is being read
		stopping bool
		stream   uint32
		retry    *time.Timer
		idle     chan struct{} // closed when stopping has come to its end
	}
}

func newUser(c *crowd, number int, name, token string) *user {
	return &user{crowd: c, number: number, name: name, token: token}
}

// start begins to poll. A shared connection does not remember the token.
func (u *user) start(conn *h2client.Conn, shared bool, timeout time.Duration) {
	u.conn = conn
	u.timeout = timeout
	u.header = header(u.token, shared)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mu.stopping = false
	u.mu.idle = make(chan struct{})
	u.pollLocked()
}

// header is what all requests of a device have.
func header(token string, shared bool) []hpack.HeaderField {
	return []hpack.HeaderField{
		{Name: "content-type", Value: "application/proto"},
		{Name: "connect-protocol-version", Value: "1"},
		{Name: "user-agent", Value: "tegami-bench"},
		{Name: "authorization", Value: "Bearer " + token, Sensitive: shared},
	}
}

// pollLocked asks for what follows the cursor. The lock is held until the
// stream is known, so that stop cannot miss it; the answer waits for the lock.
func (u *user) pollLocked() {
	// Timeouts spread, so that polls which began together do not end so.
	timeout := u.timeout/2 + rand.N(u.timeout/2+1) //nolint:gosec // no secret
	request, err := u.fetch(u.mu.cursor, timeout)
	if err == nil {
		u.mu.stream, err = u.conn.Start(request, u.answered)
	}
	u.mu.polling = err == nil
	if err != nil {
		u.failedLocked(reason(err))
	}
}

// failedLocked counts what was wrong with a poll and makes another one later.
func (u *user) failedLocked(what string) {
	u.mu.polling = false
	if u.mu.stopping {
		close(u.mu.idle)
		return
	}
	u.crowd.errors.add("poll: " + what)
	u.mu.retry = time.AfterFunc(pollAgain, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.mu.retry != nil { // stop has not taken it
			u.mu.retry = nil
			u.pollLocked()
		}
	})
}

// answered reads a poll's answer and polls again.
func (u *user) answered(response h2client.Response) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if what := failure(response); what != "" {
		u.failedLocked(what)
		return
	}
	page, err := u.readLocked(response.Body)
	switch {
	case err != nil:
		u.failedLocked(err.Error())
	case u.mu.stopping:
		u.mu.polling = false
		close(u.mu.idle)
	case page.Reason == tegamiv1.FetchOpsResponse_OPERATIONS, page.Reason == tegamiv1.FetchOpsResponse_TIMEOUT:
		u.pollLocked()
	default: // another device of the same name polls, or the server stops
		u.failedLocked(page.Reason.String())
	}
}

// readLocked enters a page into the books and moves the cursor.
func (u *user) readLocked(body []byte) (*tegamiv1.FetchOpsResponse, error) {
	page := &tegamiv1.FetchOpsResponse{}
	if err := proto.Unmarshal(body, page); err != nil {
		return nil, err
	}
	for _, op := range page.Ops {
		message, sent := op.GetReceiveMessage(), false
		if message == nil {
			message, sent = op.GetSendMessage(), true
		}
		u.crowd.ledger.Read(u.number, ledger.Operation{
			Revision: op.Revision, Sent: sent,
			From: message.GetFrom(), To: message.GetTo(),
			ID: message.GetClientMessageId(), Text: message.GetText(),
		})
		u.mu.cursor = op.Revision
	}
	if page.Revision != u.mu.cursor {
		return nil, fmt.Errorf("cursor %d after revision %d", page.Revision, u.mu.cursor)
	}
	return page, nil
}

// stop ends the polling and returns when nothing of it runs.
func (u *user) stop() {
	u.mu.Lock()
	if u.mu.retry != nil {
		u.mu.retry.Stop()
		u.mu.retry = nil
	}
	polling, stream, idle := u.mu.polling, u.mu.stream, u.mu.idle
	u.mu.stopping = true
	u.mu.Unlock()
	if polling {
		u.conn.Cancel(stream) // if the answer is here already, that ends it
		<-idle
	}
}

// readToEnd reads what the mailbox holds after the cursor. Polling has
// stopped.
func (u *user) readToEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	for {
		more, err := u.readOn(ctx)
		if err != nil {
			return fmt.Errorf("read the mailbox of %s: %w", u.name, err)
		}
		if !more {
			return nil
		}
	}
}

// readOn reads one page and reports whether there may be more.
func (u *user) readOn(ctx context.Context) (more bool, err error) {
	u.mu.Lock()
	cursor := u.mu.cursor
	u.mu.Unlock()
	request, err := u.fetch(cursor, 0)
	if err != nil {
		return false, err
	}
	response, err := u.conn.Do(ctx, request)
	if err != nil {
		return false, err
	}
	switch what := failure(response); what {
	case "":
	case "unavailable", "resource_exhausted": // it may be loading, or a cancelled poll is still being taken over
		u.crowd.errors.add("read: " + what)
		return true, sleep(ctx, pollAgain)
	default:
		return false, errors.New(what)
	}
	u.mu.Lock()
	page, err := u.readLocked(response.Body)
	u.mu.Unlock()
	if err != nil {
		return false, err
	}
	switch page.Reason {
	case tegamiv1.FetchOpsResponse_OPERATIONS, tegamiv1.FetchOpsResponse_TIMEOUT:
		return page.HasMore, nil
	default:
		// The page says nothing of what the mailbox holds: a poll that was
		// cancelled a moment ago came to the server's actors behind this one, or
		// the server stops.
		u.crowd.errors.add("read: " + page.Reason.String())
		return true, sleep(ctx, pollAgain)
	}
}

func (u *user) fetch(cursor int64, timeout time.Duration) (h2client.Request, error) {
	message := &tegamiv1.FetchOpsRequest{AfterRevision: cursor, Limit: pageSize}
	if timeout > 0 {
		message.Timeout = durationpb.New(timeout)
	}
	body, err := proto.Marshal(message)
	return h2client.Request{Path: fetchPath, Header: u.header, Body: body}, err
}

// failure names what is wrong with an answer: its Connect code, or what else
// is known. Empty: nothing.
func failure(response h2client.Response) string {
	if response.Err != nil {
		return reason(response.Err)
	}
	if response.Status == http.StatusOK {
		return ""
	}
	var refused struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(response.Body, &refused); err != nil || refused.Code == "" {
		return fmt.Sprintf("status %d", response.Status)
	}
	return refused.Code
}

// reason names an error without what differs from one connection to the next.
func reason(err error) string {
	var reset http2.StreamError
	switch {
	case errors.As(err, &reset):
		return "reset with " + reset.Code.String()
	case errors.Is(err, h2client.ErrGoAway), errors.Is(err, h2client.ErrTooManyStreams), errors.Is(err, context.Canceled):
		return err.Error()
	default:
		return "connection lost"
	}
}
