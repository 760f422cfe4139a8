package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// setYAML sets the keys of a file. It walks the nodes itself, since only they
// know the line that a value or a mistake is on.
func (l *Loaded) setYAML(file string, content []byte) []error {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil // empty, or comments alone
		}
		return []error{fmt.Errorf("%s: %w", file, err)}
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return []error{fmt.Errorf("%s: more than one document", file)}
	}
	walk := yamlWalk{loaded: l, file: file, seen: make(map[string]int)}
	walk.root(document.Content[0])
	return walk.problems
}

type yamlWalk struct {
	loaded   *Loaded
	file     string
	seen     map[string]int // name to line
	problems []error
}

func (w *yamlWalk) fail(node *yaml.Node, format string, args ...any) {
	w.problems = append(w.problems, fmt.Errorf("%s:%d: "+format, append([]any{w.file, node.Line}, args...)...))
}

func (w *yamlWalk) root(node *yaml.Node) {
	if isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		w.fail(node, "expected sections, such as server:")
		return
	}
	for i := 0; i < len(node.Content); i += 2 {
		name, section := node.Content[i], node.Content[i+1]
		if !w.once(name, name.Value) {
			continue
		}
		switch {
		case !isSection(name.Value):
			w.fail(name, "%s: no such section; tegami config --example lists them all", name.Value)
		case isNull(section): // all its keys commented out
		case section.Kind != yaml.MappingNode:
			w.fail(section, "%s: expected keys below this section", name.Value)
		default:
			w.section(name.Value, section)
		}
	}
}

func (w *yamlWalk) section(section string, node *yaml.Node) {
	for i := 0; i < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		key := section + "." + name.Value
		if !w.once(name, key) {
			continue
		}
		if _, ok := find(key); !ok {
			w.fail(name, "%w", unknown(key))
			continue
		}
		if value.Kind != yaml.ScalarNode || isNull(value) {
			w.fail(value, "%s: expected one value", key)
			continue
		}
		if err := w.loaded.set(key, value.Value, fmt.Sprintf("%s:%d", w.file, value.Line)); err != nil {
			w.problems = append(w.problems, err)
		}
	}
}

// once refuses a name that was there before: one of the two would be ignored.
func (w *yamlWalk) once(node *yaml.Node, name string) bool {
	if line, ok := w.seen[name]; ok {
		w.fail(node, "%s: already set on line %d", name, line)
		return false
	}
	w.seen[name] = node.Line
	return true
}

func isSection(name string) bool {
	for _, section := range sections {
		if section.Name == name {
			return true
		}
	}
	return false
}

func isNull(node *yaml.Node) bool { return node.Tag == "!!null" }
