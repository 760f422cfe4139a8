package validate

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// anyString draws strings near the rules: of the characters that they name and
// some others, around their lengths.
func anyString(limit int) *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("abz019._-AZ é\x00\x7f~ 紙")), 0, limit+4, -1),
		rapid.StringMatching(`[a-z][a-z0-9._-]{0,70}`),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, limit+4), func(b []byte) string { return string(b) }),
	)
}

// agrees checks a rule against its plain definition on many strings.
func agrees(t *testing.T, limit int, rule func(string) error, allowed func(string) bool) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		s := anyString(limit).Draw(rt, "string")
		err := rule(s)
		if (err == nil) != allowed(s) {
			rt.Fatalf("%q: %v", s, err)
		}
		if err != nil {
			if f := fault.From(err); f.Code != connect.CodeInvalidArgument || f.Field != "field" || f.Reason == "" || f.Text == "" {
				rt.Fatalf("%q: %#v", s, f)
			}
		}
	})
}

func TestUserIDs(t *testing.T) {
	pattern := regexp.MustCompile(`\A[a-z][a-z0-9._-]{2,63}\z`)
	agrees(t, 64, func(s string) error { return UserID("field", s) }, pattern.MatchString)
}

func TestDeviceIDs(t *testing.T) {
	pattern := regexp.MustCompile(`\A[A-Za-z0-9._-]{1,64}\z`)
	agrees(t, 64, func(s string) error { return DeviceID("field", s) }, pattern.MatchString)
	if err := OptionalDeviceID("field", ""); err != nil {
		t.Errorf("none: %v", err)
	}
}

func TestPasswords(t *testing.T) {
	agrees(t, 256, func(s string) error { return NewPassword("field", s) }, func(s string) bool { return len(s) >= 8 && len(s) <= 256 })
	// One that is compared may be too short to be right.
	agrees(t, 256, func(s string) error { return Password("field", s) }, func(s string) bool { return len(s) >= 1 && len(s) <= 256 })
}

func TestDisplayNames(t *testing.T) {
	agrees(t, 256, func(s string) error { return DisplayName("field", s) }, func(s string) bool {
		return utf8.ValidString(s) && utf8.RuneCountInString(s) <= 256
	})
}

func TestTexts(t *testing.T) {
	agrees(t, 100, func(s string) error { return Text("field", s) }, func(s string) bool { return s != "" && utf8.ValidString(s) })
	for s, allowed := range map[string]bool{
		strings.Repeat("a", 10_000): true, strings.Repeat("a", 10_001): false,
		strings.Repeat("😀", 10_000): true, strings.Repeat("😀", 10_001): false,
	} {
		if err := Text("field", s); (err == nil) != allowed {
			t.Errorf("%d code points: %v", utf8.RuneCountInString(s), err)
		}
	}
}

func TestPrintable(t *testing.T) {
	agrees(t, 64, func(s string) error { return printable("field", s, 64) }, regexp.MustCompile(`\A[ -~]{0,64}\z`).MatchString)
}

// Numbers are refused beyond their bounds, never moved into them.
func TestNumbers(t *testing.T) {
	for limit, allowed := range map[int32]bool{-1 << 31: false, -1: false, 0: true, 1: true, 1000: true, 1001: false, 1<<31 - 1: false} {
		if err := Limit("limit", limit); (err == nil) != allowed {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	if PageSize(0) != 100 || PageSize(1) != 1 || PageSize(1000) != 1000 {
		t.Error("a valid limit is not the size of the page")
	}
	for timeout, allowed := range map[*durationpb.Duration]bool{
		nil:                               true,
		{}:                                true,
		{Nanos: 1}:                        true,
		{Seconds: 120}:                    true,
		{Seconds: 120, Nanos: 1}:          false,
		{Seconds: 121}:                    false,
		{Nanos: -1}:                       false,
		{Seconds: -1}:                     false,
		{Seconds: 1, Nanos: -1}:           false, // signs differ
		{Seconds: 1, Nanos: 1e9}:          false, // more than a second of nanoseconds
		{Seconds: 1<<63 - 1}:              false,
		{Seconds: -1 << 63, Nanos: -1e9}:  false,
		durationpb.New(120 * time.Second): true,
	} {
		if err := FetchOps(&tegamiv1.FetchOpsRequest{Timeout: timeout}, MaxHold); (err == nil) != allowed {
			t.Errorf("timeout %v: %v", timeout, err)
		}
	}
	if err := FetchOps(&tegamiv1.FetchOpsRequest{Timeout: durationpb.New(31 * time.Second)}, 30*time.Second); err == nil {
		t.Error("a timeout beyond the setting is accepted")
	}
	if err := FetchOps(&tegamiv1.FetchOpsRequest{AfterRevision: 1<<63 - 1}, MaxHold); err != nil {
		t.Errorf("the largest cursor: %v", err)
	}
}
