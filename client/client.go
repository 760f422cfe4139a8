package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// callTimeout is how long one attempt of a call may take, apart from the time
// that a poll is held.
const callTimeout = 10 * time.Second

// Client is one device of one user. Its methods are safe for concurrent use,
// but one Run at a time, and one RunChat for each chat.
type Client struct {
	options
	wire   wire
	access *access
}

type options struct {
	http        *http.Client
	store       SessionStore
	device      string
	pollTimeout time.Duration
	onRetry     func(error, time.Duration)
	nearest     bool
}

// Option changes how a Client works.
type Option func(*options)

// WithHTTPClient makes calls with an HTTP client of the caller's: for many
// clients over few connections, own certificates, or tests.
func WithHTTPClient(httpClient *http.Client) Option {
	return func(o *options) { o.http = httpClient }
}

// WithSessionStore keeps the session in a store whenever it changes.
func WithSessionStore(store SessionStore) Option {
	return func(o *options) { o.store = store }
}

// WithDevice signs in as a device of that id, 1 to 64 of A-Za-z0-9._-, in
// place of one made at random. Signing in again with the same id ends the
// session that the device had.
func WithDevice(id string) Option {
	return func(o *options) { o.device = id }
}

// WithPollTimeout sets how long Run asks the server to hold a poll, 1 to 120
// seconds. Shorten it below the patience of a proxy in between. The default is
// 50 seconds.
func WithPollTimeout(d time.Duration) Option {
	return func(o *options) { o.pollTimeout = d }
}

// WithOnRetry has a function called before Send and Run wait to try again, from
// whichever goroutine waits. It must not block.
func WithOnRetry(notice func(failure error, wait time.Duration)) Option {
	return func(o *options) { o.onRetry = notice }
}

func collect(opts []Option) options {
	o := options{pollTimeout: 50 * time.Second}
	for _, opt := range opts {
		opt(&o)
	}
	if o.http == nil {
		o.http = NewHTTPClient()
	}
	if o.store == nil {
		o.store = new(MemorySession)
	}
	return o
}

// Register takes a user id for ever. It is not repeated by itself: when the
// answer is lost, try to log in. CodeAlreadyExists: the id is taken.
func Register(ctx context.Context, server, user, password, displayName string, opts ...Option) error {
	w, err := newWire(collect(opts), server)
	if err != nil {
		return err
	}
	request := &tegamiv1.RegisterRequest{UserId: user, Password: password, DisplayName: displayName}
	return w.call(ctx, callTimeout, "AuthService/Register", "", request, new(tegamiv1.RegisterResponse))
}

// Login signs a device in. CodeUnauthenticated: no such user, or not this
// password.
func Login(ctx context.Context, server, user, password string, opts ...Option) (*Client, error) {
	o := collect(opts)
	w, err := newWire(o, server)
	if err != nil {
		return nil, err
	}
	return login(ctx, o, w, server, &tegamiv1.LoginRequest{UserId: user, Password: password, DeviceId: o.device})
}

// LoginWithIDToken signs a device in by an ID token of the OpenID provider that the
// server trusts, as the user whom the token is about; the Session of the Client
// says who that is. CodeUnauthenticated: the token is not good, or no more.
// CodePermissionDenied: it names nobody who has an account, or the server trusts no
// provider. CodeUnavailable: the server does not reach the provider; try again.
func LoginWithIDToken(ctx context.Context, server, idToken string, opts ...Option) (*Client, error) {
	o := collect(opts)
	w, err := newWire(o, server)
	if err != nil {
		return nil, err
	}
	return login(ctx, o, w, server, &tegamiv1.LoginRequest{IdToken: idToken, DeviceId: o.device})
}

func login(ctx context.Context, o options, w wire, server string, request *tegamiv1.LoginRequest) (*Client, error) {
	var response tegamiv1.LoginResponse
	if err := w.call(ctx, callTimeout, "AuthService/Login", "", request, &response); err != nil {
		return nil, err
	}
	// Servers of before ID tokens do not say who was signed in.
	session := signedIn(server, cmp.Or(response.GetUserId(), request.GetUserId()), &response)
	err := o.store.Update(ctx, func(Session) (Session, error) { return session, nil })
	if err != nil {
		return nil, err
	}
	return &Client{options: o, wire: w, access: newAccess(w, o.store, session)}, nil
}

// ErrNoSession is what Resume returns when the store is empty: log in.
var ErrNoSession = errors.New("not signed in")

// Resume goes on with the session in a store, without asking the server. Error:
// ErrNoSession.
func Resume(ctx context.Context, store SessionStore, opts ...Option) (*Client, error) {
	o := collect(append(opts, WithSessionStore(store)))
	var session Session
	err := store.Update(ctx, func(stored Session) (Session, error) {
		session = stored
		if stored.AccessToken == "" {
			return Session{}, ErrNoSession
		}
		return stored, nil
	})
	if err != nil {
		return nil, err
	}
	w, err := newWire(o, session.Server)
	if err != nil {
		return nil, err
	}
	return &Client{options: o, wire: w, access: newAccess(w, store, session)}, nil
}

// New returns a client for a session from elsewhere, such as
// [Admin.IssueToken].
func New(session Session, opts ...Option) (*Client, error) {
	o := collect(opts)
	w, err := newWire(o, session.Server)
	if err != nil {
		return nil, err
	}
	return &Client{options: o, wire: w, access: newAccess(w, o.store, session)}, nil
}

// Session returns the session as it is now.
func (c *Client) Session() Session { return c.access.current() }

// call makes one call as the user, with a renewed session if the present one
// is refused.
func (c *Client) call(ctx context.Context, timeout time.Duration, method string, request, response proto.Message) error {
	token, err := c.access.token(ctx)
	if err != nil {
		return err
	}
	err = c.wire.call(ctx, timeout, method, token, request, response)
	if CodeOf(err) != CodeUnauthenticated {
		return err
	}
	if err := c.access.renew(ctx, token); err != nil {
		return err
	}
	return c.wire.call(ctx, timeout, method, c.access.current().AccessToken, request, response)
}

// newID returns an id that nobody else makes.
func newID() string { return rand.Text() }
