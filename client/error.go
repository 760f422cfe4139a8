package client

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Code is the kind of a refusal, by its name in the Connect protocol.
type Code string

// The codes that a Tegami server answers.
const (
	CodeCanceled          Code = "canceled"
	CodeUnknown           Code = "unknown"
	CodeInvalidArgument   Code = "invalid_argument"
	CodeDeadlineExceeded  Code = "deadline_exceeded"
	CodeNotFound          Code = "not_found"
	CodeAlreadyExists     Code = "already_exists"
	CodePermissionDenied  Code = "permission_denied"
	CodeResourceExhausted Code = "resource_exhausted"
	CodeAborted           Code = "aborted"
	CodeOutOfRange        Code = "out_of_range"
	CodeUnimplemented     Code = "unimplemented"
	CodeInternal          Code = "internal"
	CodeUnavailable       Code = "unavailable"
	CodeUnauthenticated   Code = "unauthenticated"
)

// Errors that end [Client.Run], to be compared with [errors.Is].
var (
	// ErrSuperseded: another poll of the same device took over.
	ErrSuperseded = errors.New("another poll of this device took over")
	// ErrCursorTooOld: the operations after the cursor are no longer kept.
	ErrCursorTooOld = errors.New("operations after the cursor are no longer kept")
	// ErrCursorAhead: the cursor lies beyond the newest operation.
	ErrCursorAhead = errors.New("the cursor lies beyond the newest operation")
)

// reasonUnreachable is the reason of an Error that no server gave.
const reasonUnreachable = "unreachable"

// Error is a call that failed: refused by the server, or never answered, which
// is CodeUnavailable with the cause wrapped.
type Error struct {
	Code Code
	// Message is for people and may change.
	Message string
	// Field is the JSON name of the request's field at fault; empty for none.
	Field string
	// Reason is a stable word for programs, such as "unknown_recipient".
	Reason string
	// RetryAfter is positive when a retry may succeed after that long.
	RetryAfter time.Duration
	// ResumeRevision is the cursor to go on from, with CodeOutOfRange.
	ResumeRevision int64

	cause error
}

func (e *Error) Error() string {
	text := string(e.Code) + ": " + e.Message
	if e.Field != "" {
		text += " (" + e.Field + ")"
	}
	return text
}

// Unwrap returns the cause of a call that was not answered.
func (e *Error) Unwrap() error { return e.cause }

// Is makes ErrCursorTooOld and ErrCursorAhead comparable by errors.Is.
func (e *Error) Is(target error) bool {
	return target == ErrCursorTooOld && e.Reason == "cursor_too_old" ||
		target == ErrCursorAhead && e.Reason == "cursor_ahead"
}

// CodeOf returns the code of the Error in err's chain; empty when there is
// none.
func CodeOf(err error) Code {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.Code
	}
	return ""
}

// temporary reports whether the same call may succeed later. Too large a
// request is resource_exhausted too, but without a time to wait.
func (e *Error) temporary() bool {
	return e.Code == CodeUnavailable || e.Code == CodeResourceExhausted && e.RetryAfter > 0
}

// unanswered is the error of a call that got no answer.
func unanswered(cause error) *Error {
	return &Error{Code: CodeUnavailable, Message: cause.Error(), Reason: reasonUnreachable, cause: cause}
}

// refusal reads an error answer. One that is not Tegami's own, such as a
// proxy's, is judged by its HTTP status.
func refusal(status int, header http.Header, body []byte) *Error {
	var wire struct {
		Code    Code   `json:"code"`
		Message string `json:"message"`
		Details []struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"details"`
	}
	if err := json.Unmarshal(body, &wire); err != nil || wire.Code == "" {
		return &Error{Code: codeOfStatus(status), Message: "HTTP status " + strconv.Itoa(status), RetryAfter: retryAfter(header)}
	}
	refused := &Error{Code: wire.Code, Message: wire.Message, RetryAfter: retryAfter(header)}
	for _, detail := range wire.Details {
		if detail.Type != "tegami.v1.ErrorDetail" {
			continue
		}
		var known tegamiv1.ErrorDetail
		value, err := base64.RawStdEncoding.DecodeString(detail.Value)
		if err != nil || proto.Unmarshal(value, &known) != nil {
			continue // the code and the message still tell the most of it
		}
		refused.Field, refused.Reason, refused.ResumeRevision = known.GetField(), known.GetReason(), known.GetResumeRevision()
		if known.GetRetryAfter() != nil {
			refused.RetryAfter = known.GetRetryAfter().AsDuration()
		}
	}
	return refused
}

func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 20)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// codeOfStatus follows the Connect protocol.
func codeOfStatus(status int) Code {
	switch status {
	case http.StatusBadRequest:
		return CodeInternal
	case http.StatusUnauthorized:
		return CodeUnauthenticated
	case http.StatusForbidden:
		return CodePermissionDenied
	case http.StatusNotFound:
		return CodeUnimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return CodeUnavailable
	default:
		return CodeUnknown
	}
}
