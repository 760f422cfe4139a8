package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/fault"
)

// What is wrong with a token, as clients see it.
var (
	errNoToken      = fault.Unauthenticated("no_token", "an access token is needed")
	errBadToken     = fault.Unauthenticated("bad_token", "the token is not valid here")
	errExpiredToken = fault.Unauthenticated("expired_token", "the token has expired")
	errNoSession    = fault.Unauthenticated("session_ended", "the device was signed out")
)

// maxTokenLength bounds what is hashed and parsed. Ours have some 400 bytes.
const maxTokenLength = 2048

// TokenOptions says what tokens hold. Zero values mean the defaults.
type TokenOptions struct {
	// Issuer and Audience are written into access tokens and asked for in
	// those that come back. Default "tegami".
	Issuer, Audience string
	// AccessTTL is how long an access token is good. Default 15 minutes.
	AccessTTL time.Duration
	// RefreshTTL is how long a refresh token is good. Default 30 days.
	RefreshTTL time.Duration
	// Others returns the public key with an id, a KeyID, of another who issues
	// tokens that are good here, too. It must be quick, and safe for concurrent
	// use. Nil: there are none.
	Others func(id string) (ed25519.PublicKey, bool)
	// CacheSize is how many verified access tokens are remembered. Default
	// 65,536.
	CacheSize int
}

func (o TokenOptions) withDefaults() TokenOptions {
	if o.Issuer == "" {
		o.Issuer = "tegami"
	}
	if o.Audience == "" {
		o.Audience = "tegami"
	}
	if o.AccessTTL <= 0 {
		o.AccessTTL = 15 * time.Minute
	}
	if o.RefreshTTL <= 0 {
		o.RefreshTTL = 30 * 24 * time.Hour
	}
	if o.CacheSize <= 0 {
		o.CacheSize = 1 << 16
	}
	return o
}

// Tokens issues and verifies the tokens of sessions. It is safe for concurrent
// use.
type Tokens struct {
	opts       TokenOptions
	key        ed25519.PrivateKey
	public     ed25519.PublicKey
	id         string // of the key
	refreshKey []byte
	parser     *jwt.Parser
	verified   *tokenCache
}

// NewTokens returns tokens under a signing key.
func NewTokens(key ed25519.PrivateKey, opts TokenOptions) (*Tokens, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("auth: no signing key")
	}
	opts = opts.withDefaults()
	refreshKey, err := derive(key, "refresh token")
	if err != nil {
		return nil, fmt.Errorf("auth: derive the refresh key: %w", err)
	}
	public := key.Public().(ed25519.PublicKey)
	return &Tokens{
		opts:       opts,
		key:        key,
		public:     public,
		id:         KeyID(public),
		refreshKey: refreshKey,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
			jwt.WithIssuer(opts.Issuer),
			jwt.WithAudience(opts.Audience),
			jwt.WithExpirationRequired(),
			jwt.WithStrictDecoding(),
		),
		verified: newTokenCache(opts.CacheSize),
	}, nil
}

// keyIDLength is the length of a KeyID.
const keyIDLength = 12

// KeyID returns by what the tokens under a key name it.
func KeyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return encode(sum[:keyIDLength*6/8])
}

// publicOf returns the public key with an id. Tokens of earlier builds name none.
func (t *Tokens) publicOf(id string) (ed25519.PublicKey, bool) {
	if id == "" || id == t.id {
		return t.public, true
	}
	if t.opts.Others == nil {
		return nil, false
	}
	public, ok := t.opts.Others(id)
	return public, ok && len(public) == ed25519.PublicKeySize
}

func (t *Tokens) publicOfAccess(token *jwt.Token) (any, error) {
	id, _ := token.Header["kid"].(string)
	if public, ok := t.publicOf(id); ok {
		return public, nil
	}
	return nil, errBadToken
}

type accessClaims struct {
	jwt.RegisteredClaims

	Device string `json:"device"`
	Epoch  uint64 `json:"epoch"`
}

// IssueAccess returns an access token of a session and when it expires.
func (t *Tokens) IssueAccess(session talk.Session) (token string, expires time.Time, err error) {
	now := time.Now()
	claims := accessClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    t.opts.Issuer,
			Audience:  jwt.ClaimStrings{t.opts.Audience},
			Subject:   session.User,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(t.opts.AccessTTL)),
		},
		Device: session.Device,
		Epoch:  session.Epoch,
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	unsigned.Header["kid"] = t.id
	token, err = unsigned.SignedString(t.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign an access token: %w", err)
	}
	return token, claims.ExpiresAt.Time, nil
}

// VerifyAccess returns the session that an access token was issued for. A
// token is verified once and remembered until it expires.
func (t *Tokens) VerifyAccess(token string) (talk.Session, error) {
	if token == "" {
		return talk.Session{}, errNoToken
	}
	if len(token) > maxTokenLength {
		return talk.Session{}, errBadToken
	}
	key := keyOfToken(token)
	if session, ok := t.verified.get(key, time.Now()); ok {
		return session, nil
	}
	var claims accessClaims
	_, err := t.parser.ParseWithClaims(token, &claims, t.publicOfAccess)
	switch {
	case errors.Is(err, jwt.ErrTokenExpired) && !errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return talk.Session{}, errExpiredToken
	case err != nil || claims.Subject == "" || claims.Device == "" || claims.Epoch == 0:
		return talk.Session{}, errBadToken
	}
	session := talk.Session{User: claims.Subject, Device: claims.Device, Epoch: claims.Epoch}
	t.verified.put(key, session, claims.ExpiresAt.Time)
	return session, nil
}

// Recall returns what VerifyAccess would, if the token was verified before and
// that is still known.
func (t *Tokens) Recall(token string) (session talk.Session, known bool) {
	if token == "" || len(token) > maxTokenLength {
		return talk.Session{}, false
	}
	return t.verified.get(keyOfToken(token), time.Now())
}

// keyOfToken returns the key of a token, of maxTokenLength at most, in the cache.
func keyOfToken(token string) [32]byte {
	var buffer [maxTokenLength]byte // on the stack: every request has a token
	return sha256.Sum256(buffer[:copy(buffer[:], token)])
}

// Bearer returns the token of an Authorization header, empty when it carries
// none.
func Bearer(header string) string {
	const scheme = "bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return ""
	}
	return strings.TrimSpace(header[len(scheme):])
}

// RefreshSecret is the random part of a refresh token. The talk tier keeps its
// hash alone.
type RefreshSecret [32]byte

// NewRefreshSecret returns a secret and the hash under which it is known.
func NewRefreshSecret() (secret RefreshSecret, hash [32]byte) {
	_, _ = rand.Read(secret[:]) // never fails
	return secret, secret.Hash()
}

// Hash returns the hash under which the talk tier knows the secret.
func (s RefreshSecret) Hash() [32]byte { return sha256.Sum256(s[:]) }

// A refresh token is, in base64url, the fields below and an Ed25519 signature over
// refreshPurpose and them, so that whoever knows the public key can tell:
//
//	version 1 byte
//	key    12 bytes, the KeyID
//	expiry  8 bytes, seconds since 1970, big endian
//	epoch   8 bytes, big endian
//	user    1 byte length, then the user id
//	device  1 byte length, then the device id
//	secret 32 bytes
//
// Those of version 1 have no key, and an HMAC-SHA-256 for the signature. They are
// taken from the time when they were issued.
const (
	refreshVersion    = 2
	refreshVersionMAC = 1
)

// refreshPurpose keeps the signatures of refresh tokens apart from others under
// the key.
const refreshPurpose = "tegami refresh token\x00"

// IssueRefresh returns the refresh token of a session with its secret.
func (t *Tokens) IssueRefresh(session talk.Session, secret RefreshSecret) string {
	raw := make([]byte, 0, 320)
	raw = append(raw, refreshVersion)
	raw = append(raw, t.id...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(time.Now().Add(t.opts.RefreshTTL).Unix()))
	raw = binary.BigEndian.AppendUint64(raw, session.Epoch)
	raw = append(append(raw, byte(len(session.User))), session.User...)
	raw = append(append(raw, byte(len(session.Device))), session.Device...)
	raw = append(raw, secret[:]...)
	return encode(append(raw, ed25519.Sign(t.key, append([]byte(refreshPurpose), raw...))...))
}

// sum appends the MAC of raw to it.
func (t *Tokens) sum(raw []byte) []byte {
	mac := hmac.New(sha256.New, t.refreshKey)
	mac.Write(raw)
	return mac.Sum(raw)
}

// authentic returns the fields behind the key of a refresh token that one whom we
// trust has issued.
func (t *Tokens) authentic(raw []byte) (fields []byte, ok bool) {
	switch {
	case len(raw) == 0:
		return nil, false
	case raw[0] == refreshVersionMAC && len(raw) > sha256.Size:
		signed := raw[:len(raw)-sha256.Size]
		return signed[1:], hmac.Equal(t.sum(slices.Clip(signed)), raw)
	case raw[0] == refreshVersion && len(raw) > 1+keyIDLength+ed25519.SignatureSize:
		signed, signature := raw[:len(raw)-ed25519.SignatureSize], raw[len(raw)-ed25519.SignatureSize:]
		public, known := t.publicOf(string(signed[1 : 1+keyIDLength]))
		return signed[1+keyIDLength:], known && ed25519.Verify(public, append([]byte(refreshPurpose), signed...), signature)
	default:
		return nil, false
	}
}

// VerifyRefresh returns the session and the secret of a refresh token that was
// issued under our key, or another's that is good here, and has not expired.
// Whether it was used before, the talk tier tells.
func (t *Tokens) VerifyRefresh(token string) (talk.Session, RefreshSecret, error) {
	var session talk.Session
	var secret RefreshSecret
	if token == "" {
		return session, secret, errNoToken
	}
	if len(token) > maxTokenLength {
		return session, secret, errBadToken
	}
	raw, err := decode(token)
	if err != nil {
		return session, secret, errBadToken
	}
	fields, ok := t.authentic(raw)
	if !ok || len(fields) < 16 {
		return session, secret, errBadToken
	}
	expiry := time.Unix(int64(binary.BigEndian.Uint64(fields)), 0)
	session.Epoch = binary.BigEndian.Uint64(fields[8:])
	rest, okUser := cutString(fields[16:], &session.User)
	rest, okDevice := cutString(rest, &session.Device)
	if !okUser || !okDevice || len(rest) != len(secret) {
		return talk.Session{}, secret, errBadToken
	}
	if !time.Now().Before(expiry) {
		return talk.Session{}, secret, errExpiredToken
	}
	copy(secret[:], rest)
	return session, secret, nil
}

// cutString takes a string with its length before it off the front of raw.
func cutString(raw []byte, s *string) (rest []byte, ok bool) {
	if len(raw) == 0 || len(raw) < 1+int(raw[0]) {
		return nil, false
	}
	n := 1 + int(raw[0])
	*s = string(raw[1:n])
	return raw[n:], true
}
