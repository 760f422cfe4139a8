package terminal_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/internal/terminal"
)

func TestClean(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"plain", "hello", "hello"},
		{"lines", "a\nb", "a\n    b"},
		{"title", "\x1b]0;owned\x07", "<U+001B>]0;owned<U+0007>"},
		{"carriage return hides what was before", "rm -rf\rls", "rm -rf<U+000D>ls"},
		{"C1 controls", "\u009b31m", "<U+009B>31m"},
		{"direction override", "\u202egnp.exe", "<U+202E>gnp.exe"},
		{"line separators", "a\u2028b", "a<U+2028>b"},
		{"emoji are kept", "👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"},
		{"Persian joiners are kept", "می\u200cخواهم", "می\u200cخواهم"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := terminal.Clean(test.text); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestCleanTextHasNoControls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, r := range terminal.Clean(rapid.String().Draw(t, "text")) {
			if unicode.IsControl(r) && r != '\n' && r != '\t' {
				t.Fatalf("%U is left", r)
			}
		}
	})
}

func TestConsoleBetweenPipes(t *testing.T) {
	var out strings.Builder
	console, err := terminal.Open(strings.NewReader("one\n\n  two \r\nlast"), &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "", "  two \r", "last"} {
		if got, err := console.ReadLine(); got != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	if _, err := console.ReadLine(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v at the end", err)
	}
	if err := errors.Join(console.Print("hello"), console.Close()); err != nil || out.String() != "hello\n" {
		t.Errorf("printed %q, %v", out.String(), err)
	}
}

func TestNobodyToAsk(t *testing.T) {
	if _, err := terminal.Password(strings.NewReader("x\n"), io.Discard, ""); !errors.Is(err, terminal.ErrNoTerminal) {
		t.Error(err)
	}
	if _, err := terminal.Confirm(strings.NewReader("y\n"), io.Discard, ""); !errors.Is(err, terminal.ErrNoTerminal) {
		t.Error(err)
	}
}
