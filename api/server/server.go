package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/tegami-im/tegami/api/auth"
	"github.com/tegami-im/tegami/api/limit"
)

// Server is the API edge of one process: a public and an admin listener. All
// methods are safe for concurrent use.
type Server struct {
	writing          writing
	opts             Options
	log              *slog.Logger
	talk             Talk
	tokens           *auth.Tokens
	passwords        *auth.Passwords
	admission        *admission
	inFlight, polls  *limit.Gate // requests; polls that are held, which are none
	registrationOpen bool

	public, admin *listener
	clients       *publicEngine // of public
}

// New returns a server whose listeners are bound but not served yet: clients
// that connect wait. The caller must Close it.
func New(opts Options, tier Talk) (*Server, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	tokens, err := auth.NewTokens(opts.SigningKey, opts.Tokens)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts:      opts,
		log:       opts.Logger,
		talk:      tier,
		tokens:    tokens,
		passwords: auth.NewPasswords(opts.Passwords.Concurrent, opts.Passwords.Wait),
		admission: &admission{
			tokens:     tokens,
			sessions:   auth.NewSessions(tier.CheckSession, opts.Sessions),
			adminToken: opts.AdminToken,
			proxies:    opts.Proxies,
			sends:      limit.NewTable[string](opts.Limits.Sends, opts.Limits.MaxKeys),
			polls:      limit.NewTable[deviceKey](opts.Limits.Polls, opts.Limits.MaxKeys),
			finds:      limit.NewTable[string](opts.Limits.Finds, opts.Limits.MaxKeys),
			signIns:    limit.NewTable[netip.Prefix](opts.Limits.SignIns, opts.Limits.MaxKeys),
		},
		registrationOpen: opts.Registration == RegistrationOpen ||
			opts.Registration == RegistrationLoopback && isLoopback(opts.Listen),
	}
	s.inFlight, s.polls = newGates(opts.Limits)
	tier.OnSessionEnded(s.admission.sessions.End)
	if err := s.listen(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// PublicAddr returns the address of the public listener.
func (s *Server) PublicAddr() net.Addr { return s.public.bound.Addr() }

// AdminAddr returns the address of the admin listener.
func (s *Server) AdminAddr() net.Addr { return s.admin.bound.Addr() }

// Ready reports whether requests are served: the talk tier is ready and the
// server is not stopping.
func (s *Server) Ready() bool { return !s.admission.stopping.Load() && s.talk.Ready() }

// Serve serves both listeners until Drain or Close ends them, and then returns
// nil, or until one of them fails. It is called once.
func (s *Server) Serve() error {
	failed := make(chan error, 2)
	for _, l := range s.listeners() {
		go func() { failed <- l.serve() }()
	}
	err := <-failed
	if err != nil {
		err = errors.Join(err, s.Close())
	}
	return errors.Join(err, <-failed)
}

// Refuse makes every new request answer unavailable from here on. Those that
// are under way go on. Handlers on the admin listener that are not RPCs keep
// working.
func (s *Server) Refuse() { s.admission.stopping.Store(true) }

// Sockets returns the listening sockets, for another process to serve them, too.
// They stay the server's.
func (s *Server) Sockets() Listeners { return Listeners{s.public.socket, s.admin.socket} }

// Drain accepts no new connections, tells clients to make theirs elsewhere, and
// waits until what they ask on those that they have is answered and the
// connections have ended; the talk tier must be told to answer the held polls.
// It returns the context's error if that ends first; what is left then Close
// ends.
func (s *Server) Drain(ctx context.Context) error {
	drained := make(chan error, 2)
	for _, l := range s.listeners() {
		go func() { drained <- l.engine.Shutdown(ctx) }()
	}
	return errors.Join(<-drained, <-drained)
}

// Close ends both listeners and every connection at once.
func (s *Server) Close() error {
	s.Refuse()
	var errs []error
	for _, l := range s.listeners() {
		if l != nil {
			errs = append(errs, l.close())
		}
	}
	return errors.Join(errs...)
}

func (s *Server) listeners() [2]*listener { return [2]*listener{s.public, s.admin} }
