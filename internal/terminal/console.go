package terminal

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Console reads lines while others are printed. On a terminal it keeps a line
// that is being typed, with its prompt, below what is printed; between pipes it
// reads and writes plain lines. Print is safe for concurrent use with ReadLine.
type Console struct {
	screen   *term.Terminal // nil between pipes
	keyboard int            // the screen's descriptor
	lines    *bufio.Reader
	out      io.Writer
	close    func() error
}

// Open makes a console of an input and an output. Close it, or the terminal
// stays in raw mode.
func Open(in io.Reader, out io.Writer) (*Console, error) {
	if !Is(in) || !Is(out) {
		return &Console{lines: bufio.NewReader(in), out: out, close: func() error { return nil }}, nil
	}
	keyboard := int(in.(*os.File).Fd()) // Is has checked it
	before, err := term.MakeRaw(keyboard)
	if err != nil {
		return nil, err
	}
	screen := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, "> ")
	return &Console{
		screen: screen, keyboard: keyboard,
		close: func() error { return term.Restore(keyboard, before) },
	}, nil
}

// fit follows the size of the window, which may have changed.
func (c *Console) fit() {
	if width, height, err := term.GetSize(c.keyboard); err == nil && width > 0 {
		_ = c.screen.SetSize(width, height)
	}
}

// Interactive reports whether a person types.
func (c *Console) Interactive() bool { return c.screen != nil }

// SetPrompt sets what stands before a line that is typed.
func (c *Console) SetPrompt(prompt string) {
	if c.screen != nil {
		c.screen.SetPrompt(prompt)
	}
}

// ReadLine returns the next line without its end. io.EOF: the input has ended,
// by Ctrl-C or Ctrl-D on a terminal.
func (c *Console) ReadLine() (string, error) {
	if c.screen != nil {
		c.fit()
		return c.screen.ReadLine()
	}
	line, err := c.lines.ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil // the last line has no end
	}
	return strings.TrimSuffix(line, "\n"), err
}

// Print prints one line.
func (c *Console) Print(line string) error {
	out := c.out
	if c.screen != nil {
		c.fit()
		out = c.screen
	}
	_, err := io.WriteString(out, line+"\n")
	return err
}

// Close gives the terminal back as it was.
func (c *Console) Close() error { return c.close() }
