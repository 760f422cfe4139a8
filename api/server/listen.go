package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/tegami-im/tegami/api/codec"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
)

// listener is one address with the engine that serves it.
type listener struct {
	socket net.Listener
	bound  net.Listener // the socket, or TLS on it
	engine engine
}

func (l *listener) serve() error {
	if err := l.engine.Serve(l.bound); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.bound.Addr(), err)
	}
	return nil
}

// close closes the bound address too, which the engine does not know of before
// it serves.
func (l *listener) close() error {
	err := errors.Join(l.engine.Close(), l.bound.Close())
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// listen binds both addresses.
func (s *Server) listen() error {
	var tlsConfig *tls.Config
	if s.opts.TLS.set() {
		cert, err := loadCertificate(s.opts.TLS, s.log)
		if err != nil {
			return err
		}
		tlsConfig = cert.config()
	}
	var err error
	s.clients = s.publicEngine()
	if s.public, err = bind(s.opts.Listeners.Public, s.opts.Listen, tlsConfig, s.clients); err != nil {
		return err
	}
	s.admin, err = bind(s.opts.Listeners.Admin, s.opts.AdminListen, nil, s.httpServer(s.adminHandler()))
	return err
}

// bind returns a listener on a socket, or on an address when that is nil.
func bind(socket net.Listener, address string, tlsConfig *tls.Config, engine engine) (*listener, error) {
	if socket == nil {
		var err error
		var config net.ListenConfig
		if socket, err = config.Listen(context.Background(), "tcp", address); err != nil {
			return nil, fmt.Errorf("server: %w", err)
		}
	}
	bound := socket
	if tlsConfig != nil {
		bound = tls.NewListener(bound, tlsConfig)
	}
	return &listener{socket: socket, bound: bound, engine: engine}, nil
}

// httpServer returns net/http's engine for a handler.
func (s *Server) httpServer(handler http.Handler) *http.Server {
	o := s.opts.HTTP
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		MaxHeaderBytes:    o.MaxHeaderBytes,
		ReadHeaderTimeout: o.HeaderTimeout,
		// A deadline for each request's body, which does not touch a poll whose
		// body is there. There is no WriteTimeout: it would end held polls.
		ReadTimeout: o.BodyTimeout,
		IdleTimeout: o.IdleTimeout,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: o.MaxStreams,
			SendPingTimeout:      o.PingAfter,
			PingTimeout:          o.PingTimeout,
			WriteByteTimeout:     o.WriteTimeout,
		},
		ConnState: boundConnections(int64(o.MaxConnections)),
		ErrorLog:  slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// boundConnections closes a connection that is one too many.
func boundConnections(limit int64) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if open.Add(1) > limit {
				_ = conn.Close()
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
}

// publicHandler routes the requests of clients.
func (s *Server) publicHandler(hot map[string]*hotMethod) http.Handler {
	rpc := connect.NewServer(s.intercept)
	tegamiv1connect.RegisterAuthServiceHandler(rpc, authService{s})
	tegamiv1connect.RegisterTalkServiceHandler(rpc, talkService{s})
	tegamiv1connect.RegisterContactServiceHandler(rpc, contactService{s})
	tegamiv1connect.RegisterChatServiceHandler(rpc, chatService{s})
	tegamiv1connect.RegisterSettingsServiceHandler(rpc, settingsService{s})
	tegamiv1connect.RegisterProfileServiceHandler(rpc, profileService{s})
	tegamiv1connect.RegisterGatewayServiceHandler(rpc, gatewayService{s})
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+ProbePath, s.probe)
	s.mount(mux, rpc, s.opts.HTTP.MaxRequestBytes, hot)
	if len(s.opts.Behaviours.Users) > 0 {
		mux.HandleFunc("POST "+behaviourPath+"{user}", s.callBehaviour)
	}
	return mux
}

// adminHandler routes the requests of operators.
func (s *Server) adminHandler() http.Handler {
	rpc := connect.NewServer(s.intercept)
	tegamiv1connect.RegisterAdminServiceHandler(rpc, adminService{s})
	mux := http.NewServeMux()
	s.mount(mux, rpc, s.opts.HTTP.MaxAdminRequestBytes, nil)
	for pattern, handler := range s.opts.AdminHandlers {
		mux.Handle(pattern, handler)
	}
	return mux
}

// mount puts the procedures of an RPC server on a mux, behind the guard, and
// the hot ones before both.
func (s *Server) mount(mux *http.ServeMux, rpc *connect.Server, maxBytes int64, hot map[string]*hotMethod) {
	procedures := http.NewServeMux()
	connecthttp.Mount(procedures, rpc,
		connecthttp.WithCodecs(codec.Binary, codec.JSON),
		connecthttp.WithCompressors(), // none
		connecthttp.WithReadMaxBytes(int(maxBytes)),
	)
	for spec := range rpc.Specs() {
		guarded := s.guard(spec.Procedure, maxBytes, procedures)
		if method, ok := hot[spec.Procedure]; ok {
			mux.Handle(spec.Procedure, &hotHandler{server: s, method: method, rest: guarded})
		} else {
			mux.Handle(spec.Procedure, guarded)
		}
	}
	mux.HandleFunc("/", s.unknownPath)
}

// hotMethods returns the methods that answer later, by procedure.
func (s *Server) hotMethods() map[string]*hotMethod {
	hot := make(map[string]*hotMethod)
	for _, method := range []*hotMethod{
		newHotMethod(s, tegamiv1connect.TalkServiceSendMessageProcedure, s.sendMessage),
		newHotMethod(s, tegamiv1connect.TalkServiceFetchOpsProcedure, s.fetchOps),
	} {
		hot[method.procedure] = method
	}
	return hot
}
