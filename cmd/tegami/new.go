package main

import (
	"bytes"
	"embed"
	"errors"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"text/template"
)

// newCommand writes skeletons.
type newCommand struct {
	Behaviour newBehaviourCommand `cmd:"" help:"A kind of behaviour, with its test."`
}

type newBehaviourCommand struct {
	Name string `arg:"" help:"Name of the kind and of its package: 1 to 32 lower-case letters and digits."`
	Dir  string `default:"behaviours" type:"path" help:"Folder to make the package's folder in."`
}

func (newBehaviourCommand) Help() string {
	return `Writes a package with a behaviour that compiles and a test that passes, to start from. Run it at the top of Tegami's sources, from which the server is built with the new kind. docs/behaviours.md says how to go on.

Examples:
  tegami new behaviour trivia
  go test ./behaviours/trivia`
}

//go:embed skeleton/*.tmpl
var skeleton embed.FS

var packageName = regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`)

func (c *newBehaviourCommand) Run(std streams) error {
	if !packageName.MatchString(c.Name) || token.IsKeyword(c.Name) {
		return usagef("%q is no name of a behaviour: 1 to 32 lower-case letters and digits, the first a letter, and no word of Go's", c.Name)
	}
	folder := filepath.Join(c.Dir, c.Name)
	if err := os.MkdirAll(c.Dir, 0o750); err != nil {
		return err
	}
	if err := os.Mkdir(folder, 0o750); errors.Is(err, fs.ErrExist) {
		return usagef("%s is there already", folder)
	} else if err != nil {
		return err
	}
	for source, file := range map[string]string{
		"skeleton/behaviour.go.tmpl":      c.Name + ".go",
		"skeleton/behaviour_test.go.tmpl": c.Name + "_test.go",
	} {
		parsed, err := template.ParseFS(skeleton, source)
		if err != nil {
			return err
		}
		var content bytes.Buffer
		if err := parsed.Execute(&content, c); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, file), content.Bytes(), 0o600); err != nil {
			return err
		}
	}
	std.printf("Wrote %s. Next:\n  go test ./behaviours/%[2]s\n  enter %[2]s.Kind() in behaviours/behaviours.go\n  make run ARGS=\"--set behaviours.run=%[2]s=%[2]s\"\n", folder, c.Name)
	return nil
}
