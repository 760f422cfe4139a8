package fault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/refusal"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Whatever goes wrong, the client is told a code and a reason, and only what is
// meant for it.
func TestFrom(t *testing.T) {
	const private = "a text that is not meant for clients"
	own := Invalid("to", "required", "needed")
	for name, c := range map[string]struct {
		err    error
		code   connect.Code
		reason string
	}{
		"a fault":                  {own, connect.CodeInvalidArgument, "required"},
		"a fault within an error":  {fmt.Errorf("%s: %w", private, own), connect.CodeInvalidArgument, "required"},
		"a refusal":                {fmt.Errorf("%s: %w", private, refusal.Of(refusal.Busy)), connect.CodeResourceExhausted, "busy"},
		"an unknown refusal":       {refusal.Of(250), connect.CodeInternal, "internal"},
		"any error":                {errors.New(private), connect.CodeInternal, "internal"},
		"a client that went away":  {fmt.Errorf("%s: %w", private, context.Canceled), connect.CodeCanceled, "canceled"},
		"a deadline":               {fmt.Errorf("%s: %w", private, context.DeadlineExceeded), connect.CodeDeadlineExceeded, "deadline"},
		"a slow body":              {fmt.Errorf("%s: %w", private, os.ErrDeadlineExceeded), connect.CodeDeadlineExceeded, "slow_body"},
		"a large body":             {fmt.Errorf("%s: %w", private, &http.MaxBytesError{Limit: 1}), connect.CodeResourceExhausted, "too_large"},
		"Connect's large body":     {connect.NewError(connect.CodeResourceExhausted, private), connect.CodeResourceExhausted, "too_large"},
		"Connect's broken body":    {connect.NewError(connect.CodeUnknown, private).WithCause(io.ErrUnexpectedEOF), connect.CodeInvalidArgument, "malformed"},
		"Connect's broken framing": {connect.NewError(connect.CodeInternal, private), connect.CodeInvalidArgument, "malformed"},
		"Connect around a fault":   {connect.NewError(connect.CodeInvalidArgument, private).WithCause(own), connect.CodeInvalidArgument, "required"},
		"Connect's cancellation":   {connect.NewError(connect.CodeCanceled, private), connect.CodeCanceled, "canceled"},
		"Connect's deadline":       {connect.NewError(connect.CodeDeadlineExceeded, private), connect.CodeDeadlineExceeded, "deadline"},
		"Connect's slow body":      {connect.NewError(connect.CodeDeadlineExceeded, private).WithCause(os.ErrDeadlineExceeded), connect.CodeDeadlineExceeded, "slow_body"},
	} {
		f := From(c.err)
		if f.Code != c.code || f.Reason != c.reason || f.Text == "" || strings.Contains(f.Text, private) {
			t.Errorf("%s: %v with the reason %s", name, f, f.Reason)
		}
		if strings.Contains(string(f.AppendJSON(nil)), private) || strings.Contains(f.Connect().Message(), private) {
			t.Errorf("%s: the private text leaves the server", name)
		}
	}
	if From(nil) != nil {
		t.Error("nil is a fault")
	}
	if got := From(errors.New(private)); !strings.Contains(errors.Unwrap(got).Error(), private) {
		t.Error("the log does not learn what was wrong")
	}
}

// Every reason of the core has a word, a code and advice that fit each other.
func TestEveryRefusalIsAFault(t *testing.T) {
	for reason := range refusal.Reason(255) {
		if reason.String() == "" {
			continue
		}
		f := From(refusal.Of(reason))
		if f.Reason != reason.String() || f.Code.String() == "" || f.Text == "" || f.HTTPStatus() < 400 {
			t.Errorf("%v: %+v", reason, f)
		}
		retryable := f.Code == connect.CodeResourceExhausted || f.Code == connect.CodeUnavailable && reason != refusal.ShardStopped
		if (f.RetryAfterHeader() != "") != retryable {
			t.Errorf("%v: Retry-After %q", reason, f.RetryAfterHeader())
		}
	}
}

func TestRetryAfterIsRoundedUpToSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "", -time.Second: "", 1: "1", time.Second: "1", time.Second + 1: "2", 90 * time.Second: "90",
	} {
		if got := (&Fault{RetryAfter: d}).RetryAfterHeader(); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// A fault reads the same in Connect's JSON, in gRPC's details, and in the form
// for people, which is protobuf's JSON of the same detail.
func TestTheWireForms(t *testing.T) {
	for _, f := range []*Fault{
		New(connect.CodeUnavailable, "not_ready", "not ready yet"),
		Invalid("users[3].userId", "too_long", `a "quoted" text`),
		Exhausted("busy", "too much", 1500*time.Millisecond),
		{Code: connect.CodeOutOfRange, Reason: "cursor_ahead", Text: "ahead", Field: "afterRevision", ResumeRevision: 1<<63 - 1, RetryAfter: time.Nanosecond},
		{Code: connect.CodeOutOfRange, Reason: "cursor_ahead", Text: "ahead", RetryAfter: 3 * time.Hour},
		{Code: connect.CodeInternal},
	} {
		var wire struct {
			Code, Message string
			Details       []struct {
				Type, Value string
				Debug       json.RawMessage
			}
		}
		if err := json.Unmarshal(f.AppendJSON(nil), &wire); err != nil {
			t.Fatal(err)
		}
		if wire.Code != f.Code.String() || wire.Message != f.Text || len(wire.Details) != 1 || wire.Details[0].Type != "tegami.v1.ErrorDetail" {
			t.Errorf("got %+v", wire)
		}
		value, err := base64.RawStdEncoding.DecodeString(wire.Details[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		fromValue, fromDebug, fromConnect := &tegamiv1.ErrorDetail{}, &tegamiv1.ErrorDetail{}, &tegamiv1.ErrorDetail{}
		for _, err := range []error{
			proto.Unmarshal(value, fromValue),
			protojson.Unmarshal(wire.Details[0].Debug, fromDebug),
			proto.Unmarshal(f.Connect().Details()[0].Value, fromConnect),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, got := range []*tegamiv1.ErrorDetail{fromValue, fromDebug, fromConnect} {
			if !proto.Equal(got, f.Detail()) {
				t.Errorf("got %v, want %v", got, f.Detail())
			}
		}
		if got := f.Connect(); got.Code() != f.Code || got.Message() != f.Text {
			t.Errorf("got %v", got)
		}
	}
}
