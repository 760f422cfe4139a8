// Package openid has an OpenID provider for tests: it publishes keys over TLS on
// loopback and signs what it is told to, right or wrong.
package openid

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
)

// Audience is whom tokens are for unless they are told to be for another.
const Audience = "tegami-test"

// Where the provider publishes what it does.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	KeysPath      = "/keys"
)

// Provider is an OpenID provider. It is safe for concurrent use.
type Provider struct {
	t      testing.TB
	server *httptest.Server

	mu       sync.Mutex // guards the following
	keys     []Key      // the newest last
	made     int
	requests int
	instead  http.HandlerFunc
}

// Key is a pair of keys of a provider.
type Key struct {
	ID      string
	Method  jwt.SigningMethod
	Private crypto.Signer
}

// Start runs a provider with one key until the test ends.
func Start(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{t: t}
	p.server = httptest.NewUnstartedServer(p)
	p.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of clients that do not trust it
	p.server.StartTLS()
	t.Cleanup(p.server.Close)
	p.Rotate()
	return p
}

// Issuer is the provider's URL.
func (p *Provider) Issuer() string { return p.server.URL }

// TLS trusts the provider alone.
func (p *Provider) TLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(p.server.Certificate())
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// CA is a PEM file with the certificate to trust.
func (p *Provider) CA() string {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), "provider.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return file
}

// NewKey makes a key that the provider does not publish.
func (p *Provider) NewKey() Key {
	p.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made++
	return Key{ID: fmt.Sprintf("key-%d", p.made), Method: jwt.SigningMethodES256, Private: private}
}

// Rotate has the provider sign with a new key, and withdraw those it had.
func (p *Provider) Rotate() { p.Publish(p.NewKey()) }

// Publish sets the provider's keys. It signs with the last.
func (p *Provider) Publish(keys ...Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

// Instead has the provider answer something else, or, with nil, what it should.
func (p *Provider) Instead(handler http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = handler
}

// Away has the provider answer nothing: every connection is cut off.
func (p *Provider) Away() {
	p.Instead(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Requests is how many requests have come.
func (p *Provider) Requests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

// Token signs claims with the newest key. What they do not say is as it should be.
func (p *Provider) Token(claims jwt.MapClaims) string {
	p.t.Helper()
	p.mu.Lock()
	key := p.keys[len(p.keys)-1]
	p.mu.Unlock()
	return p.Sign(key, claims)
}

// Sign is Token with another key. A claim that is nil is left out.
func (p *Provider) Sign(key Key, claims jwt.MapClaims) string {
	p.t.Helper()
	return p.SignWith(map[string]any{"kid": key.ID}, key.Method, key.Private, claims)
}

// SignWith is Sign with another header and whatever the method takes for a key.
func (p *Provider) SignWith(header map[string]any, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	p.t.Helper()
	now := time.Now()
	all := jwt.MapClaims{
		"iss": p.Issuer(), "aud": Audience, "sub": "alice",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	token := jwt.NewWithClaims(method, all)
	maps.Copy(token.Header, header)
	signed, err := token.SignedString(key)
	if err != nil {
		p.t.Fatal(err)
	}
	return signed
}

// ServeHTTP implements http.Handler.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests++
	instead, keys := p.instead, p.keys
	p.mu.Unlock()
	switch {
	case instead != nil:
		instead(w, r)
	case r.URL.Path == DiscoveryPath:
		p.write(w, map[string]string{"issuer": p.Issuer(), "jwks_uri": p.Issuer() + KeysPath})
	case r.URL.Path == KeysPath:
		var set jose.JSONWebKeySet
		for _, k := range keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: k.ID, Use: "sig", Algorithm: k.Method.Alg(), Key: k.Private.Public()})
		}
		p.write(w, set)
	default:
		http.NotFound(w, r)
	}
}

func (p *Provider) write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		p.t.Error(err)
	}
}
