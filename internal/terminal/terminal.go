// Package terminal is how commands meet a person: it asks for passwords, reads
// lines while others are printed, and makes text from strangers safe to print.
package terminal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// Is reports whether a reader or writer is a terminal.
func Is(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Clean makes text from a stranger safe to print. A control character, which
// could move the cursor, change the title or paste, is shown as its code, and
// so is an override of the writing direction that would reach beyond the text.
// Lines after the first are indented.
func Clean(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n':
			b.WriteString("\n    ")
		case r == '\t', r == '\u200c', r == '\u200d', r == '\u200e', r == '\u200f':
			b.WriteRune(r) // joiners and marks that scripts and emoji need
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			fmt.Fprintf(&b, "<%U>", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// ErrNoTerminal means that there is nobody to ask.
var ErrNoTerminal = errors.New("no terminal to ask at")

// Password asks for a password without showing it. Error: ErrNoTerminal.
func Password(in io.Reader, out io.Writer, prompt string) (string, error) {
	if !Is(in) {
		return "", ErrNoTerminal
	}
	_, _ = io.WriteString(out, prompt)
	password, err := term.ReadPassword(int(in.(*os.File).Fd())) // Is has checked it
	_, _ = io.WriteString(out, "\n")
	return string(password), err
}

// Confirm asks a question until it is answered by yes or no. Error:
// ErrNoTerminal.
func Confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	if !Is(in) {
		return false, ErrNoTerminal
	}
	for lines := bufio.NewScanner(in); ; {
		_, _ = fmt.Fprintf(out, "%s [y/n] ", question)
		if !lines.Scan() {
			return false, errors.Join(lines.Err(), io.EOF)
		}
		switch strings.ToLower(strings.TrimSpace(lines.Text())) {
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
	}
}
