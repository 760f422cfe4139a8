package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/api/fault"
)

// BehaviourCalls let other services call behaviours: POST /behaviours/USER, signed
// in the manner of what Tegami itself posts.
type BehaviourCalls struct {
	// Users are the behaviours that may be called. Empty: there is no such path.
	Users []string
	// Verify checks the signature's header field over what [Signed] returns.
	Verify func(signature string, signed []byte) error
	// Call hands a body over under an id, once for each id.
	Call func(ctx context.Context, user, id string, body []byte) error
}

const (
	behaviourPath = "/behaviours/"
	// maxCallBody bounds the body of a call, maxCallID its id, in bytes.
	maxCallBody = 64 << 10
	maxCallID   = 128
)

var (
	errNoBehaviour  = fault.New(connect.CodeNotFound, refusal.UnknownRecipient.String(), "there is no such behaviour")
	errBadSignature = fault.Unauthenticated("bad_signature", "the signature does not fit the path, the id, the body and the time")
	errNoCallID     = fault.Invalid("", "required", "Tegami-Id must name the call, in 1 to 128 bytes")
)

// Signed returns what the signature of a call is over: its path, its id and its
// body, so that it is good for no other behaviour, under no other id, and is none
// of those that Tegami itself posts.
func Signed(user, id string, body []byte) []byte {
	return fmt.Appendf(nil, "%s%s\n%s\n%s", behaviourPath, user, id, body)
}

// callBehaviour answers a call once it is durable.
func (s *Server) callBehaviour(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	if err := s.takeCall(w, r); err != nil {
		f := fault.From(err)
		readOn(w, r)
		s.refuseWith(w, behaviourPath, f, f.HTTPStatus(), started)
		return
	}
	s.opts.Hooks.request(behaviourPath, codeOK, time.Since(started))
	writeBody(w, []string{"application/json"}, http.StatusOK, []byte("{}"))
}

func (s *Server) takeCall(w http.ResponseWriter, r *http.Request) error {
	user, id := r.PathValue("user"), header(r, "Tegami-Id")
	switch {
	case s.admission.stopping.Load():
		return refusal.After(refusal.Stopping, time.Second)
	case !slices.Contains(s.opts.Behaviours.Users, user):
		return errNoBehaviour
	case id == "" || len(id) > maxCallID:
		return errNoCallID
	case r.ContentLength > maxCallBody:
		return fault.TooLarge()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCallBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return fault.TooLarge()
	}
	if err != nil {
		return fault.Invalid("", "body", "the body does not read")
	}
	if s.opts.Behaviours.Verify(header(r, "Tegami-Signature"), Signed(user, id, body)) != nil {
		return errBadSignature
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.Deadlines.Request)
	defer cancel()
	return s.opts.Behaviours.Call(ctx, user, id, body)
}
