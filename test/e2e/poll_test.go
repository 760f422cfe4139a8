package e2e

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

// long is longer than any test waits: a poll that is answered in time was
// woken.
const long = 120 * time.Second

const (
	operations = tegamiv1.FetchOpsResponse_OPERATIONS
	timedOut   = tegamiv1.FetchOpsResponse_TIMEOUT
	superseded = tegamiv1.FetchOpsResponse_SUPERSEDED
	draining   = tegamiv1.FetchOpsResponse_DRAINING
)

// wakeLimit is for twenty rounds of held polls, which take some milliseconds
// each. It is less than the time after which the server looks again of its own
// accord: a wake-up that is lost does not go unseen.
const wakeLimit = 20 * time.Second

func TestHeldPollIsWoken(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	bobsTablet, alicesTablet := device(t, server, "bob", "tablet"), device(t, server, "alice", "tablet")
	late := time.After(wakeLimit)
	for round := range int64(20) {
		polls := []*held{bob.poll(round, long), bobsTablet.poll(round, long), alicesTablet.poll(round, long)}
		awaitHeld(t, server, len(polls))
		body := strconv.FormatInt(round, 10)
		alice.send(text("bob", body))
		for _, poll := range polls {
			var page *tegamiv1.FetchOpsResponse
			select {
			case a := <-poll.answers:
				if a.err != nil {
					t.Fatal(a.err)
				}
				page = a.page
			case <-late:
				t.Fatalf("polls are not woken: round %d of 20 after %v", round+1, wakeLimit)
			}
			if got := texts(page); !slices.Equal(got, []string{body}) || page.GetRevision() != round+1 || page.GetHasMore() {
				t.Fatalf("woken with %v, revision %d, more %v", got, page.GetRevision(), page.GetHasMore())
			}
		}
	}
}

// Nobody who polls misses a message, whatever moment it comes in: the next
// poll may be under way, or held, or not made yet.
func TestNoWakeUpIsLost(t *testing.T) {
	server := start(t, "limits: {poll_rate: 10000}")
	users := signIn(t, server, "alice", "bob")
	const messages = 300
	var sender sync.WaitGroup
	sender.Go(func() {
		for range messages {
			if err := users[0].Call(t.Context(), "TalkService/SendMessage", text("bob", "x"), new(tegamiv1.SendMessageResponse)); err != nil {
				t.Errorf("send: %v", err)
			}
		}
	})
	defer sender.Wait()
	for cursor := int64(0); cursor < messages; {
		cursor = users[1].poll(cursor, long).page(operations).GetRevision()
	}
}

func TestPollTimesOut(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice")[0]
	alice.send(text("alice", "note"))
	for name, timeout := range map[string]time.Duration{"not held": 0, "held": 300 * time.Millisecond} {
		page := alice.poll(1, timeout).page(timedOut)
		if len(page.GetOps()) != 0 || page.GetRevision() != 1 || page.GetHasMore() {
			t.Errorf("%s: got %v, want an empty page at the same cursor", name, page)
		}
	}
}

// An operation that a device caused comes with that poll's next answer, and
// does not end it. To another device of the user it is news.
func TestOwnOperationsDoNotEndAPoll(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	tablet := device(t, server, "alice", "tablet")

	own, other := alice.poll(0, long), tablet.poll(0, long)
	awaitHeld(t, server, 2)
	alice.send(text("bob", "first"))
	if got := texts(other.page(operations)); !slices.Equal(got, []string{"first"}) {
		t.Errorf("the tablet got %v", got)
	}
	own.open()
	bob.send(text("alice", "second"))
	if got := texts(own.page(operations)); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("the phone got %v, want both at once", got)
	}
}

func TestNewerPollSupersedes(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	bob := users[1]

	first := bob.poll(0, long)
	awaitHeld(t, server, 1)
	second := bob.poll(0, long)
	if page := first.page(superseded); len(page.GetOps()) != 0 || page.GetRevision() != 0 {
		t.Errorf("superseded with %v", page)
	}
	second.open()

	// At once again: more than once a second is refused, and leaves the poll
	// that is held alone. Several try, so that a slow machine cannot spread
	// them over seconds.
	var wait sync.WaitGroup
	refusals := make(chan *process.Error, 8)
	for range cap(refusals) {
		wait.Go(func() {
			if _, err := bob.poll(0, long).wait(); err != nil {
				if refusal, ok := errors.AsType[*process.Error](err); ok {
					refusals <- refusal
				}
			}
		})
	}
	select {
	case refusal := <-refusals:
		want(t, refusal, "resource_exhausted", "poll_too_often")
		retryAfter(t, refusal)
	case <-time.After(hangLimit):
		t.Fatal("no poll was refused")
	}
	users[0].send(text("bob", "hello"))
	wait.Wait()
	switch page, err := second.wait(); {
	case err != nil:
		t.Error(err)
	case page.GetReason() != operations && page.GetReason() != superseded:
		t.Errorf("the held poll ended with %v", page.GetReason())
	}
	// The cursor is the truth, whoever superseded whom.
	if got := texts(bob.fetch(0)); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("bob reads %v", got)
	}
}

// retryAfter fails unless a refusal says when to come back, in both places.
func retryAfter(t *testing.T, refusal *process.Error) {
	t.Helper()
	if refusal.Detail.GetRetryAfter().AsDuration() <= 0 {
		t.Errorf("%v does not say when to come back", refusal)
	}
	if seconds, err := strconv.Atoi(refusal.Header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("Retry-After is %q, want whole seconds", refusal.Header.Get("Retry-After"))
	}
}

func TestPagesEndAtTheLimit(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	for i := range 105 {
		users[0].send(text("bob", strconv.Itoa(i)))
	}
	for limit, wanted := range map[int32]int{0: 100, 1: 1, 104: 104, 105: 105, 1000: 105} {
		page := call(users[1], "TalkService/FetchOps", &tegamiv1.FetchOpsRequest{Limit: limit}, new(tegamiv1.FetchOpsResponse))
		if len(page.GetOps()) != wanted || page.GetRevision() != int64(wanted) || page.GetHasMore() != (wanted < 105) {
			t.Errorf("limit %d: %d operations, revision %d, more %v; want %d", limit, len(page.GetOps()), page.GetRevision(), page.GetHasMore(), wanted)
		}
	}
}

func TestPagesEndAtOneMebibyte(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	const messages, size = 40, 60 << 10
	content := &tegamiv1.Content{MimeType: "image/webp", Data: make([]byte, size)}
	for range messages {
		users[0].send(&tegamiv1.SendMessageRequest{To: "bob", Body: &tegamiv1.SendMessageRequest_Content{Content: content}})
	}
	cursor, pages := int64(0), 0
	for more := true; more; pages++ {
		page := users[1].fetch(cursor)
		length := proto.Size(page)
		if length > 1<<20 || page.GetHasMore() && length < 1<<20-2*size {
			t.Errorf("page %d has %d bytes in %d operations, more %v", pages+1, length, len(page.GetOps()), page.GetHasMore())
		}
		for _, op := range page.GetOps() {
			if cursor++; op.GetRevision() != cursor {
				t.Fatalf("revision %d, want %d", op.GetRevision(), cursor)
			}
		}
		more = page.GetHasMore()
	}
	if cursor != messages || pages < 3 {
		t.Errorf("%d messages on %d pages, want %d on 3 or more", cursor, pages, messages)
	}
}

// A shorter deadline of the call ends the hold 100 ms before it, with a page
// and not with an error.
func TestDeadlineEndsTheHold(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice")[0]
	body, err := proto.Marshal(&tegamiv1.FetchOpsRequest{Timeout: durationpb.New(long)})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		server.URL()+"/tegami.v1.TalkService/FetchOps", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/proto")
	request.Header.Set("Authorization", "Bearer "+alice.Token)
	request.Header.Set("Connect-Timeout-Ms", "1000")
	response, err := alice.HTTP.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page := new(tegamiv1.FetchOpsResponse)
	if err := process.ReadAnswer(response, page); err != nil {
		t.Fatal(err)
	}
	if page.GetReason() != timedOut {
		t.Errorf("ended with %v", page.GetReason())
	}
}

// A cursor beyond the head gets a typed answer with the one to go on from.
func TestCursorBeyondTheHead(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice")[0]
	alice.send(text("alice", "note"))
	for _, timeout := range []time.Duration{0, long} {
		refusal := alice.poll(5, timeout).refusal()
		want(t, refusal, "out_of_range", "cursor_ahead")
		if got := refusal.Detail.GetResumeRevision(); got != 1 {
			t.Errorf("resume at %d, want 1", got)
		}
	}
}

// A client that goes away in the middle of a poll leaves nothing behind, and
// its next poll is an ordinary one.
func TestAbandonedPollIsForgotten(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() {
		request := &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(long)}
		_ = users[1].Call(ctx, "TalkService/FetchOps", request, new(tegamiv1.FetchOpsResponse))
	}()
	awaitHeld(t, server, 1)
	leave()
	awaitHeld(t, server, 0)
	poll := users[1].poll(0, long)
	awaitHeld(t, server, 1)
	users[0].send(text("bob", "hello"))
	poll.page(operations)
}
