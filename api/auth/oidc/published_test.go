package oidc_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/tegami-im/tegami/api/auth/oidc"
	"github.com/tegami-im/tegami/api/fault"
	"github.com/tegami-im/tegami/test/openid"
)

// However many keys are made up, the provider is asked a few times.
func TestAFloodOfUnknownKeys(t *testing.T) {
	provider := openid.Start(t)
	verifier := trusting(t, provider, nil)
	stranger := provider.NewKey()
	for i := range 200 {
		_, err := verifier.Verify(t.Context(), provider.SignWith(map[string]any{"kid": fmt.Sprint(i)}, stranger.Method, stranger.Private, nil))
		refused(t, err, connect.CodeUnauthenticated, "bad_token")
	}
	// 2 requests for each fetch. A slow machine may take 10 seconds for all of this.
	if n := provider.Requests(); n < 2 || n > 10 {
		t.Errorf("%d requests for 200 tokens", n)
	}
	if _, err := verifier.Verify(t.Context(), provider.Token(nil)); err != nil {
		t.Errorf("a good token meanwhile: %v", err)
	}
}

func TestRotation(t *testing.T) {
	provider := openid.Start(t)
	verifier := trusting(t, provider, nil)
	before := provider.Token(nil)
	if _, err := verifier.Verify(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	provider.Rotate()
	if _, err := verifier.Verify(t.Context(), before); err != nil {
		t.Errorf("under the old key, before the new one is seen: %v", err)
	}
	if _, err := verifier.Verify(t.Context(), provider.Token(nil)); err != nil {
		t.Errorf("under the new key: %v", err)
	}
	_, err := verifier.Verify(t.Context(), before)
	refused(t, err, connect.CodeUnauthenticated, "bad_token")
}

// A provider with one key need not name it.
func TestRotationOfKeysWithoutNames(t *testing.T) {
	provider := openid.Start(t)
	verifier := trusting(t, provider, nil)
	for range 3 {
		key := provider.NewKey()
		key.ID = ""
		provider.Publish(key)
		if _, err := verifier.Verify(t.Context(), provider.SignWith(nil, key.Method, key.Private, nil)); err != nil {
			t.Error(err)
		}
	}
}

func TestProviderThatIsAway(t *testing.T) {
	provider := openid.Start(t)
	var fetches []error
	verifier := trusting(t, provider, func(o *oidc.Options) {
		o.Fetched = func(err error) { fetches = append(fetches, err) }
	})
	provider.Away()
	_, err := verifier.Verify(t.Context(), provider.Token(nil))
	refused(t, err, connect.CodeUnavailable, "provider_away")
	if f := fault.From(err); f.RetryAfter <= 0 {
		t.Errorf("no advice when to try again: %v", f)
	}
	provider.Instead(nil)
	if _, err := verifier.Verify(t.Context(), provider.Token(nil)); err != nil {
		t.Fatalf("it is back: %v", err)
	}
	provider.Away()
	if _, err := verifier.Verify(t.Context(), provider.Token(nil)); err != nil {
		t.Errorf("a known key: %v", err)
	}
	known := provider.Token(nil)
	provider.Rotate()
	_, err = verifier.Verify(t.Context(), provider.Token(nil))
	refused(t, err, connect.CodeUnavailable, "provider_away")
	_, err = verifier.Verify(t.Context(), known[:len(known)-8]+"AAAAAAAA")
	refused(t, err, connect.CodeUnauthenticated, "bad_token")
	if _, err := verifier.Verify(t.Context(), known); err != nil {
		t.Errorf("a known key: %v", err)
	}
	if len(fetches) != 3 || fetches[0] == nil || fetches[1] != nil || fetches[2] == nil {
		t.Errorf("fetches ended with %v", fetches)
	}
}

// Whatever a provider answers, the keys that are known stay.
func TestProviderThatAnswersGarbage(t *testing.T) {
	document := func(p *openid.Provider, issuer, keys string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == openid.DiscoveryPath {
				_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer, keys)
				return
			}
			_, _ = fmt.Fprint(w, `{"keys":[]}`)
		}
	}
	says := func(body string) func(*openid.Provider) http.HandlerFunc {
		return func(*openid.Provider) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) }
		}
	}
	keys := func(set string) func(*openid.Provider) http.HandlerFunc {
		return func(p *openid.Provider) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == openid.KeysPath {
					_, _ = fmt.Fprint(w, set)
					return
				}
				document(p, p.Issuer(), p.Issuer()+openid.KeysPath)(w, r)
			}
		}
	}
	for name, test := range map[string]struct {
		answers func(*openid.Provider) http.HandlerFunc
		why     string // part of what the log says
	}{
		"nothing":           {says(""), "unexpected end of JSON input"},
		"HTML":              {says("<html>"), "invalid character"},
		"null":              {says("null"), "calls itself"},
		"a list":            {says("[]"), "cannot unmarshal array"},
		"more than is read": {says(`{"issuer":"` + strings.Repeat("a", 1<<20) + `"}`), "more than 524288 bytes"},
		"deep JSON":         {says(strings.Repeat(`{"a":`, 100_000)), "exceeded max depth"},
		"an error":          {func(*openid.Provider) http.HandlerFunc { return http.NotFound }, "404 Not Found"},
		"another issuer": {func(p *openid.Provider) http.HandlerFunc {
			return document(p, "https://example.org", p.Issuer()+openid.KeysPath)
		}, "calls itself"},
		"keys in the clear": {func(p *openid.Provider) http.HandlerFunc {
			return document(p, p.Issuer(), "http://example.org/keys")
		}, "is no https URL"},
		"keys in a file": {func(p *openid.Provider) http.HandlerFunc {
			return document(p, p.Issuer(), "file:///etc/passwd")
		}, "is no https URL"},
		"keys nowhere": {func(p *openid.Provider) http.HandlerFunc {
			return document(p, p.Issuer(), "")
		}, "is no https URL"},
		"keys at no URL": {func(p *openid.Provider) http.HandlerFunc {
			return document(p, p.Issuer(), "https://%")
		}, "invalid URL escape"},
		"a way in the clear": {func(*openid.Provider) http.HandlerFunc {
			return http.RedirectHandler("http://example.org/", http.StatusFound).ServeHTTP
		}, "is no https URL"},
		"a way round": {func(*openid.Provider) http.HandlerFunc {
			return http.RedirectHandler("/", http.StatusFound).ServeHTTP
		}, "too many redirects"},
		"no keys":            {keys(`{"keys":[]}`), "no keys to sign with"},
		"keys that are null": {keys(`{"keys":null}`), "no keys to sign with"},
		"keys of no kind": {
			keys(`{"keys":[null,7,"x",{},{"kty":"oct","k":"AAAA"},{"kty":"RSA"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`),
			"no keys to sign with",
		},
	} {
		t.Run(name, func(t *testing.T) {
			provider := openid.Start(t)
			logs := new(bytes.Buffer)
			verifier := trusting(t, provider, func(o *oidc.Options) { o.Logger = slog.New(slog.NewTextHandler(logs, nil)) })
			known := provider.Token(nil)
			if _, err := verifier.Verify(t.Context(), known); err != nil {
				t.Fatal(err)
			}
			provider.Rotate()
			provider.Instead(test.answers(provider))
			unknown := provider.Token(nil)
			_, err := verifier.Verify(t.Context(), unknown)
			refused(t, err, connect.CodeUnavailable, "provider_away")
			if log := logs.String(); !strings.Contains(log, test.why) || strings.Contains(log, unknown) || len(log) > 1000 {
				t.Errorf("the log says %q, want %q", log, test.why)
			}
			if _, err := verifier.Verify(t.Context(), known); err != nil {
				t.Errorf("a known key: %v", err)
			}
		})
	}
}

// A secret that a provider publishes by mistake is no key to sign with, nor is a
// key for encryption; the others count all the same.
func TestKeysThatAreNoneToSignWith(t *testing.T) {
	provider := openid.Start(t)
	key := provider.NewKey()
	provider.Publish(key)
	published := key.Private.Public().(*ecdsa.PublicKey)
	raw, err := published.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, y := base64.RawURLEncoding.EncodeToString(raw[1:33]), base64.RawURLEncoding.EncodeToString(raw[33:])
	publish := func(use string) {
		provider.Instead(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == openid.DiscoveryPath {
				_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, provider.Issuer(), provider.Issuer()+openid.KeysPath)
				return
			}
			_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"oct","kid":"secret","k":"AAAA"},{"kty":"new"},{"kty":"EC","crv":"P-256","kid":%q,"use":%q,"x":%q,"y":%q}]}`, key.ID, use, x, y)
		})
	}
	verifier := trusting(t, provider, nil)
	publish("enc")
	_, err = verifier.Verify(t.Context(), provider.Token(nil))
	refused(t, err, connect.CodeUnavailable, "provider_away")
	publish("sig")
	if _, err := verifier.Verify(t.Context(), provider.Token(nil)); err != nil {
		t.Error(err)
	}
	_, err = verifier.Verify(t.Context(), provider.SignWith(map[string]any{"kid": "secret"}, jwt.SigningMethodHS256, []byte{0, 0, 0}, nil))
	refused(t, err, connect.CodeUnauthenticated, "bad_token")
}

// A provider under another certificate is not the one that is trusted.
func TestProviderThatIsNotTrusted(t *testing.T) {
	provider := openid.Start(t)
	verifier := trusting(t, provider, func(o *oidc.Options) { o.TLS = nil })
	_, err := verifier.Verify(t.Context(), provider.Token(nil))
	refused(t, err, connect.CodeUnavailable, "provider_away")
}
