package server_test

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tegami-im/tegami/actors/refusal"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/limit"
	"github.com/tegami-im/tegami/api/server"
)

// What the talk tier refuses reaches every client with its code, its reason and
// what to do about it, from hot methods and others alike.
func TestRefusalsOfTheTalkTier(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	hour := errors.New("text of an internal error that clients must not see")
	cases := []struct {
		err        error
		code       string
		reason     string
		retryAfter string // the header
		detail     time.Duration
		field      string
		resume     int64
	}{
		{refusal.Of(refusal.UserExists), "already_exists", "user_exists", "", 0, "", 0},
		{refusal.Of(refusal.Stale), "aborted", "stale", "", 0, "", 0},
		{refusal.Of(refusal.UnknownDevice), "unauthenticated", "unknown_device", "", 0, "", 0},
		{refusal.Of(refusal.TokenReused), "unauthenticated", "token_reused", "", 0, "", 0},
		{refusal.Of(refusal.Internal), "internal", "internal", "", 0, "", 0},
		{refusal.After(refusal.Busy, 1500*time.Millisecond), "resource_exhausted", "busy", "2", 1500 * time.Millisecond, "", 0},
		{refusal.Of(refusal.Busy), "resource_exhausted", "busy", "1", time.Second, "", 0},
		{refusal.Of(refusal.NotReady), "unavailable", "not_ready", "1", time.Second, "", 0},
		{refusal.Of(refusal.Stopping), "unavailable", "stopping", "1", time.Second, "", 0},
		{refusal.Of(refusal.OutcomeUnknown), "unavailable", "outcome_unknown", "1", time.Second, "", 0},
		{refusal.Of(refusal.StoreUnavailable), "unavailable", "store_unavailable", "1", time.Second, "", 0},
		{refusal.Of(refusal.DiskFull), "unavailable", "disk_full", "1", time.Second, "", 0},
		{refusal.Of(refusal.ShardStopped), "unavailable", "shard_stopped", "", 0, "", 0},
		{&refusal.Refusal{Reason: refusal.CursorAhead, Field: "afterRevision", ResumeRevision: 7}, "out_of_range", "cursor_ahead", "", 0, "afterRevision", 7},
		{&refusal.Refusal{Reason: refusal.CursorTooOld, ResumeRevision: 1 << 60}, "out_of_range", "cursor_too_old", "", 0, "", 1 << 60},
		{refusal.Of(refusal.PollTooOften), "resource_exhausted", "poll_too_often", "1", time.Second, "", 0},
		{refusal.After(refusal.RateLimited, time.Millisecond), "resource_exhausted", "rate_limited", "1", time.Millisecond, "", 0},
		{refusal.Of(refusal.SessionEnded), "unauthenticated", "session_ended", "", 0, "", 0},
		{hour, "internal", "internal", "", 0, "", 0},
	}
	for _, c := range e.clients(t) {
		for _, want := range cases {
			for method, call := range map[string]func() error{
				"Send": func() error {
					return c.call(within(t), tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, textTo("alice", "hi"), &tegamiv1.SendMessageResponse{})
				},
				"Poll": func() error {
					return c.call(within(t), tegamiv1connect.TalkServiceFetchOpsProcedure, alice.access, &tegamiv1.FetchOpsRequest{}, &tegamiv1.FetchOpsResponse{})
				},
				"Head": func() error {
					return c.call(within(t), tegamiv1connect.TalkServiceGetHeadProcedure, alice.access, &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{})
				},
			} {
				t.Run(c.name+"/"+method+"/"+want.reason, func(t *testing.T) {
					e.talk.failWith(method, want.err)
					defer e.talk.failWith(method, nil)
					f := failureOf(t, call())
					if f.code != want.code || f.detail.GetReason() != want.reason || f.retryAfter != want.retryAfter ||
						f.detail.GetRetryAfter().AsDuration() != want.detail || f.detail.GetField() != want.field || f.detail.GetResumeRevision() != want.resume {
						t.Errorf("got %v with Retry-After %q", f, f.retryAfter)
					}
					if strings.Contains(f.text, hour.Error()) {
						t.Errorf("the client was told %q", f.text)
					}
				})
			}
		}
	}
}

// Each code has the HTTP status that Connect pairs with it.
func TestHTTPStatuses(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	httpClient := e.httpClient(t, 2)
	for reason, status := range map[refusal.Reason]int{
		refusal.UnknownRecipient: http.StatusNotFound,
		refusal.UserExists:       http.StatusConflict,
		refusal.Stale:            http.StatusConflict,
		refusal.UnknownDevice:    http.StatusUnauthorized,
		refusal.Internal:         http.StatusInternalServerError,
		refusal.Busy:             http.StatusTooManyRequests,
		refusal.NotReady:         http.StatusServiceUnavailable,
		refusal.CursorAhead:      http.StatusBadRequest,
	} {
		e.talk.failWith("Poll", refusal.Of(reason))
		e.talk.failWith("Head", refusal.Of(reason))
		for _, procedure := range []string{tegamiv1connect.TalkServiceFetchOpsProcedure, tegamiv1connect.TalkServiceGetHeadProcedure} {
			got, err := post(within(t), httpClient, e.url()+procedure, "application/json", alice.access, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if got.status != status || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%v from %s: status %d, want %d", reason, procedure, got.status, status)
			}
		}
	}
}

// Accounts: names are taken once, and a wrong password looks like a user that
// does not exist.
func TestAccounts(t *testing.T) {
	e := start(t, nil)
	for i, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			ctx := within(t)
			user := "user-" + string(rune('a'+i))
			register(t, c, user)
			again := &tegamiv1.RegisterRequest{UserId: user, Password: "another one"}
			f := failureOf(t, c.call(ctx, tegamiv1connect.AuthServiceRegisterProcedure, "", again, &tegamiv1.RegisterResponse{}))
			if f.code != "already_exists" || f.detail.GetReason() != "user_exists" || f.detail.GetField() != "userId" {
				t.Errorf("registering twice: %v", f)
			}
			login := func(user, password string) *failed {
				return failureOf(t, c.call(ctx, tegamiv1connect.AuthServiceLoginProcedure, "",
					&tegamiv1.LoginRequest{UserId: user, Password: password}, &tegamiv1.LoginResponse{}))
			}
			wrong, short, unknown := login(user, "incorrect horse"), login(user, "short"), login("nobody-at-all", "incorrect horse")
			e.signIn(t, "app-"+user) // has no password
			none := login("app-"+user, "incorrect horse")
			for _, f := range []*failed{wrong, short, unknown, none} {
				if f.code != "unauthenticated" || f.detail.GetReason() != "bad_credentials" || f.Error() != wrong.Error() {
					t.Errorf("got %v, which differs from %v", f, wrong)
				}
			}
		})
	}
}

// Refresh tokens: rotation keeps the previous one good until the new one was
// used; anything else is turned away.
func TestRefresh(t *testing.T) {
	e := start(t, nil)
	for i, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			ctx := within(t)
			phone := e.signIn(t, "user-"+string(rune('a'+i)))[0]
			refresh := func(token string) (*tegamiv1.RefreshResponse, error) {
				var response tegamiv1.RefreshResponse
				err := c.call(ctx, tegamiv1connect.AuthServiceRefreshProcedure, "", &tegamiv1.RefreshRequest{RefreshToken: token}, &response)
				return &response, err
			}
			if _, err := refresh(phone.refresh); err != nil { // its answer gets lost
				t.Fatal(err)
			}
			second, err := refresh(phone.refresh)
			if err != nil {
				t.Fatalf("the previous token after a lost answer: %v", err)
			}
			if second.GetDeviceId() != phone.id || !second.GetExpireTime().AsTime().After(time.Now()) {
				t.Errorf("got %v", second)
			}
			third, err := refresh(second.GetRefreshToken())
			if err != nil {
				t.Fatal(err)
			}
			tampered := "B" + third.GetRefreshToken()[1:]
			for _, bad := range []string{"", "garbage", tampered, third.GetAccessToken(), third.GetRefreshToken() + "AAAA", strings.Repeat("A", 5000)} {
				_, err := refresh(bad)
				if f := failureOf(t, err); f.code != "unauthenticated" || f.detail.GetField() != "refreshToken" {
					t.Errorf("%.20q: %v", bad, f)
				}
			}
			_, err = refresh(phone.refresh)
			if f := failureOf(t, err); f.code != "unauthenticated" || f.detail.GetReason() != "token_reused" {
				t.Errorf("an old token: %v", f)
			}
			// Reuse signed the device out.
			err = c.call(ctx, tegamiv1connect.TalkServiceGetHeadProcedure, third.GetAccessToken(), &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{})
			if f := failureOf(t, err); f.code != "unauthenticated" {
				t.Errorf("after reuse: %v", f)
			}
		})
	}
}

func TestRegistration(t *testing.T) {
	for _, c := range []struct {
		name         string
		listen       string
		registration server.Registration
		open         bool
	}{
		{"on loopback", "127.0.0.1:0", server.RegistrationLoopback, true},
		{"on all addresses", "0.0.0.0:0", server.RegistrationLoopback, false},
		{"on all addresses, opened", "0.0.0.0:0", server.RegistrationOpen, true},
		{"on loopback, closed", "127.0.0.1:0", server.RegistrationClosed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := start(t, func(o *server.Options) {
				o.Listen, o.AllowCleartext, o.Registration = c.listen, true, c.registration
			})
			err := e.jsonClient(t).call(within(t), tegamiv1connect.AuthServiceRegisterProcedure, "",
				&tegamiv1.RegisterRequest{UserId: "alice", Password: "correct horse"}, &tegamiv1.RegisterResponse{})
			if c.open {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if f := failureOf(t, err); f.code != "permission_denied" || f.detail.GetReason() != "registration_closed" {
				t.Errorf("got %v", f)
			}
		})
	}
}

// Sends are limited for each user, polls for each device, and what is refused
// tells when to come back.
func TestRates(t *testing.T) {
	e := start(t, func(o *server.Options) {
		o.Limits.Sends = limit.Rate{PerSecond: 0.01, Burst: 3}
		o.Limits.Polls = limit.Rate{PerSecond: 0.01, Burst: 2}
	})
	for i, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			ctx := within(t)
			user := "user-" + string(rune('a'+i))
			phone := e.signIn(t, user)[0]
			var tablet tegamiv1.IssueTokenResponse
			if err := c.call(ctx, tegamiv1connect.AdminServiceIssueTokenProcedure, adminToken,
				&tegamiv1.IssueTokenRequest{UserId: user, DeviceId: "tablet"}, &tablet); err != nil {
				t.Fatal(err)
			}
			send := func(token string) error {
				return c.call(ctx, tegamiv1connect.TalkServiceSendMessageProcedure, token, textTo(user, "hi"), &tegamiv1.SendMessageResponse{})
			}
			poll := func(token string) error {
				return c.call(ctx, tegamiv1connect.TalkServiceFetchOpsProcedure, token, &tegamiv1.FetchOpsRequest{}, &tegamiv1.FetchOpsResponse{})
			}
			limited := func(what string, err error) {
				t.Helper()
				f := failureOf(t, err)
				if f.code != "resource_exhausted" || f.detail.GetReason() != "rate_limited" || f.retryAfter != "100" ||
					f.detail.GetRetryAfter().AsDuration() <= 0 {
					t.Errorf("%s: %v with Retry-After %q", what, f, f.retryAfter)
				}
			}
			for range 3 {
				if err := send(phone.access); err != nil {
					t.Fatal(err)
				}
			}
			limited("a fourth send", send(phone.access))
			limited("a send from the user's other device", send(tablet.GetAccessToken()))
			for range 2 {
				if err := poll(phone.access); err != nil {
					t.Fatal(err)
				}
			}
			limited("a third poll", poll(phone.access))
			if err := poll(tablet.GetAccessToken()); err != nil {
				t.Errorf("a poll of the other device: %v", err)
			}
		})
	}
}

// Sign-ins from this machine are never limited by address.
func TestSignInsFromLoopbackAreNotLimited(t *testing.T) {
	e := start(t, func(o *server.Options) { o.Limits.SignIns = limit.Rate{PerSecond: 0.01, Burst: 1} })
	c := e.jsonClient(t)
	for range 20 {
		err := c.call(within(t), tegamiv1connect.AuthServiceRefreshProcedure, "", &tegamiv1.RefreshRequest{RefreshToken: "x"}, &tegamiv1.RefreshResponse{})
		if f := failureOf(t, err); f.code != "unauthenticated" {
			t.Fatalf("got %v", f)
		}
	}
}

// Behind a proxy that is believed, each client has its own limit, over HTTP/1.1 and
// HTTP/2.
func TestSignInsBehindAProxyAreLimitedByClient(t *testing.T) {
	for major := 1; major <= 2; major++ {
		e := start(t, func(o *server.Options) {
			o.Limits.SignIns = limit.Rate{PerSecond: 0.01, Burst: 1}
			o.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		})
		const procedure = tegamiv1connect.AuthServiceRefreshProcedure
		for i, c := range []struct {
			from   string
			status int
		}{
			{"192.0.2.1", http.StatusUnauthorized},
			{"192.0.2.1", http.StatusTooManyRequests},
			{"192.0.2.2", http.StatusUnauthorized},
			{"192.0.2.3, 192.0.2.1", http.StatusTooManyRequests}, // what the client claims is before what the proxy says
		} {
			answer, err := post(within(t), e.httpClient(t, major), e.urlOf(procedure)+procedure, "application/json", "",
				strings.NewReader(`{"refreshToken":"x"}`), "X-Forwarded-For", c.from)
			if err != nil {
				t.Fatal(err)
			}
			if answer.status != c.status {
				t.Errorf("HTTP/%d, request %d, from %s: status %d, want %d", major, i, c.from, answer.status, c.status)
			}
		}
	}
}

// A cursor beyond the head says where to go on; the same id with another body
// is refused, with the same body answered again.
func TestTheTalkTiersAnswersReachTheClient(t *testing.T) {
	e := start(t, nil)
	for i, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			ctx := within(t)
			alice := e.signIn(t, "alice-"+string(rune('a'+i)))[0]
			send := func(id, text string) (*tegamiv1.SendMessageResponse, error) {
				request, response := textTo(alice.user, text), &tegamiv1.SendMessageResponse{}
				request.ClientMessageId = id
				return response, c.call(ctx, tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, request, response)
			}
			first, err := send("once", "hi")
			if err != nil {
				t.Fatal(err)
			}
			again, err := send("once", "hi")
			if err != nil || again.GetMessageId() != first.GetMessageId() {
				t.Errorf("the same again: %v, %v", again, err)
			}
			_, err = send("once", "other")
			if f := failureOf(t, err); f.code != "already_exists" || f.detail.GetField() != "clientMessageId" {
				t.Errorf("the same id with another text: %v", f)
			}
			err = c.call(ctx, tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, textTo("nobody", "hi"), &tegamiv1.SendMessageResponse{})
			if f := failureOf(t, err); f.code != "not_found" || f.detail.GetReason() != "unknown_recipient" || f.detail.GetField() != "to" {
				t.Errorf("to nobody: %v", f)
			}
			err = c.call(ctx, tegamiv1connect.AdminServiceIssueTokenProcedure, adminToken, &tegamiv1.IssueTokenRequest{UserId: "nobody"}, &tegamiv1.IssueTokenResponse{})
			if f := failureOf(t, err); f.code != "not_found" || f.detail.GetField() != "userId" {
				t.Errorf("a token for nobody: %v", f)
			}
			err = c.call(ctx, tegamiv1connect.TalkServiceFetchOpsProcedure, alice.access,
				&tegamiv1.FetchOpsRequest{AfterRevision: 99, Timeout: durationpb.New(time.Second)}, &tegamiv1.FetchOpsResponse{})
			if f := failureOf(t, err); f.code != "out_of_range" || f.detail.GetResumeRevision() != 1 {
				t.Errorf("a cursor beyond the head: %v", f)
			}
		})
	}
}
