package oidc

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// key is a public key of a provider.
type key struct {
	id        string
	algorithm string // empty: any that the key is for
	public    crypto.PublicKey
}

const (
	discoveryPath = "/.well-known/openid-configuration"
	// maxAnswer bounds what a provider answers. Dozens of keys with their
	// certificates take less.
	maxAnswer = 512 << 10
	// maxRedirects is how often the provider may send elsewhere.
	maxRedirects = 3
)

// source is where a provider publishes its keys.
type source struct {
	issuer string
	http   *http.Client
}

func newSource(issuer string, settings *tls.Config) (*source, error) {
	parsed, err := url.Parse(issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if err := confidential(parsed); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return &source{issuer: issuer, http: &http.Client{
		Transport: &http.Transport{
			Proxy:           http.ProxyFromEnvironment,
			TLSClientConfig: settings,
			// It is asked so seldom that an open connection would be in the way.
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			return confidential(r.URL)
		},
	}}, nil
}

// confidential refuses a URL over which others could put keys of their own.
func confidential(u *url.URL) error {
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Hostname() == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return fmt.Errorf("%q is no https URL, nor an http URL on this machine", u.Redacted())
	}
	return nil
}

// fetch returns the keys that the provider has, of those that a token can be
// signed with. That it has none is an error: no provider means that.
func (s *source) fetch(ctx context.Context) ([]key, error) {
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+discoveryPath, &document); err != nil {
		return nil, err
	}
	if document.Issuer != s.issuer {
		return nil, fmt.Errorf("the provider calls itself %q, not %q", document.Issuer, s.issuer)
	}
	location, err := url.Parse(document.Keys)
	if err != nil {
		return nil, fmt.Errorf("jwks_uri: %w", err)
	}
	if err := confidential(location); err != nil {
		return nil, fmt.Errorf("jwks_uri: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.get(ctx, document.Keys, &set); err != nil {
		return nil, err
	}
	var keys []key
	for _, encoded := range set.Keys {
		var k jose.JSONWebKey
		// Keys of a kind that is not known here are others' business.
		if k.UnmarshalJSON(encoded) == nil && k.IsPublic() && (k.Use == "" || k.Use == "sig") {
			keys = append(keys, key{id: k.KeyID, algorithm: k.Algorithm, public: k.Key})
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the provider has no keys to sign with")
	}
	return keys, nil
}

// get reads JSON. What else a provider answers does not get into the error.
func (s *source) get(ctx context.Context, from string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	response, err := s.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", from, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", from, err)
	case len(body) > maxAnswer:
		return fmt.Errorf("%s: more than %d bytes", from, maxAnswer)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}
