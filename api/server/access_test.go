package server_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/auth"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
)

// badTokens returns what is no access token of a live session, with the reason
// that clients are told.
func badTokens(t testing.TB, self device) map[string]struct{ token, reason string } {
	t.Helper()
	session := talk.Session{User: self.user, Device: self.id, Epoch: 1}
	issue := func(key ed25519.PrivateKey, opts auth.TokenOptions, session talk.Session) string {
		token, _, err := tokensUnder(t, key, opts).IssueAccess(session)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	_, foreignKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(self.access, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
	forged := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil,
		`{"iss":"tegami","aud":["tegami"],"sub":"alice","device":"phone","epoch":1,"exp":%d}`, time.Now().Add(time.Hour).Unix()))
	return map[string]struct{ token, reason string }{
		"no token":                   {"", "no_token"},
		"garbage":                    {"not.a.token", "bad_token"},
		"expired":                    {issue(signingKey(), auth.TokenOptions{AccessTTL: 1}, session), "expired_token"},
		"under a foreign key":        {issue(foreignKey, auth.TokenOptions{}, session), "bad_token"},
		"expired, foreign key":       {issue(foreignKey, auth.TokenOptions{AccessTTL: 1}, session), "bad_token"},
		"of another issuer":          {issue(signingKey(), auth.TokenOptions{Issuer: "other"}, session), "bad_token"},
		"for another audience":       {issue(signingKey(), auth.TokenOptions{Audience: "other"}, session), "bad_token"},
		"with other claims":          {parts[0] + "." + forged + "." + parts[2], "bad_token"},
		"with another signature":     {self.access[:len(self.access)-8] + "AAAAAAAA", "bad_token"},
		"unsigned":                   {unsigned, "bad_token"},
		"of a session to come":       {issue(signingKey(), auth.TokenOptions{}, talk.Session{User: self.user, Device: self.id, Epoch: 99}), "session_ended"},
		"of an unknown device":       {issue(signingKey(), auth.TokenOptions{}, talk.Session{User: self.user, Device: "other", Epoch: 1}), "session_ended"},
		"a refresh token":            {self.refresh, "bad_token"},
		"the admin token":            {adminToken, "bad_token"},
		"too long to be looked into": {strings.Repeat("A", 5000), "bad_token"},
	}
}

func TestRoutesAskForTheirToken(t *testing.T) {
	e := start(t, nil)
	register(t, e.jsonClient(t), "registered")
	devices := e.signIn(t, "alice", "bob")
	alice, bob := devices[0], devices[1]

	for _, c := range e.clients(t) {
		for _, r := range routes(t) {
			bad := map[string]struct{ token, reason string }{}
			switch r.caller {
			case deviceToken:
				bad = badTokens(t, alice)
			case operatorToken:
				for _, token := range []string{"", alice.access, alice.refresh, adminToken + "x", adminToken[1:]} {
					bad[token] = struct{ token, reason string }{token, "bad_token"}
				}
			case noToken:
			}
			for what, b := range bad {
				t.Run(c.name+"/"+r.name()+"/"+what, func(t *testing.T) {
					err := c.call(within(t), r.procedure, b.token, r.request(alice, bob, "1"), r.response())
					f := failureOf(t, err)
					if f.code != "unauthenticated" || f.detail.GetReason() != b.reason {
						t.Errorf("got %v, want unauthenticated with the reason %s", f, b.reason)
					}
				})
			}
		}
	}
	if held := e.talk.held(); held != 0 {
		t.Errorf("%d polls are held by callers that were turned away", held)
	}
}

// Every route works with the right token in every protocol: without this the
// test above could pass because nothing works at all.
func TestRoutesAcceptTheirToken(t *testing.T) {
	e := start(t, nil)
	register(t, e.jsonClient(t), "registered")
	for i, c := range e.clients(t) {
		for j, r := range routes(t) {
			n := fmt.Sprintf("%d-%d", i, j)
			t.Run(c.name+"/"+r.name(), func(t *testing.T) {
				devices := e.signIn(t, "alice-"+n, "bob-"+n)
				r.prepareFor(e.talk, devices[0], devices[1])
				if err := c.call(within(t), r.procedure, r.token(devices[0]), r.request(devices[0], devices[1], n), r.response()); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Bob may call every route with whatever names he likes: nothing of Alice's
// comes back, and nothing of hers changes.
func TestBobNeverReachesWhatIsAlices(t *testing.T) {
	e := start(t, nil)
	register(t, e.jsonClient(t), "registered")
	devices := e.signIn(t, "alice", "bob", "carol")
	alice, bob, carol := devices[0], devices[1], devices[2]
	const secret = "for carol alone"
	setup := e.connectClient(t, "setup", 2)
	if err := setup.call(t.Context(), tegamiv1connect.TalkServiceSendMessageProcedure, alice.access, &tegamiv1.SendMessageRequest{
		To: carol.user, Body: &tegamiv1.SendMessageRequest_Text{Text: secret},
	}, &tegamiv1.SendMessageResponse{}); err != nil {
		t.Fatal(err)
	}
	var issued tegamiv1.IssueTokenResponse
	if err := setup.call(t.Context(), tegamiv1connect.AdminServiceIssueTokenProcedure, adminToken,
		&tegamiv1.IssueTokenRequest{UserId: alice.user, DeviceId: "alices-tablet"}, &issued); err != nil {
		t.Fatal(err)
	}

	attempts := map[string][]proto.Message{
		tegamiv1connect.AuthServiceRevokeDeviceProcedure: {&tegamiv1.RevokeDeviceRequest{DeviceId: "alices-tablet"}},
		tegamiv1connect.TalkServiceListMessagesProcedure: {
			&tegamiv1.ListMessagesRequest{Peer: alice.user}, &tegamiv1.ListMessagesRequest{Peer: carol.user}, &tegamiv1.ListMessagesRequest{Peer: bob.user},
		},
	}
	for _, c := range e.clients(t) {
		for _, r := range routes(t) {
			if r.caller != deviceToken || r.procedure == tegamiv1connect.AuthServiceLogoutProcedure {
				continue
			}
			requests := attempts[r.procedure]
			if r.procedure != tegamiv1connect.AuthServiceRevokeDeviceProcedure {
				requests = append(requests, r.request(bob, carol, "1"))
			}
			for _, request := range requests {
				t.Run(c.name+"/"+r.name(), func(t *testing.T) {
					response := r.response()
					err := c.call(within(t), r.procedure, bob.access, request, response)
					text, marshalErr := protojson.Marshal(response)
					if marshalErr != nil {
						t.Fatal(marshalErr)
					}
					for _, private := range []string{secret, "alices-tablet"} {
						if strings.Contains(string(text), private) || err != nil && strings.Contains(err.Error(), private) {
							t.Errorf("Bob got %s, %v", text, err)
						}
					}
				})
			}
		}
	}
	var head tegamiv1.GetHeadResponse
	if err := setup.call(t.Context(), tegamiv1connect.TalkServiceGetHeadProcedure, issued.GetAccessToken(), &tegamiv1.GetHeadRequest{}, &head); err != nil {
		t.Errorf("Alice's tablet was signed out: %v", err)
	}
	if head.GetRevision() != 1 {
		t.Errorf("Alice's mailbox has %d operations, want her own one", head.GetRevision())
	}
}

// Each listener serves its own services alone.
func TestListenersServeTheirOwnServicesAlone(t *testing.T) {
	e := start(t, nil)
	alice := e.signIn(t, "alice")[0]
	for _, r := range routes(t) {
		other := e.adminURL()
		if r.caller == operatorToken {
			other = e.url()
		}
		for _, major := range []int{1, 2} {
			for _, contentType := range []string{"application/json", "application/proto", "application/grpc", "application/grpc-web+proto"} {
				if major == 1 && contentType == "application/grpc" {
					continue // gRPC needs HTTP/2
				}
				got, err := post(within(t), e.httpClient(t, major), other+r.procedure, contentType, r.token(alice), strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				if got.status == 200 {
					if code := append(got.header.Values("Grpc-Status"), got.trailer.Values("Grpc-Status")...); len(code) != 1 || code[0] != "12" {
						t.Errorf("%s on the other listener: grpc-status %v, want 12 (unimplemented)", r.name(), code)
					}
					continue
				}
				if f := failureOf(t, got.failure()); got.status != 404 || f.code != "unimplemented" || f.detail.GetReason() != "unknown_method" {
					t.Errorf("%s on the other listener: status %d, %v", r.name(), got.status, f)
				}
			}
		}
	}
}

func TestSignedOutDevicesAreTurnedAwayAtOnce(t *testing.T) {
	e := start(t, nil)
	for i, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			ctx := within(t)
			head := func(token string) error {
				return c.call(ctx, tegamiv1connect.TalkServiceGetHeadProcedure, token, &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{})
			}
			turnedAway := func(what, token string) {
				t.Helper()
				if f := failureOf(t, head(token)); f.code != "unauthenticated" {
					t.Errorf("%s: %v", what, f)
				}
			}
			user := fmt.Sprintf("user-%d", i)
			phone := e.signIn(t, user)[0]
			if err := head(phone.access); err != nil {
				t.Fatal(err)
			}
			if err := c.call(ctx, tegamiv1connect.AuthServiceLogoutProcedure, phone.access, &tegamiv1.LogoutRequest{}, &tegamiv1.LogoutResponse{}); err != nil {
				t.Fatal(err)
			}
			turnedAway("after logout", phone.access)

			before := e.signIn(t, user)[0]
			after := e.signIn(t, user)[0] // the same device again
			turnedAway("the session before this one", before.access)

			var tablet tegamiv1.IssueTokenResponse
			if err := c.call(ctx, tegamiv1connect.AdminServiceIssueTokenProcedure, adminToken,
				&tegamiv1.IssueTokenRequest{UserId: user, DeviceId: "tablet"}, &tablet); err != nil {
				t.Fatal(err)
			}
			if err := head(tablet.GetAccessToken()); err != nil {
				t.Fatal(err)
			}
			revoke := &tegamiv1.RevokeDeviceRequest{DeviceId: "tablet"}
			if err := c.call(ctx, tegamiv1connect.AuthServiceRevokeDeviceProcedure, after.access, revoke, &tegamiv1.RevokeDeviceResponse{}); err != nil {
				t.Fatal(err)
			}
			turnedAway("after revocation", tablet.GetAccessToken())
			err := c.call(ctx, tegamiv1connect.AuthServiceRevokeDeviceProcedure, after.access, revoke, &tegamiv1.RevokeDeviceResponse{})
			if f := failureOf(t, err); f.code != "not_found" || f.detail.GetField() != "deviceId" {
				t.Errorf("revoking it again: %v", f)
			}
			if err := head(after.access); err != nil {
				t.Errorf("the device that revoked: %v", err)
			}
		})
	}
}
