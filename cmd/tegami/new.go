package main

import (
	"bytes"
	"embed"
	"errors"
	"go/doc"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"text/template"
)

// newCommand writes skeletons.
type newCommand struct {
	Behaviour newBehaviourCommand `cmd:"" help:"A kind of behaviour, with its test."`
}

type newBehaviourCommand struct {
	Name string `arg:"" help:"Name of the kind and of its package: 3 to 32 lower-case letters and digits."`
	Dir  string `placeholder:"DIR" type:"path" help:"Folder to make the package's folder in, in place of behaviours."`
}

func (newBehaviourCommand) Help() string {
	return `Writes a package with a behaviour that compiles and a test that passes, to start from. Run it at the top of Tegami's sources, from which the server is built with the new kind. docs/behaviours.md says how to go on.

Examples:
  tegami new behaviour trivia
  go test ./behaviours/trivia`
}

//go:embed skeleton/*.tmpl
var skeleton embed.FS

// packageName is of the length of a user id: the account mostly has the same.
var packageName = regexp.MustCompile(`^[a-z][a-z0-9]{2,31}$`)

// unfit are names of packages that behaviours.go could not import, or that Go
// passes over.
var unfit = []string{"behaviour", "behaviours", "init", "main", "testdata", "vendor"}

func (c *newBehaviourCommand) Run(std streams) error {
	if !packageName.MatchString(c.Name) || token.IsKeyword(c.Name) || doc.IsPredeclared(c.Name) || slices.Contains(unfit, c.Name) {
		return usagef("%q is no name of a behaviour: 3 to 32 lower-case letters and digits, the first a letter, and no word of Go's", c.Name)
	}
	dir := c.Dir
	if dir == "" {
		dir = "behaviours"
		if _, err := os.Stat(filepath.Join(dir, "behaviours.go")); err != nil {
			return usagef("there is no behaviours/behaviours.go here: run this at the top of Tegami's sources, or name a folder with --dir")
		}
	}
	folder := filepath.Join(dir, c.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // sources, for whoever reads the others
		return err
	}
	if err := os.Mkdir(folder, 0o755); errors.Is(err, fs.ErrExist) { //nolint:gosec // likewise
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
		if err := os.WriteFile(filepath.Join(folder, file), content.Bytes(), 0o644); err != nil { //nolint:gosec // likewise
			return err
		}
	}
	std.printf(`Wrote %s. Next:
  go test ./behaviours/%[2]s
  enter %[2]s.Kind() in behaviours/behaviours.go
  make run ARGS="--set behaviours.run=%[2]s=%[2]s"
and in another terminal, to talk to it:
  bin/tegami register alice
  bin/tegami chat --as alice --with %[2]s
`, folder, c.Name)
	return nil
}
