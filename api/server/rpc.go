package server

import (
	"context"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/api/fault"
)

// intercept runs around every call that goes through Connect's handlers, before
// its body is read: it admits the caller, bounds the time, and turns whatever
// goes wrong into a fault.
func (s *Server) intercept(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		started := time.Now()
		err := s.call(ctx, spec, stream, next)
		if err == nil {
			s.opts.Hooks.request(spec.Procedure, codeOK, time.Since(started))
			return nil
		}
		f := fault.From(err)
		s.note(spec.Procedure, f, started)
		if info, ok := connect.CallInfoForServerContext(ctx); ok {
			if after := f.RetryAfterHeader(); after != "" {
				info.ResponseHeader().Set("Retry-After", after)
			}
		}
		return f.Connect()
	}
}

func (s *Server) call(ctx context.Context, spec connect.Spec, stream connect.ServerStream, next connect.ServerFunc) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			s.logPanic(spec.Procedure, cause)
			err = errPanic
		}
	}()
	var authorization, peer string
	if info, ok := connect.CallInfoForServerContext(ctx); ok {
		authorization = info.RequestHeader().Get("Authorization")
		peer = s.admission.origin(info.PeerAddr, info.RequestHeader().Values("X-Forwarded-For"))
	}
	caller, err := s.admission.admit(ctx, spec.Procedure, authorization, peer)
	if err != nil {
		return err
	}
	if class, gated := classOf(spec.Procedure); gated {
		if err := s.enter(class); err != nil {
			return err
		}
		defer s.leave()
	}
	return next(withCaller(ctx, caller), spec, stream)
}

// await runs a hot method for a handler of Connect's, which cannot answer later
// and waits here.
func await[Response proto.Message](ctx context.Context, start func(reply func(Reply)) (cancel func())) (Response, error) {
	var none Response
	slot := make(chan Reply, 1)
	cancel := start(func(reply Reply) { slot <- reply })
	var reply Reply
	select {
	case reply = <-slot:
	case <-ctx.Done():
		cancel()
		return none, ctx.Err()
	}
	message, err := reply.Message(ctx)
	if err != nil {
		return none, err
	}
	return message.(Response), nil // each method has one type of response
}

// deadlineOf returns the client's deadline, zero when it set none.
func deadlineOf(ctx context.Context) time.Time {
	deadline, _ := ctx.Deadline()
	return deadline
}

// bounded gives a request without a deadline that of the server, and keeps one
// that has it from waiting longer than is sensible.
func (s *Server) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	wait := s.opts.Deadlines.Request
	if _, ok := ctx.Deadline(); ok {
		wait = s.opts.Deadlines.Max
	}
	return context.WithTimeout(ctx, wait)
}
