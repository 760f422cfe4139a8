package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/server"
)

// eventually waits until a condition holds, and ends the test if it never does.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(hangLimit)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// poll starts a poll and returns its page or its error.
func poll(ctx context.Context, c client, token string, request *tegamiv1.FetchOpsRequest) (pages <-chan *tegamiv1.FetchOpsResponse, errs <-chan error) {
	gotPage, gotErr := make(chan *tegamiv1.FetchOpsResponse, 1), make(chan error, 1)
	go func() {
		var page tegamiv1.FetchOpsResponse
		if err := c.call(ctx, tegamiv1connect.TalkServiceFetchOpsProcedure, token, request, &page); err != nil {
			gotErr <- err
			return
		}
		gotPage <- &page
	}()
	return gotPage, gotErr
}

// A poll that nothing comes for ends with an empty page: at its own timeout, or
// a little before the deadline of the call if that is earlier.
func TestPollsEndInTime(t *testing.T) {
	e := start(t, nil)
	for i, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			alice := e.signIn(t, "alice-"+string(rune('a'+i)))[0]
			for _, request := range []*tegamiv1.FetchOpsRequest{
				{}, // answers at once
				{Timeout: durationpb.New(50 * time.Millisecond)},
				{Timeout: durationpb.New(2 * time.Minute)}, // the deadline below is earlier
			} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if request.GetTimeout().AsDuration() < time.Second {
					ctx = within(t)
				}
				var page tegamiv1.FetchOpsResponse
				err := c.call(ctx, tegamiv1connect.TalkServiceFetchOpsProcedure, alice.access, request, &page)
				cancel()
				if err != nil {
					t.Errorf("%v: %v", request, err)
				}
				if page.GetReason() != tegamiv1.FetchOpsResponse_TIMEOUT || page.GetRevision() != 0 || page.GetHasMore() || len(page.GetOps()) != 0 {
					t.Errorf("%v: %v", request, &page)
				}
			}
		})
	}
}

// A call without a deadline of its own, as plain scripts make it, tells by the
// header what its deadline is.
func TestDeadlinesByHeader(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, w := range wires {
		header, value := "Connect-Timeout-Ms", "400"
		if w.grpc() {
			header, value = "Grpc-Timeout", "400m"
		}
		body := []byte("\x1a\x02\x08\x3c") // timeout: 60 s
		if w.json() {
			body = []byte(`{"timeout": "60s"}`)
		}
		got, err := post(within(t), e.httpClient(t, w.major), e.url()+tegamiv1connect.TalkServiceFetchOpsProcedure, w.contentType, alice.access,
			bytes.NewReader(w.frame(body)), header, value)
		if err != nil {
			t.Fatal(err)
		}
		if got.status != 200 || got.trailer.Get("Grpc-Status") > "0" || len(got.body) == 0 {
			t.Errorf("%v: status %d, %q", w, got.status, got.body)
		}
	}
	eventually(t, "no poll is held", func() bool { return e.talk.held() == 0 })
}

// A client that goes away takes its poll along.
func TestPollsEndWithTheirClient(t *testing.T) {
	var held atomic.Int64
	e := start(t, func(o *server.Options) { o.Hooks.Held = func(delta int) { held.Add(int64(delta)) } })
	for i, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			alice := e.signIn(t, "alice-"+string(rune('a'+i)))[0]
			ctx, leave := context.WithCancel(t.Context())
			cancelled := e.talk.count(&e.talk.cancelled)
			pages, errs := poll(ctx, c, alice.access, &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(time.Minute)})
			eventually(t, "the poll is held", func() bool { return e.talk.held() == 1 && held.Load() == 1 })
			leave()
			select {
			case <-errs: //nolint:errcheck // the client's own
			case page := <-pages:
				t.Errorf("got %v", page)
			}
			eventually(t, "the poll is cancelled", func() bool { return e.talk.count(&e.talk.cancelled) == cancelled+1 })
			eventually(t, "no poll is held", func() bool { return held.Load() == 0 })
		})
	}
}

// A newer poll of the same device, and a sign-out, end a held one.
func TestPollsEndWithTheirReason(t *testing.T) {
	e := start(t, nil)
	for i, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			ctx := within(t)
			alice := e.signIn(t, "alice-"+string(rune('a'+i)))[0]
			long := &tegamiv1.FetchOpsRequest{Timeout: durationpb.New(time.Minute)}
			first, firstErr := poll(ctx, c, alice.access, long)
			eventually(t, "the poll is held", func() bool { return e.talk.held() == 1 })
			second, secondErr := poll(ctx, c, alice.access, long)
			select {
			case page := <-first:
				if page.GetReason() != tegamiv1.FetchOpsResponse_SUPERSEDED {
					t.Errorf("got %v", page)
				}
			case err := <-firstErr:
				t.Fatal(err)
			}
			if err := c.call(ctx, tegamiv1connect.AuthServiceLogoutProcedure, alice.access, &tegamiv1.LogoutRequest{}, &tegamiv1.LogoutResponse{}); err != nil {
				t.Fatal(err)
			}
			select {
			case page := <-second:
				t.Errorf("got %v", page)
			case err := <-secondErr:
				if f := failureOf(t, err); f.code != "unauthenticated" || f.detail.GetReason() != "session_ended" {
					t.Errorf("got %v", f)
				}
			}
		})
	}
}

// A send whose answer does not come in time may have happened.
func TestSendsWithoutAnAnswer(t *testing.T) {
	e := start(t, func(o *server.Options) { o.Deadlines.Send = 20 * time.Millisecond })
	alice := e.signIn(t, "alice")[0]
	e.talk.setSilent(true)
	for _, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			send := func(ctx context.Context) *failed {
				return failureOf(t, c.call(ctx, tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, textTo("alice", "hi"), &tegamiv1.SendMessageResponse{}))
			}
			// The clients of this test all have a deadline or tell none at all.
			if f := send(context.WithoutCancel(t.Context())); f.code != "unavailable" || f.detail.GetReason() != "outcome_unknown" || f.retryAfter != "1" {
				t.Errorf("without a deadline: %v", f)
			}
		})
	}
	got, err := post(within(t), e.httpClient(t, 1), e.url()+tegamiv1connect.TalkServiceSendMessageProcedure, "application/json", alice.access,
		strings.NewReader(`{"to": "alice", "text": "hi"}`), "Connect-Timeout-Ms", "5")
	if err != nil {
		t.Fatal(err)
	}
	if f := failureOf(t, got.failure()); f.detail.GetReason() != "outcome_unknown" {
		t.Errorf("with a deadline of 5 ms: %v", f)
	}
}

// What a script finds in an empty page: every field, with 64-bit numbers as
// strings.
func TestJSONPagesAreComplete(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, w := range wires {
		if !w.json() || w.grpc() {
			continue
		}
		got, err := post(within(t), e.httpClient(t, w.major), e.url()+tegamiv1connect.TalkServiceFetchOpsProcedure, w.contentType, alice.access, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		var page map[string]any
		if err := json.Unmarshal(got.body, &page); err != nil {
			t.Fatal(err)
		}
		ops, isList := page["ops"].([]any)
		if page["revision"] != "0" || !isList || len(ops) != 0 || page["hasMore"] != false || page["reason"] != "TIMEOUT" {
			t.Errorf("%v: %s", w, got.body)
		}
	}
}

// A held poll costs no goroutine above the one of its connection; beside those
// the engine keeps a few to lend.
func TestHeldPollsHaveNoGoroutineOfTheirOwn(t *testing.T) {
	const polls, constant = 200, 80
	var held atomic.Int64
	e := start(t, func(o *server.Options) { o.Hooks.Held = func(delta int) { held.Add(int64(delta)) } })
	alice := e.signIn(t, "alice")[0]
	e.talk.setSilent(true) // one device may hold many
	before := runtime.NumGoroutine()
	for range polls {
		defer rawPoll(t, e, alice.access).Close()
	}
	eventually(t, "all polls are held", func() bool { return held.Load() == polls })
	eventually(t, "one goroutine for each connection", func() bool {
		return runtime.NumGoroutine()-before <= polls+constant
	})
}

// rawPoll sends a poll on an HTTP/2 connection of its own, without a goroutine
// on the client's side.
func rawPoll(t testing.TB, e *env, token string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", e.PublicAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	var out, block bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	encoder := hpack.NewEncoder(&block)
	for _, field := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":authority", "localhost"},
		{":path", tegamiv1connect.TalkServiceFetchOpsProcedure},
		{"content-type", "application/proto"},
		{"authorization", "Bearer " + token},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		framer.WriteSettings(),
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
		framer.WriteData(1, true, []byte("\x1a\x02\x08\x3c")), // timeout: 60 s
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	return conn
}
