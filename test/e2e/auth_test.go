package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

const password = secret + "-password"

// visitor is a client that is not signed in.
func visitor(t *testing.T, server *process.Server) user {
	t.Helper()
	client := &process.Client{HTTP: process.HTTP2(), URL: server.URL(), JSON: true}
	t.Cleanup(client.HTTP.CloseIdleConnections)
	return user{Client: client, t: t, name: "visitor"}
}

func (u user) register(id string) {
	u.t.Helper()
	request := &tegamiv1.RegisterRequest{UserId: id, Password: password, DisplayName: id}
	if got := call(u, "AuthService/Register", request, new(tegamiv1.RegisterResponse)).GetUserId(); got != id {
		u.t.Errorf("registered %q, want %q", got, id)
	}
}

func (u user) login(id, device string) *tegamiv1.LoginResponse {
	u.t.Helper()
	request := &tegamiv1.LoginRequest{UserId: id, Password: password, DeviceId: device}
	return call(u, "AuthService/Login", request, new(tegamiv1.LoginResponse))
}

// with returns the same client with another token.
func (u user) with(token string) user {
	u.Client = &process.Client{HTTP: u.HTTP, URL: u.URL, Token: token, JSON: u.JSON}
	return u
}

func (u user) refresh(token string) *tegamiv1.RefreshResponse {
	u.t.Helper()
	return call(u, "AuthService/Refresh", &tegamiv1.RefreshRequest{RefreshToken: token}, new(tegamiv1.RefreshResponse))
}

// signedOut fails when a token is still good.
func (u user) signedOut(token string) {
	u.t.Helper()
	refusal := refused(u.with(token), "TalkService/GetHead", &tegamiv1.GetHeadRequest{})
	if refusal.Code != "unauthenticated" {
		u.t.Errorf("got %v, want unauthenticated", refusal)
	}
}

func TestRegisterAndLogin(t *testing.T) {
	server := start(t)
	u := visitor(t, server)
	u.register("alice")

	want(t, refused(u, "AuthService/Register", &tegamiv1.RegisterRequest{UserId: "alice", Password: password + "2"}), "already_exists", "user_exists")

	login := u.login("alice", "")
	if login.GetDeviceId() == "" {
		t.Error("no device id was made")
	}
	if lifetime := time.Until(login.GetExpireTime().AsTime()); lifetime <= 0 || lifetime > 15*time.Minute+hangLimit {
		t.Errorf("the access token is good for %v", lifetime)
	}
	u.with(login.GetAccessToken()).head()

	// A wrong password and an unknown user look alike.
	wrong := refused(u, "AuthService/Login", &tegamiv1.LoginRequest{UserId: "alice", Password: password + "x"})
	unknown := refused(u, "AuthService/Login", &tegamiv1.LoginRequest{UserId: "nobody", Password: password + "x"})
	if wrong.Code != "unauthenticated" || wrong.Error() != unknown.Error() {
		t.Errorf("wrong password: %v; unknown user: %v", wrong, unknown)
	}

	// A user that the admin call made has no password, and none that fits.
	server.CreateUsers("guest")
	guest := refused(u, "AuthService/Login", &tegamiv1.LoginRequest{UserId: "guest", Password: password})
	if guest.Error() != wrong.Error() {
		t.Errorf("user without password: %v; wrong password: %v", guest, wrong)
	}

	// Everything is there after a crash.
	server.Kill()
	server.Start()
	u.with(login.GetAccessToken()).head()
	u.with(u.login("alice", "tablet").GetAccessToken()).head()
	want(t, refused(u, "AuthService/Register", &tegamiv1.RegisterRequest{UserId: "alice", Password: password}), "already_exists", "user_exists")
}

func TestBadTokens(t *testing.T) {
	server := start(t)
	other := start(t)
	u := visitor(t, server)
	good := device(t, server, signIn(t, server, "alice")[0].name, "tablet").Token
	foreign := signIn(t, other, "alice")[0].Token

	parts := strings.Split(good, ".")
	if len(parts) != 3 {
		t.Fatalf("an access token has %d parts, want 3", len(parts))
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	tokens := map[string]string{
		"none":                  "",
		"nonsense":              "nonsense",
		"of another server":     foreign,
		"without signature":     parts[0] + "." + parts[1] + ".",
		"algorithm none":        none + "." + parts[1] + ".",
		"algorithm none signed": none + "." + parts[1] + "." + parts[2],
		"very long":             strings.Repeat("a", 16_000),
	}
	for i, name := range []string{"header tampered with", "claims tampered with", "signature tampered with"} {
		part := []byte(parts[i])
		// Not the last character, whose low bits may say nothing.
		if part[10]++; part[10] > 'z' || part[10] == 'Z'+1 || part[10] == '9'+1 {
			part[10] = 'a'
		}
		changed := []string{parts[0], parts[1], parts[2]}
		changed[i] = string(part)
		tokens[name] = strings.Join(changed, ".")
	}
	for name, token := range tokens {
		t.Run(name, func(t *testing.T) {
			u := u.with(token)
			u.t = t
			refusal := refused(u, "TalkService/GetHead", &tegamiv1.GetHeadRequest{})
			if refusal.Code != "unauthenticated" || refusal.Status != 401 {
				t.Errorf("got %v", refusal)
			}
		})
	}
	u.with(good).head()
}

func TestExpiredToken(t *testing.T) {
	server := start(t, "auth: {access_token: 10s}")
	u := visitor(t, server)
	u.register("alice")
	login := u.login("alice", "phone")
	look := time.NewTicker(200 * time.Millisecond)
	defer look.Stop()
	hang := time.After(10 * hangLimit)
	for {
		err := u.with(login.GetAccessToken()).Call(t.Context(), "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, new(tegamiv1.GetHeadResponse))
		if refusal, ok := errors.AsType[*process.Error](err); ok && refusal.Code == "unauthenticated" {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		select {
		case <-look.C:
		case <-hang:
			t.Fatal("the token does not expire")
		}
	}
	u.with(u.refresh(login.GetRefreshToken()).GetAccessToken()).head()
}

// The token that was presented stays good until the new one was used once, so
// that a lost answer locks nobody out. An older one signs the device out.
func TestRefreshRotates(t *testing.T) {
	server := start(t)
	u := visitor(t, server)
	u.register("alice")
	first := u.login("alice", "phone").GetRefreshToken()
	lost := u.refresh(first)
	again := u.refresh(first) // The answer before was lost.
	if again.GetRefreshToken() == lost.GetRefreshToken() || again.GetRefreshToken() == first {
		t.Error("the refresh token was not rotated")
	}
	u.with(again.GetAccessToken()).head()

	server.Kill()
	server.Start()

	second := u.refresh(again.GetRefreshToken())
	u.with(second.GetAccessToken()).head()

	refusal := refused(u, "AuthService/Refresh", &tegamiv1.RefreshRequest{RefreshToken: first})
	want(t, refusal, "unauthenticated", "token_reused")
	u.signedOut(second.GetAccessToken())
	refusal = refused(u, "AuthService/Refresh", &tegamiv1.RefreshRequest{RefreshToken: second.GetRefreshToken()})
	if refusal.Code != "unauthenticated" {
		t.Errorf("the signed-out device may refresh: %v", refusal)
	}
	// The user is not locked out, only the device is.
	u.with(u.login("alice", "phone").GetAccessToken()).head()

	for name, token := range map[string]string{"empty": "", "nonsense": "nonsense", "an access token": second.GetAccessToken()} {
		if refusal := refused(u, "AuthService/Refresh", &tegamiv1.RefreshRequest{RefreshToken: token}); refusal.Code != "unauthenticated" && refusal.Code != "invalid_argument" {
			t.Errorf("%s as refresh token: %v", name, refusal)
		}
	}
}

// A user has at most ten devices: one more signs the oldest out.
func TestTenDevices(t *testing.T) {
	server := start(t)
	u := visitor(t, server)
	u.register("alice")
	var tokens []string
	for i := range 11 {
		tokens = append(tokens, u.login("alice", fmt.Sprintf("device-%d", i)).GetAccessToken())
	}
	u.signedOut(tokens[0])
	devices := call(u.with(tokens[10]), "AuthService/ListDevices", &tegamiv1.ListDevicesRequest{}, new(tegamiv1.ListDevicesResponse)).GetDevices()
	if len(devices) != 10 {
		t.Fatalf("%d devices, want 10", len(devices))
	}
	for i, d := range devices {
		if wanted := fmt.Sprintf("device-%d", 10-i); d.GetDeviceId() != wanted || d.GetCurrent() != (i == 0) {
			t.Errorf("device %d in the list is %v, want %s", i, d, wanted)
		}
		if !d.GetCreateTime().IsValid() || d.GetLastSeenTime().AsTime().Before(d.GetCreateTime().AsTime().Add(-time.Second)) {
			t.Errorf("%s: created %v, last seen %v", d.GetDeviceId(), d.GetCreateTime().AsTime(), d.GetLastSeenTime().AsTime())
		}
	}
	for _, token := range tokens[1:] {
		u.with(token).head()
	}
}

// Signing in again on a device voids what was issued for it before.
func TestSameDeviceSignsInAgain(t *testing.T) {
	server := start(t)
	u := visitor(t, server)
	u.register("alice")
	before := u.login("alice", "phone")
	after := u.login("alice", "phone")
	u.signedOut(before.GetAccessToken())
	u.with(after.GetAccessToken()).head()
}

func TestRevokedDevice(t *testing.T) {
	server := start(t)
	u := visitor(t, server)
	u.register("alice")
	u.register("bob")
	phone := u.with(u.login("alice", "phone").GetAccessToken())
	tabletLogin := u.login("alice", "tablet")
	tablet := u.with(tabletLogin.GetAccessToken())
	bob := u.with(u.login("bob", "tablet").GetAccessToken())

	poll, bobs := tablet.poll(0, long), bob.poll(0, long)
	awaitHeld(t, server, 2)
	begin := time.Now()
	call(phone, "AuthService/RevokeDevice", &tegamiv1.RevokeDeviceRequest{DeviceId: "tablet"}, new(tegamiv1.RevokeDeviceResponse))
	if refusal := poll.refusal(); refusal.Code != "unauthenticated" {
		t.Errorf("the revoked device's poll ended with %v", refusal)
	}
	t.Logf("progress: a revoked device's poll ended after %v", time.Since(begin).Round(time.Millisecond))
	u.signedOut(tabletLogin.GetAccessToken())
	refusal := refused(u, "AuthService/Refresh", &tegamiv1.RefreshRequest{RefreshToken: tabletLogin.GetRefreshToken()})
	if refusal.Code != "unauthenticated" {
		t.Errorf("the revoked device may refresh: %v", refusal)
	}

	// A device of the same name that belongs to another user is none of hers.
	bobs.open()
	bob.head()
	phone.head()
}

func TestLogout(t *testing.T) {
	server := start(t)
	u := visitor(t, server)
	u.register("alice")
	phone, tablet := u.login("alice", "phone"), u.login("alice", "tablet")
	poll := u.with(phone.GetAccessToken()).poll(0, long)
	awaitHeld(t, server, 1)
	call(u.with(phone.GetAccessToken()), "AuthService/Logout", &tegamiv1.LogoutRequest{}, new(tegamiv1.LogoutResponse))
	if refusal := poll.refusal(); refusal.Code != "unauthenticated" {
		t.Errorf("the poll ended with %v", refusal)
	}
	u.signedOut(phone.GetAccessToken())
	u.with(tablet.GetAccessToken()).head()

	server.Kill()
	server.Start()
	u.signedOut(phone.GetAccessToken())
}
