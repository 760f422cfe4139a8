// Package oidc tells whom an OpenID provider vouches for in an ID token.
//
// A token is verified here and now, by public keys that the provider publishes
// and that are kept: [Provider.Verify] asks the provider only for keys that are
// not known, or not confirmed for a while. How often it does is bounded,
// whatever tokens come, and while the provider is away the keys that are known
// go on being used. Nothing is asked before the first token comes.
package oidc

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/tegami-im/tegami/api/fault"
	"github.com/tegami-im/tegami/api/validate"
)

const (
	// DefaultClaim names the user unless another claim is to.
	DefaultClaim = "sub"
	// nameClaim holds the name to show.
	nameClaim = "name"
	// leeway is how far the provider's clock may be from this one.
	leeway = time.Minute
)

// algorithms may sign a token: those with a public key. A secret that both sides
// share, and no signature at all, are none of them.
var algorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// Options says which tokens are good and whom they name.
type Options struct {
	// Issuer is the provider's URL, as tokens have it: https, or http on this
	// machine. Required.
	Issuer string
	// Audience must be one of a token's: the client id. Required.
	Audience string
	// Claim is the one that names the user. Default DefaultClaim.
	Claim string
	// Prefix is put before the claim's value. The two together must be a user id
	// as they are.
	Prefix string
	// Reserved are user ids that nobody is signed in as.
	Reserved []string
	// TLS says whom to trust for the provider. Nil: the system's authorities.
	TLS *tls.Config
	// Logger is told when keys cannot be fetched. Default: nobody is. No token is
	// ever logged.
	Logger *slog.Logger
	// Fetched, unless nil, is called after each fetch of keys, from any goroutine;
	// it must not block.
	Fetched func(err error)
}

// Identity is whom a token is about.
type Identity struct {
	User string
	// DisplayName is empty when the token has none that could be shown.
	DisplayName string
}

// Provider verifies the ID tokens of one OpenID provider. It is safe for
// concurrent use, and runs nothing in the background.
type Provider struct {
	claim, prefix string
	reserved      []string
	parser        *jwt.Parser
	keys          *keyring
}

// New returns a provider. It does not ask it anything yet.
func New(opts Options) (*Provider, error) {
	from, err := newSource(opts.Issuer, opts.TLS)
	switch {
	case err != nil:
		return nil, fmt.Errorf("oidc: %w", err)
	case opts.Audience == "":
		return nil, errors.New("oidc: no audience")
	}
	log := cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))
	return &Provider{
		claim:    cmp.Or(opts.Claim, DefaultClaim),
		prefix:   opts.Prefix,
		reserved: opts.Reserved,
		parser: jwt.NewParser(
			jwt.WithValidMethods(algorithms),
			jwt.WithIssuer(opts.Issuer),
			jwt.WithAudience(opts.Audience),
			jwt.WithExpirationRequired(),
			jwt.WithLeeway(leeway),
			jwt.WithStrictDecoding(),
		),
		keys: newKeyring(func(ctx context.Context) ([]key, error) {
			keys, err := from.fetch(ctx)
			if opts.Fetched != nil {
				opts.Fetched(err)
			}
			if err != nil {
				log.Warn("the keys of the OpenID provider cannot be fetched", "error", err)
			}
			return keys, err
		}),
	}, nil
}

// What is wrong with a token, as clients see it. Only the holder of a token with
// a good signature learns more than that it is not valid.
var (
	errBadToken      = refused("bad_token", "the ID token is not valid here")
	errExpired       = refused("expired_token", "the ID token has expired")
	errTooEarly      = refused("not_yet_valid", "the ID token is not valid yet")
	errWrongIssuer   = refused("wrong_issuer", "the ID token is of another issuer")
	errWrongAudience = refused("wrong_audience", "the ID token is for another audience")
)

// field is the JSON name of the field of a request that a token comes in.
const field = "idToken"

func refused(reason, text string) *fault.Fault {
	f := fault.Unauthenticated(reason, text)
	f.Field = field
	return f
}

// errUnknownKey is the fault of a token under a key that the provider may have
// made since it was asked.
var errUnknownKey = errors.New("no key of the provider's that is known fits")

// Verify returns whom a token is about. Its error is a [fault.Fault]:
// unauthenticated for a token that is not good, permission_denied for one that
// names nobody who could be a user, and unavailable when the provider must be
// asked for keys and does not answer; or the context's error. It waits for the
// provider for 5 seconds at most.
func (p *Provider) Verify(ctx context.Context, token string) (Identity, error) {
	claims, err := p.parse(ctx, token, p.keys.current)
	if errors.Is(err, errUnknownKey) {
		claims, err = p.parse(ctx, token, p.keys.renewed)
	}
	if err != nil {
		return Identity{}, fail(err)
	}
	return p.identify(claims)
}

// parse verifies a token by keys, which are asked for only once it looks like a
// token that they could have signed.
func (p *Provider) parse(ctx context.Context, token string, keys func(context.Context) ([]key, error)) (jwt.MapClaims, error) {
	claims := jwt.MapClaims{}
	nameless := false
	_, err := p.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if !isIDToken(t.Header) {
			return nil, errBadToken
		}
		id, _ := t.Header["kid"].(string)
		nameless = id == ""
		known, err := keys(ctx)
		if err != nil {
			return nil, err
		}
		return fitting(known, id, t.Method.Alg())
	})
	if nameless && errors.Is(err, jwt.ErrTokenSignatureInvalid) {
		err = errUnknownKey // whichever signed it
	}
	return claims, err
}

// isIDToken reports whether a header can be of an ID token. Providers sign other
// tokens with the same keys, for the same audience, and say so in typ; what crit
// names has to be understood, and nothing of it is.
func isIDToken(header map[string]any) bool {
	kind, typed := header["typ"].(string)
	_, critical := header["crit"]
	return !critical && (!typed || strings.EqualFold(kind, "JWT"))
}

func fail(err error) error {
	if known, ok := errors.AsType[*fault.Fault](err); ok {
		return known
	}
	for _, failure := range []struct{ is, told error }{
		{context.Canceled, context.Canceled},
		{context.DeadlineExceeded, context.DeadlineExceeded},
		{jwt.ErrTokenInvalidIssuer, errWrongIssuer},
		{jwt.ErrTokenInvalidAudience, errWrongAudience},
		{jwt.ErrTokenExpired, errExpired},
		{jwt.ErrTokenNotValidYet, errTooEarly},
	} {
		if errors.Is(err, failure.is) {
			return failure.told
		}
	}
	return errBadToken
}

// identify returns whom verified claims are about. The value is taken as it is:
// to change it could make two of the provider's users one here.
func (p *Provider) identify(claims jwt.MapClaims) (Identity, error) {
	value, ok := claims[p.claim].(string)
	if !ok || value == "" {
		return Identity{}, p.nobody("it is no text, or missing")
	}
	user := p.prefix + value
	if err := validate.UserID(field, user); err != nil {
		return Identity{}, p.nobody(fault.From(err).Text)
	}
	if slices.Contains(p.reserved, user) {
		return Identity{}, p.nobody("the id is taken")
	}
	name, _ := claims[nameClaim].(string)
	if validate.DisplayName(nameClaim, name) != nil {
		name = ""
	}
	return Identity{User: user, DisplayName: name}, nil
}

func (p *Provider) nobody(why string) error {
	return &fault.Fault{
		Code:   connect.CodePermissionDenied,
		Reason: "bad_user",
		Text:   fmt.Sprintf("the claim %s of the ID token names no user here: %s", p.claim, why),
		Field:  field,
	}
}
