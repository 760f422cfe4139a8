package client

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Session is a device that is signed in. It holds secrets: whoever has it reads
// and writes as the user.
type Session struct {
	// Server is the URL of the server that issued it.
	Server       string    `json:"server"`
	UserID       string    `json:"userId"`
	DeviceID     string    `json:"deviceId"`
	AccessToken  string    `json:"accessToken"`
	RefreshToken string    `json:"refreshToken"`
	ExpireTime   time.Time `json:"expireTime"`
}

// SessionStore keeps the session of one device.
type SessionStore interface {
	// Update calls renew with the stored session, the zero Session when there
	// is none, and stores what it returns before it returns itself. No other
	// Update of that session runs meanwhile, in any process that shares the
	// store: a refresh token that two of them use would sign the device out.
	// When renew fails nothing is stored and its error is returned as it is.
	Update(ctx context.Context, renew func(stored Session) (Session, error)) error
}

// MemorySession is a SessionStore that ends with the program. The zero value
// holds none.
type MemorySession struct {
	mu      sync.Mutex
	session Session // guarded by mu
}

// Update implements SessionStore.
func (m *MemorySession) Update(_ context.Context, renew func(Session) (Session, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	renewed, err := renew(m.session)
	if err == nil {
		m.session = renewed
	}
	return err
}

// access keeps the session that calls use and renews it.
type access struct {
	wire  wire
	store SessionStore
	// renewing is held by the one renewal at a time. A channel, since whoever
	// waits for it must be able to give up.
	renewing chan struct{}

	mu      sync.Mutex
	session Session   // guarded by mu
	renewAt time.Time // guarded by mu; zero for when the server refuses it
}

func newAccess(w wire, store SessionStore, session Session) *access {
	a := &access{wire: w, store: store, renewing: make(chan struct{}, 1)}
	a.use(session)
	return a
}

func (a *access) current() Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.session
}

// use takes a session and plans its renewal in the last fifth of its time, at
// random, so that devices that signed in together do not renew together. A
// session that seems to have expired already is used until it is refused: more
// likely than not this machine's clock is ahead.
func (a *access) use(session Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.session, a.renewAt = session, time.Time{}
	if left := time.Until(session.ExpireTime); left > 0 {
		a.renewAt = time.Now().Add(left - left/20 - rand.N(left/8+1)) //nolint:gosec // spreads load
	}
}

// token returns a token to call with, renewed if it expires soon.
func (a *access) token(ctx context.Context) (string, error) {
	a.mu.Lock()
	token, due := a.session.AccessToken, !a.renewAt.IsZero() && time.Now().After(a.renewAt)
	if due {
		// Whatever becomes of this renewal, the other calls go on meanwhile,
		// and the next is tried later.
		a.renewAt = time.Now().Add(10 * time.Second)
	}
	a.mu.Unlock()
	if !due {
		return token, nil
	}
	if err := a.renew(ctx, token); err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return a.current().AccessToken, nil
}

// renew exchanges the session of a stale access token for a new one. When
// another call, or another process, has done so already it takes that one.
func (a *access) renew(ctx context.Context, stale string) error {
	select {
	case a.renewing <- struct{}{}:
		defer func() { <-a.renewing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	session := a.current()
	if session.AccessToken != stale {
		return nil
	}
	err := a.store.Update(ctx, func(stored Session) (Session, error) {
		if stored.AccessToken != stale && stored.AccessToken != "" {
			session = stored
			return stored, nil
		}
		var response tegamiv1.RefreshResponse
		request := &tegamiv1.RefreshRequest{RefreshToken: session.RefreshToken}
		if err := a.wire.call(ctx, callTimeout, "AuthService/Refresh", "", request, &response); err != nil {
			return Session{}, err
		}
		session = signedIn(session.Server, session.UserID, &response)
		return session, nil
	})
	if err != nil {
		return err // the new session, if there is one, is not used: the old one stays good
	}
	a.use(session)
	return nil
}

// signedIn makes a Session of what Login, Refresh and IssueToken answer.
func signedIn(server, user string, tokens interface {
	GetAccessToken() string
	GetRefreshToken() string
	GetExpireTime() *timestamppb.Timestamp
	GetDeviceId() string
},
) Session {
	return Session{
		Server:       server,
		UserID:       user,
		DeviceID:     tokens.GetDeviceId(),
		AccessToken:  tokens.GetAccessToken(),
		RefreshToken: tokens.GetRefreshToken(),
		ExpireTime:   tokens.GetExpireTime().AsTime(),
	}
}
