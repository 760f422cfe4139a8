package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tegami-im/tegami/api/auth/oidc"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/test/openid"
)

// startTrusting serves with a provider whose tokens are taken.
func startTrusting(t *testing.T, registers bool) (*env, *openid.Provider) {
	t.Helper()
	provider := openid.Start(t)
	tokens, err := oidc.New(oidc.Options{Issuer: provider.Issuer(), Audience: openid.Audience, TLS: provider.TLS()})
	if err != nil {
		t.Fatal(err)
	}
	e := start(t, func(o *server.Options) { o.Provider = server.ProviderOptions{Tokens: tokens, Register: registers} })
	return e, provider
}

func TestLoginWithIDToken(t *testing.T) {
	e, provider := startTrusting(t, false)
	e.signIn(t, "alice", "bob")
	for _, c := range e.clients(t) {
		for _, named := range []string{"", "alice"} {
			t.Run(c.name+"/"+named, func(t *testing.T) {
				var signedIn tegamiv1.LoginResponse
				request := &tegamiv1.LoginRequest{UserId: named, DeviceId: "phone", IdToken: provider.Token(nil)}
				if err := c.call(within(t), tegamiv1connect.AuthServiceLoginProcedure, "", request, &signedIn); err != nil {
					t.Fatal(err)
				}
				if signedIn.GetUserId() != "alice" || signedIn.GetDeviceId() != "phone" {
					t.Errorf("signed in as %s on %s", signedIn.GetUserId(), signedIn.GetDeviceId())
				}
				if err := c.call(within(t), tegamiv1connect.TalkServiceGetHeadProcedure, signedIn.GetAccessToken(), &tegamiv1.GetHeadRequest{}, &tegamiv1.GetHeadResponse{}); err != nil {
					t.Error(err)
				}
				var fresh tegamiv1.RefreshResponse
				if err := c.call(within(t), tegamiv1connect.AuthServiceRefreshProcedure, "", &tegamiv1.RefreshRequest{RefreshToken: signedIn.GetRefreshToken()}, &fresh); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestRefusedIDTokens(t *testing.T) {
	e, provider := startTrusting(t, false)
	e.signIn(t, "alice", "bob")
	stranger := provider.NewKey()
	var secrets []string
	for _, test := range []struct {
		name, user, token   string
		code, field, reason string
	}{
		{"garbage", "", "not.a.token", "unauthenticated", "idToken", "bad_token"},
		{"a stranger's", "", provider.Sign(stranger, nil), "unauthenticated", "idToken", "bad_token"},
		{"expired", "", provider.Token(jwt.MapClaims{"exp": time.Now().Add(-time.Hour).Unix()}), "unauthenticated", "idToken", "expired_token"},
		{"for others", "", provider.Token(jwt.MapClaims{"aud": "other"}), "unauthenticated", "idToken", "wrong_audience"},
		{"another user's", "bob", provider.Token(nil), "unauthenticated", "userId", "other_user"},
		{"of nobody", "", provider.Token(jwt.MapClaims{"sub": "Alice"}), "permission_denied", "idToken", "bad_user"},
		{"of one without an account", "", provider.Token(jwt.MapClaims{"sub": "carol"}), "permission_denied", "idToken", "no_account"},
	} {
		secrets = append(secrets, test.token)
		for _, c := range e.clients(t) {
			t.Run(c.name+"/"+test.name, func(t *testing.T) {
				request := &tegamiv1.LoginRequest{UserId: test.user, IdToken: test.token}
				err := c.call(within(t), tegamiv1connect.AuthServiceLoginProcedure, "", request, &tegamiv1.LoginResponse{})
				f := failureOf(t, err)
				if f.code != test.code || f.detail.GetField() != test.field || f.detail.GetReason() != test.reason {
					t.Errorf("got %v, want %s, field %s, reason %s", f, test.code, test.field, test.reason)
				}
			})
		}
	}
	if _, err := e.talk.Head(t.Context(), "carol"); err == nil {
		t.Error("an account was made")
	}
	for _, secret := range secrets {
		if strings.Contains(e.logs.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

func TestServerWithoutAProvider(t *testing.T) {
	e := start(t, nil)
	c := e.jsonClient(t)
	err := c.call(within(t), tegamiv1connect.AuthServiceLoginProcedure, "", &tegamiv1.LoginRequest{IdToken: "a.b.c"}, &tegamiv1.LoginResponse{})
	if f := failureOf(t, err); f.code != "permission_denied" || f.detail.GetReason() != "no_provider" || f.detail.GetField() != "idToken" {
		t.Errorf("got %v", f)
	}
}

// The first sign-in makes the account, the second finds it, and no password ever
// leads to it.
func TestAccountsMadeAtTheFirstSignIn(t *testing.T) {
	e, provider := startTrusting(t, true)
	c := e.jsonClient(t)
	token := provider.Token(jwt.MapClaims{"sub": "carol", "name": "Carol C."})
	for range 2 {
		if err := c.call(within(t), tegamiv1connect.AuthServiceLoginProcedure, "", &tegamiv1.LoginRequest{IdToken: token}, &tegamiv1.LoginResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	account, err := e.talk.Account(t.Context(), "carol")
	if err != nil || account.DisplayName != "Carol C." || account.PasswordHash != "" {
		t.Errorf("the account is %+v, %v", account, err)
	}
	err = c.call(within(t), tegamiv1connect.AuthServiceLoginProcedure, "", &tegamiv1.LoginRequest{UserId: "carol", Password: token[:100]}, &tegamiv1.LoginResponse{})
	if f := failureOf(t, err); f.detail.GetReason() != "bad_credentials" {
		t.Errorf("by a password: %v", f)
	}
}

// Passwords work whatever becomes of the provider; a token whose key is not known
// may be good, and is to be tried again.
func TestLoginWhileTheProviderIsAway(t *testing.T) {
	e, provider := startTrusting(t, false)
	register(t, e.jsonClient(t), "alice")
	provider.Away()
	for _, c := range e.clients(t) {
		t.Run(c.name, func(t *testing.T) {
			err := c.call(within(t), tegamiv1connect.AuthServiceLoginProcedure, "", &tegamiv1.LoginRequest{IdToken: provider.Token(nil)}, &tegamiv1.LoginResponse{})
			f := failureOf(t, err)
			if f.code != "unavailable" || f.detail.GetReason() != "provider_away" || f.retryAfter != "10" || f.detail.GetRetryAfter().AsDuration() != 10*time.Second {
				t.Errorf("got %v, to be tried again after %q", f, f.retryAfter)
			}
			if err := c.call(within(t), tegamiv1connect.AuthServiceLoginProcedure, "", &tegamiv1.LoginRequest{UserId: "alice", Password: "correct horse"}, &tegamiv1.LoginResponse{}); err != nil {
				t.Errorf("by a password: %v", err)
			}
		})
	}
}
