package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/talk"
)

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newTokens(t testing.TB, key ed25519.PrivateKey, opts TokenOptions) *Tokens {
	t.Helper()
	tokens, err := NewTokens(key, opts)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func issueAccess(t testing.TB, tokens *Tokens, session talk.Session) string {
	t.Helper()
	token, _, err := tokens.IssueAccess(session)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// An access token is good until it expires, remembered or not.
func TestAccessTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t)
		tokens, others := newTokens(t, key, TokenOptions{}), newTokens(t, key, TokenOptions{})
		token, expires, err := tokens.IssueAccess(phone)
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Until(expires); got != 15*time.Minute {
			t.Errorf("expires in %v", got)
		}
		for range 3 {
			if session, err := tokens.VerifyAccess(token); err != nil || session != phone {
				t.Errorf("got %v, %v", session, err)
			}
		}
		if session, known := tokens.Recall(token); !known || session != phone {
			t.Errorf("recalled: %v, %v", session, known)
		}
		if _, known := others.Recall(token); known {
			t.Error("recalled by one that never saw it")
		}
		<-time.After(15*time.Minute - time.Second)
		if _, err := tokens.VerifyAccess(token); err != nil {
			t.Errorf("a second before: %v", err)
		}
		<-time.After(time.Second)
		if _, known := tokens.Recall(token); known {
			t.Error("recalled after its time")
		}
		for name, verifier := range map[string]*Tokens{"remembered": tokens, "new": others} {
			if _, err := verifier.VerifyAccess(token); !errors.Is(err, errExpiredToken) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Only what we signed, for us, with all that a session needs, is a token.
func TestAccessTokensOfOthersAreRefused(t *testing.T) {
	key := newKey(t)
	tokens := newTokens(t, key, TokenOptions{})
	good := accessClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: "tegami", Audience: jwt.ClaimStrings{"tegami"}, Subject: "alice", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
		},
		Device: "phone", Epoch: 1,
	}
	sign := func(method jwt.SigningMethod, key any, change func(*accessClaims)) string {
		claims := good
		change(&claims)
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	same := func(*accessClaims) {}
	if _, err := tokens.VerifyAccess(sign(jwt.SigningMethodEdDSA, key, same)); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, token := range map[string]string{
		"unsigned":             sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, same),
		"HMAC with our public": sign(jwt.SigningMethodHS256, []byte(key.Public().(ed25519.PublicKey)), same),
		"under another key":    sign(jwt.SigningMethodEdDSA, newKey(t), same),
		"of another issuer":    sign(jwt.SigningMethodEdDSA, key, func(c *accessClaims) { c.Issuer = "other" }),
		"for others":           sign(jwt.SigningMethodEdDSA, key, func(c *accessClaims) { c.Audience = jwt.ClaimStrings{"other"} }),
		"for nobody":           sign(jwt.SigningMethodEdDSA, key, func(c *accessClaims) { c.Audience = nil }),
		"that never expires":   sign(jwt.SigningMethodEdDSA, key, func(c *accessClaims) { c.ExpiresAt = nil }),
		"without a user":       sign(jwt.SigningMethodEdDSA, key, func(c *accessClaims) { c.Subject = "" }),
		"without a device":     sign(jwt.SigningMethodEdDSA, key, func(c *accessClaims) { c.Device = "" }),
		"without an epoch":     sign(jwt.SigningMethodEdDSA, key, func(c *accessClaims) { c.Epoch = 0 }),
		"that starts later":    sign(jwt.SigningMethodEdDSA, key, func(c *accessClaims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(time.Hour)) }),
	} {
		if session, err := tokens.VerifyAccess(token); !errors.Is(err, errBadToken) {
			t.Errorf("a token %s: %v, %v", name, session, err)
		}
	}
	if _, err := tokens.VerifyAccess(""); !errors.Is(err, errNoToken) {
		t.Errorf("no token: %v", err)
	}
}

// No single changed character of a token leaves it valid, in either kind.
func TestTamperedTokensAreRefused(t *testing.T) {
	tokens := newTokens(t, newKey(t), TokenOptions{})
	secret, _ := NewRefreshSecret()
	access, refresh := issueAccess(t, tokens, phone), tokens.IssueRefresh(phone, secret)
	rapid.Check(t, func(rt *rapid.T) {
		for _, token := range []string{access, refresh} {
			at := rapid.IntRange(0, len(token)-1).Draw(rt, "at")
			with := rapid.SampledFrom([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=")).Draw(rt, "with")
			if token[at] == with {
				continue
			}
			changed := token[:at] + string(with) + token[at+1:]
			_, errAccess := tokens.VerifyAccess(changed)
			_, _, errRefresh := tokens.VerifyRefresh(changed)
			if errAccess == nil || errRefresh == nil {
				rt.Fatalf("%s is accepted", changed)
			}
		}
	})
}

// The cache stays bounded and keeps what is in use.
func TestVerifiedTokensAreRememberedWithinBounds(t *testing.T) {
	const size = 100
	cache := newTokenCache(size)
	now := time.Now()
	key := func(i int) [32]byte { return sha256.Sum256([]byte(strconv.Itoa(i))) }
	for i := range 20 * size {
		cache.put(key(i), phone, now.Add(time.Hour))
		if _, ok := cache.get(key(0), now); !ok {
			t.Fatalf("what is in use was forgotten after %d others", i)
		}
		if n := len(cache.young) + len(cache.old); n > size {
			t.Fatalf("remembers %d, the bound is %d", n, size)
		}
	}
	if _, ok := cache.get(key(size), now); ok {
		t.Error("what was used once, long ago, is still there")
	}
}

func TestRefreshTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey(t)
		tokens := newTokens(t, key, TokenOptions{})
		secret, hash := NewRefreshSecret()
		token := tokens.IssueRefresh(phone, secret)
		session, got, err := tokens.VerifyRefresh(token)
		if err != nil || session != phone || got != secret || got.Hash() != hash {
			t.Errorf("got %v, %v", session, err)
		}
		if _, _, err := newTokens(t, newKey(t), TokenOptions{}).VerifyRefresh(token); !errors.Is(err, errBadToken) {
			t.Errorf("under another key: %v", err)
		}
		<-time.After(30*24*time.Hour - time.Second)
		if _, _, err := tokens.VerifyRefresh(token); err != nil {
			t.Errorf("a second before it expires: %v", err)
		}
		<-time.After(time.Second)
		if _, _, err := tokens.VerifyRefresh(token); !errors.Is(err, errExpiredToken) {
			t.Errorf("when it expires: %v", err)
		}
	})
}

// A refresh token carries any session whole.
func TestRefreshTokensCarryAnySession(t *testing.T) {
	tokens := newTokens(t, newKey(t), TokenOptions{})
	rapid.Check(t, func(rt *rapid.T) {
		want := talk.Session{
			User:   rapid.StringN(0, 64, 64).Draw(rt, "user"),
			Device: rapid.StringN(0, 64, 64).Draw(rt, "device"),
			Epoch:  rapid.Uint64().Draw(rt, "epoch"),
		}
		secret, _ := NewRefreshSecret()
		session, got, err := tokens.VerifyRefresh(tokens.IssueRefresh(want, secret))
		if err != nil || session != want || got != secret {
			rt.Fatalf("got %v, %v", session, err)
		}
	})
}

// What is signed by us but is not of our making (a later version) is refused, never
// read beyond its end.
func TestRefreshTokensOfAnotherShapeAreRefused(t *testing.T) {
	tokens := newTokens(t, newKey(t), TokenOptions{})
	secret, _ := NewRefreshSecret()
	whole, err := decode(tokens.IssueRefresh(phone, secret))
	if err != nil {
		t.Fatal(err)
	}
	signed := func(fields []byte) string {
		return encode(append(fields, ed25519.Sign(tokens.key, append([]byte(refreshPurpose), fields...))...))
	}
	fields := whole[:len(whole)-ed25519.SignatureSize]
	for n := range len(fields) {
		if _, _, err := tokens.VerifyRefresh(signed(slices.Clone(fields[:n]))); !errors.Is(err, errBadToken) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		if _, _, err := tokens.VerifyRefresh(encode(tokens.sum(append([]byte{refreshVersionMAC}, fields[:n]...)))); !errors.Is(err, errBadToken) {
			t.Errorf("of version 1 with %d bytes of version 2: %v", n, err)
		}
	}
	later := slices.Clone(fields)
	later[0]++
	if _, _, err := tokens.VerifyRefresh(signed(later)); !errors.Is(err, errBadToken) {
		t.Errorf("of a later version: %v", err)
	}
}

// Devices that signed in with an earlier build stay signed in.
func TestRefreshTokensOfEarlierBuilds(t *testing.T) {
	tokens := newTokens(t, newKey(t), TokenOptions{})
	secret, _ := NewRefreshSecret()
	raw := []byte{refreshVersionMAC}
	raw = binary.BigEndian.AppendUint64(raw, uint64(time.Now().Add(time.Hour).Unix()))
	raw = binary.BigEndian.AppendUint64(raw, phone.Epoch)
	raw = append(append(raw, byte(len(phone.User))), phone.User...)
	raw = append(append(raw, byte(len(phone.Device))), phone.Device...)
	raw = append(raw, secret[:]...)
	token := encode(tokens.sum(raw))
	if session, got, err := tokens.VerifyRefresh(token); err != nil || session != phone || got != secret {
		t.Errorf("got %v, %v", session, err)
	}
	if _, _, err := newTokens(t, newKey(t), TokenOptions{}).VerifyRefresh(token); !errors.Is(err, errBadToken) {
		t.Errorf("under another key: %v", err)
	}
}

// Several issuers, each with a key of its own, take each other's tokens by their
// public keys, and none of one that is not among them.
func TestIssuersThatKnowEachOther(t *testing.T) {
	public := map[string]ed25519.PublicKey{}
	others := func(id string) (ed25519.PublicKey, bool) { key, ok := public[id]; return key, ok }
	var issuers []*Tokens
	for range 2 {
		key := newKey(t)
		public[KeyID(key.Public().(ed25519.PublicKey))] = key.Public().(ed25519.PublicKey)
		issuers = append(issuers, newTokens(t, key, TokenOptions{Others: others}))
	}
	stranger := newTokens(t, newKey(t), TokenOptions{Others: others})
	secret, _ := NewRefreshSecret()
	access, refresh := issueAccess(t, issuers[0], phone), issuers[0].IssueRefresh(phone, secret)
	if session, err := issuers[1].VerifyAccess(access); err != nil || session != phone {
		t.Errorf("access: got %v, %v", session, err)
	}
	if session, got, err := issuers[1].VerifyRefresh(refresh); err != nil || session != phone || got != secret {
		t.Errorf("refresh: got %v, %v", session, err)
	}
	if _, err := issuers[1].VerifyAccess(issueAccess(t, stranger, phone)); !errors.Is(err, errBadToken) {
		t.Errorf("access of a stranger: %v", err)
	}
	if _, _, err := issuers[1].VerifyRefresh(stranger.IssueRefresh(phone, secret)); !errors.Is(err, errBadToken) {
		t.Errorf("refresh of a stranger: %v", err)
	}
	// A stranger that names the key of another.
	forged := newTokens(t, newKey(t), TokenOptions{})
	forged.id = issuers[0].id
	if _, err := issuers[1].VerifyAccess(issueAccess(t, forged, phone)); !errors.Is(err, errBadToken) {
		t.Errorf("forged access: %v", err)
	}
	if _, _, err := issuers[1].VerifyRefresh(forged.IssueRefresh(phone, secret)); !errors.Is(err, errBadToken) {
		t.Errorf("forged refresh: %v", err)
	}
	clear(public)
	if _, _, err := issuers[1].VerifyRefresh(refresh); !errors.Is(err, errBadToken) {
		t.Errorf("of a key that is none any more: %v", err)
	}
}

func TestBearer(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer abc": "abc", "bearer abc": "abc", "BEARER  abc ": "abc",
		"": "", "Bearer": "", "Bearer ": "", "Basic abc": "", "abc": "", "Bearerabc": "",
	} {
		if got := Bearer(header); got != want {
			t.Errorf("%q holds %q, want %q", header, got, want)
		}
	}
}

func FuzzVerifyAccess(f *testing.F) {
	tokens := newTokens(f, newKey(f), TokenOptions{})
	own := issueAccess(f, tokens, phone)
	f.Add("")
	f.Add(own)
	f.Add(strings.Replace(own, ".", "..", 1))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := tokens.VerifyAccess(token); err == nil && token != own {
			t.Errorf("%q is accepted", token)
		}
	})
}

func FuzzVerifyRefresh(f *testing.F) {
	tokens := newTokens(f, newKey(f), TokenOptions{})
	secret, _ := NewRefreshSecret()
	own := tokens.IssueRefresh(phone, secret)
	f.Add("")
	f.Add(own)
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, 100)))
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, err := tokens.VerifyRefresh(token); err == nil && token != own {
			t.Errorf("%q is accepted", token)
		}
		// The same behind our MAC: the parser alone stands between.
		if raw, err := decode(token); err == nil && len(raw) < 1024 {
			_, _, _ = tokens.VerifyRefresh(encode(tokens.sum(raw)))
		}
	})
}

func BenchmarkVerifyAccess(b *testing.B) {
	tokens := newTokens(b, newKey(b), TokenOptions{})
	token := issueAccess(b, tokens, phone)
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tokens.VerifyAccess(token); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tokens.verified = newTokenCache(2)
			if _, err := tokens.VerifyAccess(token); err != nil {
				b.Fatal(err)
			}
		}
	})
}
