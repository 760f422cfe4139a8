package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf8"
)

// Conversation is what two people said, taking turns.
type Conversation struct {
	Language string   `json:"language"`
	Topic    string   `json:"topic"`
	Turns    []string `json:"turns"`
}

// maxTurn is the longest text that a message may have, in code points.
const maxTurn = 10_000

// Read reads conversations, one JSON object a line. Its error names the line.
func Read(r io.Reader) ([]Conversation, error) {
	var all []Conversation
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		conversation, err := parse(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, conversation)
	}
	return all, lines.Err()
}

func parse(line []byte) (c Conversation, err error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return c, err
	}
	for i, text := range c.Turns {
		if length := utf8.RuneCountInString(text); length == 0 || length > maxTurn || !utf8.ValidString(text) {
			return c, fmt.Errorf("turn %d cannot be sent: 1 to %d code points of valid UTF-8", i+1, maxTurn)
		}
	}
	return c, nil
}
