// Corpus converts the wheel of chatterbot-corpus to JSON lines, one
// conversation a line, as `tegami replay` reads them.
//
//	go run ./scripts/corpus WHEEL >conversations.jsonl
package main

import (
	"archive/zip"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tegami-im/tegami/internal/replay"
)

// turns is how many the wheel of version 1.3.3 has: a conversion that loses or
// adds one must not go unnoticed.
const turns = 20_937

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: corpus WHEEL >conversations.jsonl")
		os.Exit(2) //nolint:forbidigo // this is main
	}
	converted, err := convert(os.Args[1], os.Stdout)
	if err == nil && converted != turns {
		err = fmt.Errorf("%d turns were converted, %d expected", converted, turns)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// convert returns how many turns it has written.
func convert(wheel string, out io.Writer) (converted int, err error) {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	var names []string
	for _, file := range archive.File {
		if path.Ext(file.Name) == ".yml" {
			names = append(names, file.Name)
		}
	}
	slices.Sort(names)
	buffered := bufio.NewWriter(out)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	for _, name := range names {
		conversations, err := read(archive, name)
		if err != nil {
			return converted, fmt.Errorf("%s: %w", name, err)
		}
		for _, conversation := range conversations {
			if err := lines.Encode(conversation); err != nil {
				return converted, err
			}
			converted += len(conversation.Turns)
		}
	}
	return converted, buffered.Flush()
}

// read returns the conversations of a file such as data/english/ai.yml.
func read(archive *zip.ReadCloser, name string) ([]replay.Conversation, error) {
	file, err := archive.Open(name)
	if err != nil {
		return nil, err
	}
	var content struct {
		Conversations []yaml.Node `yaml:"conversations"`
	}
	err = yaml.NewDecoder(file).Decode(&content)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	var all []replay.Conversation
	for i := range content.Conversations {
		if turns := turnsOf(&content.Conversations[i]); len(turns) > 1 {
			all = append(all, replay.Conversation{
				Language: path.Base(path.Dir(name)),
				Topic:    strings.TrimSuffix(path.Base(name), ".yml"),
				Turns:    turns,
			})
		}
	}
	return all, nil
}

// turnsOf returns the turns of an entry as they are written: "no" and "42" are
// text. A few entries are a string in place of a list; as in the corpus's own
// loader each character is a turn then, which makes good very short messages.
func turnsOf(entry *yaml.Node) (turns []string) {
	if entry.Kind == yaml.ScalarNode {
		return strings.Split(entry.Value, "")
	}
	for _, turn := range entry.Content {
		if turn.Value != "" {
			turns = append(turns, turn.Value)
		}
	}
	return turns
}
