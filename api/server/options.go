// Package server is the API edge: it terminates HTTP, lets requests in or
// refuses them, and hands them to the talk tier, of which [Talk] is all it
// knows.
//
// # Two ways through
//
// SendMessage and FetchOps in the Connect protocol, JSON and binary, are the
// hot methods. They are continuations: a handler takes the decoded request and
// a function that answers it later ([Call], [Reply]), and above the HTTP engine
// no goroutine waits for a held poll. Everything else, gRPC and gRPC-Web
// included, goes through Connect's own handlers, which wait on the same
// continuations. Both ways share admission, validation, codecs and faults, so a
// client cannot tell which one it took.
//
// # Order
//
// A request is refused as early as it can be: by its header (HTTP method,
// content type, encoding, declared length), then because the server is
// stopping, then by its token, its session and its rate, and only then is its
// body read, decoded and validated. What state decides is the talk tier's
// business.
//
// # Stopping
//
// [Server.Refuse] turns new requests away, if nobody could do what they ask. The
// talk tier is then told to answer the held polls, and [Server.Drain] sends
// clients away and waits until the last answer is written.
package server

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/tegami-im/tegami/api/auth"
	"github.com/tegami-im/tegami/api/limit"
	"github.com/tegami-im/tegami/api/validate"
)

// Options says how the server listens and what it allows. A zero value means
// the default that is named with the field.
type Options struct {
	// Listen is the address of the public listener. Default 127.0.0.1:7400.
	Listen string
	// AdminListen is the address of the admin listener, which is always
	// cleartext. Default 127.0.0.1:7401.
	AdminListen string
	// Listeners are sockets that are bound already, in place of those addresses.
	// The server closes them.
	Listeners Listeners
	// TLS makes the public listener speak TLS.
	TLS TLSFiles
	// AllowCleartext lets the public listener bind wider than loopback without
	// TLS, for use behind a proxy that ends it.
	AllowCleartext bool
	// Proxies are the networks of proxies that are believed whom they have a request
	// from, in X-Forwarded-For: what is limited for each address is so for that one.
	Proxies []netip.Prefix
	// AllowAdminCleartext lets the admin listener bind wider than loopback, for
	// use inside a private network.
	AllowAdminCleartext bool
	// Registration says who may call Register. Default RegistrationLoopback.
	Registration Registration
	// Provider vouches for users, beside passwords. Default: nobody does.
	Provider ProviderOptions

	// Region is where this server is; empty when that does not matter.
	Region string
	// Gateways returns the servers that clients may connect to, this one among
	// them; it must be quick. Nil: there is no choice.
	Gateways func() []Gateway

	// SigningKey signs access tokens. Required; see [auth.LoadOrCreateKey].
	SigningKey ed25519.PrivateKey
	// AdminToken is the bearer token of AdminService. Required; see
	// [auth.LoadOrCreateAdminToken].
	AdminToken string
	// AdminHandlers are served on the admin listener beside AdminService, by
	// pattern: /metrics, /healthz, /readyz, /debug/pprof/.
	AdminHandlers map[string]http.Handler
	// Behaviours that other services may call.
	Behaviours BehaviourCalls

	Tokens    auth.TokenOptions
	Sessions  auth.SessionOptions
	Passwords PasswordOptions
	Limits    Limits
	HTTP      HTTPOptions
	Deadlines Deadlines

	// Logger takes what the server has to say. Default: nothing is said. No
	// message body and no token is ever logged.
	Logger *slog.Logger
	// Hooks are called as requests go through.
	Hooks Hooks
}

// Listeners are listening sockets; either may be nil.
type Listeners struct {
	Public, Admin net.Listener
}

// Registration says who may call Register.
type Registration uint8

const (
	// RegistrationLoopback lets clients register while the public listener is
	// bound to loopback.
	RegistrationLoopback Registration = iota
	// RegistrationOpen lets everybody register.
	RegistrationOpen
	// RegistrationClosed lets nobody register: accounts come from the admin
	// calls.
	RegistrationClosed
)

// TLSFiles names a certificate chain and its key, in PEM. They are read again
// when they change.
type TLSFiles struct {
	Cert, Key string
}

func (f TLSFiles) set() bool { return f.Cert != "" || f.Key != "" }

// PasswordOptions bounds the work on passwords.
type PasswordOptions struct {
	// Concurrent is how many passwords are hashed at once, 19 MiB each.
	// Default 2.
	Concurrent int
	// Wait is how long a further one waits before it is refused. Default 1 s.
	Wait time.Duration
}

// Limits are the rates at which clients may ask. A rate below zero means no
// limit, zero the default.
type Limits struct {
	// Sends is for each user. Default 200 a second, burst 1,000.
	Sends limit.Rate
	// Polls is for each device. Default 100 a second, burst 200.
	Polls limit.Rate
	// Finds is for each user, over what tells whether there is another user, or
	// reaches all friends: the methods of ContactService that do not list,
	// GetProfile, UpdateProfile and UpdateSettings together. Default 1 a second,
	// burst 60.
	Finds limit.Rate
	// SignIns is for each address that is not loopback, over Register, Login
	// and Refresh together. Default 10 a second, burst 50.
	SignIns limit.Rate
	// Requests is how many requests of clients are in flight at a time, but for
	// polls that are held. As that is neared, those that matter least are refused
	// first: see Class. Default 16,384.
	Requests int
	// HeldPolls is how many polls are held at a time. Default 1,048,576.
	HeldPolls int
	// MaxKeys is how many users, devices and addresses are watched at a time.
	// Default 262,144 of each.
	MaxKeys int
}

// HTTPOptions bounds connections and requests.
type HTTPOptions struct {
	// MaxConnections is how many connections each listener has at a time; a
	// further one is closed at once. Default 65,536.
	MaxConnections int
	// MaxHandshakes is how many TLS handshakes of clients are under way at a time;
	// a further connection is closed at once. Default 4,096.
	MaxHandshakes int
	// MaxStreams is how many requests one HTTP/2 connection has in flight.
	// Default 250.
	MaxStreams int
	// MaxHeaderBytes bounds the header of a request. Default 32 KiB.
	MaxHeaderBytes int
	// MaxRequestBytes bounds the body of a request. Default 192 KiB.
	MaxRequestBytes int64
	// MaxAdminRequestBytes bounds it on the admin listener. Default 4 MiB.
	MaxAdminRequestBytes int64
	// HeaderTimeout is how long a header may take to come. Default 5 s.
	HeaderTimeout time.Duration
	// BodyTimeout is how long header and body may take together. Default 10 s.
	BodyTimeout time.Duration
	// IdleTimeout is how long a connection stays open without a request.
	// Default 3 min.
	IdleTimeout time.Duration
	// PingAfter is how long an HTTP/2 connection may be silent before it is
	// pinged. Default 30 s.
	PingAfter time.Duration
	// PingTimeout is how long the answer to a ping may take. Default 10 s.
	PingTimeout time.Duration
	// WriteTimeout is how long an HTTP/2 connection may take no byte of what
	// is to be written. Default 10 s.
	WriteTimeout time.Duration
}

// Deadlines bounds how long requests take.
type Deadlines struct {
	// Hold is the longest time that a poll may ask to be held, at most 120 s.
	// Default 120 s.
	Hold time.Duration
	// Send is how long a SendMessage without a deadline of its own waits for
	// its answer. Default 5 s.
	Send time.Duration
	// Request is the same for all other methods but FetchOps. Default 15 s.
	Request time.Duration
	// Max is the longest time that any of these waits for a client whose own
	// deadline is later. Default 2 min.
	Max time.Duration
}

func orDefault[T int | int64 | time.Duration](value, fallback T) T {
	if value <= 0 {
		return fallback
	}
	return value
}

func rateOr(rate limit.Rate, perSecond float64, burst int) limit.Rate {
	if rate.PerSecond == 0 {
		return limit.Rate{PerSecond: perSecond, Burst: burst}
	}
	return rate
}

func (o Options) withDefaults() Options {
	if o.Listeners.Public != nil {
		o.Listen = o.Listeners.Public.Addr().String()
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:7400"
	}
	if o.Listeners.Admin != nil {
		o.AdminListen = o.Listeners.Admin.Addr().String()
	}
	if o.AdminListen == "" {
		o.AdminListen = "127.0.0.1:7401"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &o.Passwords
	p.Concurrent = orDefault(p.Concurrent, 2)
	p.Wait = orDefault(p.Wait, time.Second)

	l := &o.Limits
	l.Sends = rateOr(l.Sends, 200, 1000)
	l.Polls = rateOr(l.Polls, 100, 200)
	l.Finds = rateOr(l.Finds, 1, 60)
	l.SignIns = rateOr(l.SignIns, 10, 50)
	l.MaxKeys = orDefault(l.MaxKeys, 1<<18)
	l.Requests = orDefault(l.Requests, 1<<14)
	l.HeldPolls = orDefault(l.HeldPolls, 1<<20)

	h := &o.HTTP
	h.MaxConnections = orDefault(h.MaxConnections, 1<<16)
	h.MaxHandshakes = orDefault(h.MaxHandshakes, 1<<12)
	h.MaxStreams = orDefault(h.MaxStreams, 250)
	h.MaxHeaderBytes = orDefault(h.MaxHeaderBytes, 32<<10)
	h.MaxRequestBytes = orDefault(h.MaxRequestBytes, 192<<10)
	h.MaxAdminRequestBytes = orDefault(h.MaxAdminRequestBytes, 4<<20)
	h.HeaderTimeout = orDefault(h.HeaderTimeout, 5*time.Second)
	h.BodyTimeout = orDefault(h.BodyTimeout, 10*time.Second)
	h.IdleTimeout = orDefault(h.IdleTimeout, 3*time.Minute)
	h.PingAfter = orDefault(h.PingAfter, 30*time.Second)
	h.PingTimeout = orDefault(h.PingTimeout, 10*time.Second)
	h.WriteTimeout = orDefault(h.WriteTimeout, 10*time.Second)

	d := &o.Deadlines
	d.Hold = min(orDefault(d.Hold, validate.MaxHold), validate.MaxHold)
	d.Send = orDefault(d.Send, 5*time.Second)
	d.Request = orDefault(d.Request, 15*time.Second)
	d.Max = orDefault(d.Max, 2*time.Minute)
	return o
}

// ErrCleartext is returned for a listener that would carry tokens and messages
// in the clear beyond this machine.
var ErrCleartext = errors.New("binding wider than loopback needs TLS, or cleartext must be allowed")

func (o Options) validate() error {
	switch {
	case len(o.SigningKey) != ed25519.PrivateKeySize:
		return errors.New("server: no signing key")
	case o.AdminToken == "":
		return errors.New("server: no admin token")
	case o.TLS.set() && (o.TLS.Cert == "" || o.TLS.Key == ""):
		return errors.New("server: TLS needs both a certificate and a key")
	case !o.AllowCleartext && !o.TLS.set() && !isLoopback(o.Listen):
		return fmt.Errorf("server: listen on %s: %w", o.Listen, ErrCleartext)
	case !o.AllowAdminCleartext && !isLoopback(o.AdminListen):
		return fmt.Errorf("server: listen for admin on %s: %w", o.AdminListen, ErrCleartext)
	}
	return nil
}

// isLoopback reports whether an address to listen on is reachable from this
// machine alone. A name other than localhost is taken not to be.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
