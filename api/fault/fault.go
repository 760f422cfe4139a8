// Package fault is what a client of the API is told when its request fails:
// a Connect code, a text, and a [tegamiv1.ErrorDetail] that programs can act
// upon.
//
// Everything below the API edge speaks of refusals, sentinel errors or plain
// errors. [From] turns each of them into a [Fault], in this one place, and the
// engines write faults and nothing else. The text of an error that is not meant
// for clients never leaves the server.
package fault

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/tegami-im/tegami/actors/refusal"
)

// Fault is an error that is meant for the client. Its fields are those of
// [tegamiv1.ErrorDetail] beside Connect's code and text.
type Fault struct {
	Code connect.Code
	// Reason is a stable word for programs.
	Reason string
	// Text is for people. It never holds what the client sent beyond the names
	// of fields.
	Text string
	// Field is the JSON name of the field at fault, such as users[3].userId.
	Field string
	// RetryAfter is positive when a retry may succeed after that long.
	RetryAfter time.Duration
	// ResumeRevision is the cursor to go on from, with out_of_range.
	ResumeRevision int64

	cause error
}

// New returns a fault that concerns no field.
func New(code connect.Code, reason, text string) *Fault {
	return &Fault{Code: code, Reason: reason, Text: text}
}

// Invalid returns the fault of a field whose value cannot be accepted.
func Invalid(field, reason, text string) *Fault {
	return &Fault{Code: connect.CodeInvalidArgument, Reason: reason, Text: text, Field: field}
}

// Unauthenticated returns the fault of a caller that is not who it says.
func Unauthenticated(reason, text string) *Fault {
	return New(connect.CodeUnauthenticated, reason, text)
}

// Exhausted returns the fault of one who asks too much, to be retried after d.
func Exhausted(reason, text string, d time.Duration) *Fault {
	return &Fault{Code: connect.CodeResourceExhausted, Reason: reason, Text: text, RetryAfter: d}
}

func (f *Fault) Error() string { return f.Code.String() + ": " + f.Text }

// Unwrap returns the error that the client is not told of, for the log.
func (f *Fault) Unwrap() error { return f.cause }

// TooLarge is the fault of a request above the limit of its listener.
func TooLarge() *Fault {
	return New(connect.CodeResourceExhausted, "too_large", "the request is too large")
}

// From returns what to tell the client of err: a fault or a refusal in its
// chain as it is, what Connect and the standard library report with the code
// that fits, and anything else as internal. It returns nil for nil.
func From(err error) *Fault {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	if r, ok := errors.AsType[*refusal.Refusal](err); ok {
		return fromRefusal(r)
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return TooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &Fault{Code: connect.CodeDeadlineExceeded, Reason: "slow_body", Text: "the request's body took too long", cause: err}
	}
	if c, ok := errors.AsType[*connect.Error](err); ok {
		return fromConnect(c)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &Fault{Code: connect.CodeCanceled, Reason: "canceled", Text: "the client went away", cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Fault{Code: connect.CodeDeadlineExceeded, Reason: "deadline", Text: "the deadline passed; it may have happened", cause: err}
	}
	return &Fault{Code: connect.CodeInternal, Reason: refusal.Internal.String(), Text: "internal error", cause: err}
}

// DefaultRetry is the advice that goes with a passing condition whose end is
// not known.
const DefaultRetry = time.Second

func fromRefusal(r *refusal.Refusal) *Fault {
	f := &Fault{
		Code:           connect.Code(r.Reason.Code()),
		Reason:         r.Reason.String(),
		Text:           r.Error(),
		Field:          r.Field,
		RetryAfter:     r.RetryAfter,
		ResumeRevision: r.ResumeRevision,
	}
	if f.Reason == "" { // a reason that this build does not know
		f.Reason, f.Text = refusal.Internal.String(), refusal.Of(refusal.Internal).Error()
	}
	if f.RetryAfter <= 0 && passes(r.Reason) {
		f.RetryAfter = DefaultRetry
	}
	return f
}

// passes reports whether what the reason tells ends by itself.
func passes(reason refusal.Reason) bool {
	switch reason.Code() {
	case refusal.CodeResourceExhausted:
		return true
	case refusal.CodeUnavailable:
		return reason != refusal.ShardStopped
	default:
		return false
	}
}

// fromConnect gives Connect's own errors a reason. They are about the shape of
// the request, and their texts are of Connect's making.
func fromConnect(err *connect.Error) *Fault {
	f := &Fault{Code: err.Code(), Text: err.Message(), cause: err}
	switch f.Code {
	case connect.CodeResourceExhausted:
		return TooLarge()
	case connect.CodeInvalidArgument:
		f.Reason = "malformed"
	case connect.CodeUnimplemented:
		f.Reason = "unimplemented"
	case connect.CodeCanceled:
		f.Reason, f.Text = "canceled", "the client went away"
	case connect.CodeDeadlineExceeded:
		f.Reason, f.Text = "deadline", "the deadline passed; it may have happened"
	default:
		// What is left is a body that breaks off or breaks the framing, which
		// Connect calls unknown or internal though the client is at fault.
		f.Code, f.Reason, f.Text = connect.CodeInvalidArgument, "malformed", "the request's body is broken"
	}
	return f
}
