package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/openid"
	"github.com/tegami-im/tegami/test/process"
)

// byToken signs a further device of whom a token is about in.
func (u user) byToken(token string) *tegamiv1.LoginResponse {
	u.t.Helper()
	return call(u, login, &tegamiv1.LoginRequest{IdToken: token}, new(tegamiv1.LoginResponse))
}

func trusting(provider *openid.Provider, more ...string) string {
	keys := append([]string{
		"oidc_issuer: " + provider.Issuer(), "oidc_audience: " + openid.Audience, "oidc_ca: " + provider.CA(),
	}, more...)
	return "auth: {" + strings.Join(keys, ", ") + "}"
}

// A provider that is away when the server starts, comes, rotates its keys and is
// away again. Whoever it vouches for signs in beside those who have passwords.
func TestSignInByAProvider(t *testing.T) {
	provider := openid.Start(t)
	provider.Away()
	server := start(t, trusting(provider, "oidc_claim: preferred_username", "oidc_register: true"))
	u := visitor(t, server)
	u.register("alice")
	u.with(u.login("alice", "phone").GetAccessToken()).head()
	claims := jwt.MapClaims{"sub": "0815", "preferred_username": "carol", "name": "Carol"}
	away := refused(u, login, &tegamiv1.LoginRequest{IdToken: provider.Token(claims)})
	want(t, away, "unavailable", "provider_away")

	provider.Instead(nil)
	signedIn := u.byToken(provider.Token(claims))
	if signedIn.GetUserId() != "carol" {
		t.Errorf("signed in as %q", signedIn.GetUserId())
	}
	carol := u.with(signedIn.GetAccessToken())
	carol.send(text("alice", "hello"))
	profile := call(carol, "ProfileService/GetProfile", &tegamiv1.GetProfileRequest{UserId: "carol"}, new(tegamiv1.GetProfileResponse))
	if name := profile.GetProfile().GetDisplayName(); name != "Carol" {
		t.Errorf("the account's display name is %q", name)
	}
	want(t, refused(u, login, &tegamiv1.LoginRequest{UserId: "carol", Password: password}), "unauthenticated", "bad_credentials")
	want(t, refused(u, login, &tegamiv1.LoginRequest{UserId: "alice", IdToken: provider.Token(claims)}), "unauthenticated", "other_user")
	for reason, wrong := range map[string]jwt.MapClaims{
		"wrong_audience": {"aud": "other"}, "wrong_issuer": {"iss": "https://example.org"}, "expired_token": {"exp": 1},
	} {
		want(t, refused(u, login, &tegamiv1.LoginRequest{IdToken: provider.Token(wrong)}), "unauthenticated", reason)
	}
	provider.Away()
	u.byToken(provider.Token(claims)) // under a key that is known

	server.Kill()
	server.Start()
	carol.head() // who is signed in does not need the provider
	want(t, refused(u, login, &tegamiv1.LoginRequest{IdToken: provider.Token(claims)}), "unavailable", "provider_away")
	provider.Instead(nil)
	u.byToken(provider.Token(claims))
	old := provider.Token(claims)
	provider.Rotate()
	u.byToken(provider.Token(claims))
	want(t, refused(u, login, &tegamiv1.LoginRequest{IdToken: old}), "unauthenticated", "bad_token")
	for _, outcome := range []string{"ok", "failed"} {
		if server.Metric(fmt.Sprintf("tegami_oidc_fetches_total{outcome=%q}", outcome)) == 0 {
			t.Errorf("no fetches are counted as %s", outcome)
		}
	}
}

// However many keys strangers name, the provider is asked a few times.
func TestFloodOfForgedTokens(t *testing.T) {
	provider := openid.Start(t)
	server := start(t, trusting(provider))
	server.CreateUsers("alice")
	u := visitor(t, server)
	stranger := provider.NewKey()
	for i := range 300 {
		forged := provider.SignWith(map[string]any{"kid": fmt.Sprint(i)}, stranger.Method, stranger.Private, nil)
		want(t, refused(u, login, &tegamiv1.LoginRequest{IdToken: forged}), "unauthenticated", "bad_token")
	}
	if n := provider.Requests(); n > 20 { // 2 a fetch, 3 fetches and 1 more each 10 seconds
		t.Errorf("%d requests to the provider for 300 tokens", n)
	}
	u.with(u.byToken(provider.Token(nil)).GetAccessToken()).head()
	want(t, refused(u, login, &tegamiv1.LoginRequest{IdToken: provider.Token(jwt.MapClaims{"sub": "nobody"})}), "permission_denied", "no_account")
}

func TestCommandLineTakesIDTokens(t *testing.T) {
	provider := openid.Start(t)
	server := start(t, trusting(provider, "oidc_register: true"))
	folder := t.TempDir()
	run := func(stdin string, arguments ...string) (string, error) {
		command := process.Command(t, process.Build(t, "-race"), arguments...)
		command.Stdin = strings.NewReader(stdin)
		command.Env = append(os.Environ(), "TEGAMI_URL="+server.URL(), "TEGAMI_CREDENTIALS="+filepath.Join(folder, "credentials.json"))
		out, err := command.CombinedOutput()
		return string(out), err
	}
	file := filepath.Join(folder, "token.jwt")
	if err := os.WriteFile(file, []byte(provider.Token(nil)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		stdin     string
		arguments []string
		says      string
	}{
		{"", []string{"login", "--device", "cli", "--id-token-file", file}, "Signed in as alice on device cli.\n"},
		{provider.Token(jwt.MapClaims{"sub": "bob"}), []string{"login", "--device", "cli", "--id-token-file", "-"}, "Signed in as bob on device cli.\n"},
		{"", []string{"send", "alice", "--as", "bob", secret}, "Sent "},
	} {
		if out, err := run(step.stdin, step.arguments...); err != nil || !strings.HasPrefix(out, step.says) {
			t.Errorf("tegami %v: %v: %s", step.arguments, err, out)
		}
	}
	for _, step := range []struct {
		stdin     string
		arguments []string
		says      string
	}{
		{"garbage", []string{"login", "--id-token-file", "-"}, "the ID token is not valid here (idToken)"},
		{" \n", []string{"login", "--id-token-file", "-"}, "there is no token in it"},
		{"", []string{"login", "--id-token-file", file + ".not"}, "no such file"},
		{"", []string{"login", "alice", "--id-token-file", file}, "leave the user away"},
		{"", []string{"login"}, "name the user"},
	} {
		if out, err := run(step.stdin, step.arguments...); err == nil || !strings.Contains(out, step.says) {
			t.Errorf("tegami %v: %v: %s, want %q", step.arguments, err, out, step.says)
		}
	}
}
