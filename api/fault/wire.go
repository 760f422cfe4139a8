package fault

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// detailType is the name under which the detail travels.
const detailType = "tegami.v1.ErrorDetail"

// HTTPStatus returns the HTTP status that Connect pairs with the code.
func (f *Fault) HTTPStatus() int {
	switch f.Code {
	case connect.CodeCanceled:
		return 499 // the client closed the request; net/http has no name for it
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return http.StatusBadRequest
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeAlreadyExists, connect.CodeAborted:
		return http.StatusConflict
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case connect.CodeUnimplemented:
		return http.StatusNotImplemented
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	case connect.CodeUnknown, connect.CodeInternal, connect.CodeDataLoss:
	}
	return http.StatusInternalServerError
}

// RetryAfterHeader returns the value of the Retry-After header, in seconds
// rounded up; empty when a retry does not help.
func (f *Fault) RetryAfterHeader() string {
	if f.RetryAfter <= 0 {
		return ""
	}
	return strconv.FormatInt(int64((f.RetryAfter+time.Second-1)/time.Second), 10)
}

// Detail returns the fault as the detail of its error.
func (f *Fault) Detail() *tegamiv1.ErrorDetail {
	detail := &tegamiv1.ErrorDetail{Field: f.Field, Reason: f.Reason, ResumeRevision: f.ResumeRevision}
	if f.RetryAfter > 0 {
		detail.RetryAfter = durationpb.New(f.RetryAfter)
	}
	return detail
}

// Connect returns the fault as Connect's error, for the handlers that Connect
// runs.
func (f *Fault) Connect() *connect.Error {
	value, debug := f.encodeDetail()
	return connect.NewError(f.Code, f.Text).
		WithCause(f).
		WithDetail(&connect.ErrorDetail{Type: detailType, Value: value, Debug: debug})
}

// wireError is an error in the Connect protocol.
type wireError struct {
	Code    string       `json:"code"`
	Message string       `json:"message,omitempty"`
	Details []wireDetail `json:"details"`
}

type wireDetail struct {
	Type  string          `json:"type"`
	Value string          `json:"value"`
	Debug json.RawMessage `json:"debug,omitempty"`
}

// AppendJSON appends the fault as the body of a Connect error.
func (f *Fault) AppendJSON(dst []byte) []byte {
	value, debug := f.encodeDetail()
	// Strings and valid raw JSON always encode.
	body, _ := json.Marshal(wireError{
		Code:    f.Code.String(),
		Message: f.Text,
		Details: []wireDetail{{
			Type:  detailType,
			Value: base64.RawStdEncoding.EncodeToString(value),
			Debug: debug,
		}},
	})
	return append(dst, body...)
}

// debugDetail is the detail in JSON, which Connect carries beside the binary
// form so that people and scripts can read it.
type debugDetail struct {
	Field          string `json:"field,omitempty"`
	Reason         string `json:"reason,omitempty"`
	RetryAfter     string `json:"retryAfter,omitempty"`
	ResumeRevision int64  `json:"resumeRevision,omitempty,string"`
}

func (f *Fault) encodeDetail() (value, debug []byte) {
	readable := debugDetail{Field: f.Field, Reason: f.Reason, ResumeRevision: f.ResumeRevision}
	if f.RetryAfter > 0 {
		readable.RetryAfter = strconv.FormatFloat(f.RetryAfter.Seconds(), 'f', -1, 64) + "s"
	}
	// Neither can fail: the strings are ours or were checked to be valid UTF-8.
	value, _ = proto.Marshal(f.Detail())
	debug, _ = json.Marshal(readable)
	return value, debug
}
