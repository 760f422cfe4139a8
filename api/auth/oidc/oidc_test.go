package oidc_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/tegami-im/tegami/api/auth/oidc"
	"github.com/tegami-im/tegami/api/fault"
	"github.com/tegami-im/tegami/api/validate"
	"github.com/tegami-im/tegami/test/openid"
)

// trusting returns what verifies a provider's tokens. change adjusts the options,
// or is nil.
func trusting(t testing.TB, p *openid.Provider, change func(*oidc.Options)) *oidc.Provider {
	t.Helper()
	opts := oidc.Options{Issuer: p.Issuer(), Audience: openid.Audience, TLS: p.TLS()}
	if change != nil {
		change(&opts)
	}
	verifier, err := oidc.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

// refused fails unless err is a fault of the ID token with a code and a reason.
func refused(t *testing.T, err error, code connect.Code, reason string) {
	t.Helper()
	f, ok := errors.AsType[*fault.Fault](err)
	if !ok || f.Code != code || f.Reason != reason {
		t.Errorf("got %v, want %v with reason %s", err, code, reason)
		return
	}
	if want := "idToken"; code != connect.CodeUnavailable && f.Field != want {
		t.Errorf("%v names the field %q, want %q", f, f.Field, want)
	}
}

func TestVerify(t *testing.T) {
	provider := openid.Start(t)
	verifier := trusting(t, provider, func(o *oidc.Options) { o.Reserved = []string{"echo"} })
	now := time.Now()
	for _, test := range []struct {
		name   string
		claims jwt.MapClaims
		reason string // empty: it is good
	}{
		{"as it should be", nil, ""},
		{"one of several audiences", jwt.MapClaims{"aud": []string{"other", openid.Audience}}, ""},
		{"expired within the leeway", jwt.MapClaims{"exp": now.Add(-30 * time.Second).Unix()}, ""},
		{"early within the leeway", jwt.MapClaims{"nbf": now.Add(30 * time.Second).Unix()}, ""},
		{"expired", jwt.MapClaims{"exp": now.Add(-2 * time.Minute).Unix()}, "expired_token"},
		{"without an end", jwt.MapClaims{"exp": nil}, "bad_token"},
		{"with an end that is no time", jwt.MapClaims{"exp": "soon"}, "bad_token"},
		{"too early", jwt.MapClaims{"nbf": now.Add(2 * time.Minute).Unix()}, "not_yet_valid"},
		{"another audience", jwt.MapClaims{"aud": "other"}, "wrong_audience"},
		{"no audience", jwt.MapClaims{"aud": nil}, "bad_token"},
		{"another issuer", jwt.MapClaims{"iss": "https://example.org"}, "wrong_issuer"},
		{"the issuer with a slash", jwt.MapClaims{"iss": provider.Issuer() + "/"}, "wrong_issuer"},
		{"no issuer", jwt.MapClaims{"iss": nil}, "bad_token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			identity, err := verifier.Verify(t.Context(), provider.Token(test.claims))
			if test.reason != "" {
				refused(t, err, connect.CodeUnauthenticated, test.reason)
			} else if err != nil || identity.User != "alice" {
				t.Errorf("got %v, %v", identity, err)
			}
		})
	}
}

func TestWhomATokenIsAbout(t *testing.T) {
	provider := openid.Start(t)
	for _, test := range []struct {
		name          string
		claim, prefix string
		claims        jwt.MapClaims
		user, display string // no user: it names none
	}{
		{"the subject", "", "", jwt.MapClaims{"sub": "bob"}, "bob", ""},
		{"a name to show", "", "", jwt.MapClaims{"name": "Zoë 紙"}, "alice", "Zoë 紙"},
		{"a name that is too long", "", "", jwt.MapClaims{"name": strings.Repeat("紙", 257)}, "alice", ""},
		{"a name that is none", "", "", jwt.MapClaims{"name": 7}, "alice", ""},
		{"another claim", "preferred_username", "", jwt.MapClaims{"preferred_username": "bob"}, "bob", ""},
		{"a prefix", "", "u-", jwt.MapClaims{"sub": "10769150350006150715113082367"}, "u-10769150350006150715113082367", ""},
		{"no such claim", "preferred_username", "", nil, "", ""},
		{"no such claim, with a prefix", "preferred_username", "u-bob", nil, "", ""},
		{"a number", "", "", jwt.MapClaims{"sub": 1234}, "", ""},
		{"a list", "", "", jwt.MapClaims{"sub": []string{"bob"}}, "", ""},
		{"empty", "", "u-bob", jwt.MapClaims{"sub": ""}, "", ""},
		{"capitals, which are not made small", "", "", jwt.MapClaims{"sub": "Bob"}, "", ""},
		{"a digit first", "", "", jwt.MapClaims{"sub": "1bob"}, "", ""},
		{"an address", "", "", jwt.MapClaims{"sub": "bob@example.org"}, "", ""},
		{"a space, which is not cut off", "", "", jwt.MapClaims{"sub": "bob "}, "", ""},
		{"too short", "", "", jwt.MapClaims{"sub": "ab"}, "", ""},
		{"too long", "", "u-", jwt.MapClaims{"sub": strings.Repeat("a", 63)}, "", ""},
		{"reserved", "", "", jwt.MapClaims{"sub": "echo"}, "", ""},
		{"reserved, with the prefix", "", "ec", jwt.MapClaims{"sub": "ho"}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			verifier := trusting(t, provider, func(o *oidc.Options) {
				o.Claim, o.Prefix, o.Reserved = test.claim, test.prefix, []string{"echo"}
			})
			got, err := verifier.Verify(t.Context(), provider.Token(test.claims))
			if test.user == "" {
				refused(t, err, connect.CodePermissionDenied, "bad_user")
				return
			}
			if want := (oidc.Identity{User: test.user, DisplayName: test.display}); err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

// Keys of each kind that a provider may have, under an id of their own.
func TestAlgorithms(t *testing.T) {
	provider := openid.Start(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := []openid.Key{
		{ID: "rs256", Method: jwt.SigningMethodRS256, Private: rsaKey},
		{ID: "rs512", Method: jwt.SigningMethodRS512, Private: rsaKey},
		{ID: "ps256", Method: jwt.SigningMethodPS256, Private: rsaKey},
		{ID: "es384", Method: jwt.SigningMethodES384, Private: p384},
		{ID: "eddsa", Method: jwt.SigningMethodEdDSA, Private: edKey},
		provider.NewKey(),
	}
	provider.Publish(keys...)
	verifier := trusting(t, provider, nil)
	for _, key := range keys {
		if _, err := verifier.Verify(t.Context(), provider.Sign(key, nil)); err != nil {
			t.Errorf("%s: %v", key.ID, err)
		}
		if _, err := verifier.Verify(t.Context(), provider.SignWith(nil, key.Method, key.Private, nil)); err != nil {
			t.Errorf("%s, not named: %v", key.ID, err)
		}
	}
	// A key is good for the algorithm that it was published for.
	_, err = verifier.Verify(t.Context(), provider.SignWith(map[string]any{"kid": "rs256"}, jwt.SigningMethodPS256, rsaKey, nil))
	refused(t, err, connect.CodeUnauthenticated, "bad_token")
}

// forgeries returns what anybody can make who knows the provider's public keys
// and has a token of their own.
func forgeries(t testing.TB, provider *openid.Provider, key openid.Key) map[string]string {
	t.Helper()
	good := provider.Sign(key, nil)
	parts := strings.Split(good, ".")
	public, err := x509.MarshalPKIXPublicKey(key.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.Private.Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	header := func(fields string) string { return base64.RawURLEncoding.EncodeToString([]byte(fields)) }
	named := map[string]any{"kid": key.ID}
	stranger := provider.NewKey()
	claims, err := json.Marshal(jwt.MapClaims{
		"iss": provider.Issuer(), "aud": openid.Audience, "sub": "bob", "exp": time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"nothing":                              "",
		"garbage":                              "not.a.token",
		"dots":                                 strings.Repeat(".", 1000),
		"huge garbage":                         strings.Repeat("A", 1<<20),
		"a huge claim, unsigned":               parts[0] + "." + header(`{"sub":"`+strings.Repeat("a", 1<<20)+`"}`) + "." + parts[2],
		"deep claims":                          parts[0] + "." + header(strings.Repeat(`{"a":`, 20_000)) + "." + parts[2],
		"a header that is null":                header("null") + "." + parts[1] + "." + parts[2],
		"claims that are null":                 parts[0] + "." + header("null") + "." + parts[2],
		"algorithm none":                       provider.SignWith(named, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil),
		"algorithm none, with a signature":     header(`{"alg":"none","kid":"`+key.ID+`"}`) + "." + parts[1] + "." + parts[2],
		"algorithm NONE":                       header(`{"alg":"NONE"}`) + "." + parts[1] + ".",
		"no algorithm":                         header(`{"kid":"`+key.ID+`"}`) + "." + parts[1] + "." + parts[2],
		"an algorithm that is no text":         header(`{"alg":1}`) + "." + parts[1] + "." + parts[2],
		"HS256 with the public key, DER":       provider.SignWith(named, jwt.SigningMethodHS256, public, nil),
		"HS256 with the public key, raw":       provider.SignWith(named, jwt.SigningMethodHS256, raw, nil),
		"without its signature":                parts[0] + "." + parts[1] + ".",
		"other claims under its signature":     parts[0] + "." + base64.RawURLEncoding.EncodeToString(claims) + "." + parts[2],
		"a stranger's key under a known name":  provider.SignWith(named, stranger.Method, stranger.Private, nil),
		"a stranger's key under no name":       provider.SignWith(nil, stranger.Method, stranger.Private, nil),
		"a stranger's key under its own name":  provider.Sign(stranger, nil),
		"a stranger's key in the header":       provider.SignWith(map[string]any{"jwk": map[string]string{"kty": "EC"}}, stranger.Method, stranger.Private, nil),
		"a name that is no text":               provider.SignWith(map[string]any{"kid": []int{1}}, stranger.Method, stranger.Private, nil),
		"a type of token that is not for this": provider.SignWith(map[string]any{"kid": key.ID, "typ": "at+jwt"}, key.Method, key.Private, nil),
		"a sign-out":                           provider.SignWith(map[string]any{"kid": key.ID, "typ": "logout+jwt"}, key.Method, key.Private, nil),
		"what has to be understood and is not": provider.SignWith(map[string]any{"kid": key.ID, "crit": []string{"x"}, "x": 1}, key.Method, key.Private, nil),
		"the token twice":                      good + "." + good,
	}
}

func TestForgeries(t *testing.T) {
	provider := openid.Start(t)
	key := provider.NewKey()
	provider.Publish(key)
	logs := new(bytes.Buffer)
	verifier := trusting(t, provider, func(o *oidc.Options) { o.Logger = slog.New(slog.NewTextHandler(logs, nil)) })
	for name, token := range forgeries(t, provider, key) {
		t.Run(name, func(t *testing.T) {
			_, err := verifier.Verify(t.Context(), token)
			refused(t, err, connect.CodeUnauthenticated, "bad_token")
		})
	}
	if _, err := verifier.Verify(t.Context(), provider.Sign(key, nil)); err != nil {
		t.Errorf("a good token after them: %v", err)
	}
	if logs.Len() > 0 {
		t.Errorf("it was logged: %s", logs)
	}
}

// What cannot be a token of the provider's is refused without asking it.
func TestGarbageAsksNothing(t *testing.T) {
	provider := openid.Start(t)
	verifier := trusting(t, provider, nil)
	for _, token := range []string{"", "garbage", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"} {
		_, err := verifier.Verify(t.Context(), token)
		refused(t, err, connect.CodeUnauthenticated, "bad_token")
	}
	if n := provider.Requests(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		issuer, audience string
		good             bool
	}{
		{"https://example.org", "app", true},
		{"https://example.org/realms/one", "app", true},
		{"http://127.0.0.1:8080", "app", true},
		{"http://[::1]", "app", true},
		{"http://localhost/realms/one", "app", true},
		{"http://example.org", "app", false},
		{"http://127.0.0.1.example.org", "app", false},
		{"ftp://example.org", "app", false},
		{"https://", "app", false},
		{"example.org", "app", false},
		{"https://%", "app", false},
		{"", "app", false},
		{"https://example.org", "", false},
	} {
		if _, err := oidc.New(oidc.Options{Issuer: test.issuer, Audience: test.audience}); (err == nil) != test.good {
			t.Errorf("%q for %q: %v", test.issuer, test.audience, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	provider := openid.Start(f)
	key := provider.NewKey()
	provider.Publish(key)
	verifier := trusting(f, provider, nil)
	own := provider.Sign(key, nil)
	f.Add(own)
	for _, token := range forgeries(f, provider, key) {
		if len(token) < 4096 {
			f.Add(token)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		if validate.IDToken("", token) != nil {
			return // it does not come that far
		}
		if _, err := verifier.Verify(t.Context(), token); err == nil && token != own {
			t.Errorf("%q is accepted", token)
		}
	})
}
