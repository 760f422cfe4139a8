package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// progress marks the lines of a test's log that are shown while it runs.
const progress = "progress: "

// event is a line of go test -json, as described by go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// goTest runs go test on packages. It shows a line for each package, the
// progress lines of those that run long, and the whole output of what fails
// or skips.
func (c *console) goTest(ctx context.Context, directory string, environment, flags []string, packages ...string) error {
	arguments := append([]string{"test", "-json", "-vet=off"}, flags...)
	command := newCommand(ctx, directory, "go", append(arguments, packages...)...)
	command.Env = append(os.Environ(), environment...)
	command.Stderr = c
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	report := newReport(c)
	readErr := report.read(output)
	if err := command.Wait(); err != nil {
		return fmt.Errorf("%d tests failed (go test: %w)", c.count.failed, err)
	}
	return readErr
}

// report turns the events of a run into lines and counts.
type report struct {
	console *console
	// output of what has not ended yet, by package and test.
	output map[[2]string]*strings.Builder
	// tests of each package that ended.
	tests map[string]int
}

func newReport(c *console) *report {
	return &report{console: c, output: map[[2]string]*strings.Builder{}, tests: map[string]int{}}
}

func (r *report) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var e event
		if json.Unmarshal(line, &e) != nil {
			_, _ = r.console.Write(line) // Not an event: go itself has something to say.
			continue
		}
		r.take(e)
	}
}

func (r *report) take(e event) {
	key := [2]string{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		_, _ = io.WriteString(r.console, e.Output)
	case "output":
		if _, line, ok := strings.Cut(e.Output, progress); ok {
			r.console.printf("%s", strings.TrimRight(line, "\n"))
			return
		}
		b := r.output[key]
		if b == nil {
			b = new(strings.Builder)
			r.output[key] = b
		}
		b.WriteString(e.Output)
	case "pass", "fail", "skip":
		r.end(e, key)
	}
}

// end takes the end of a test, or of a package when it names no test.
func (r *report) end(e event, key [2]string) {
	output := ""
	if b := r.output[key]; b != nil {
		output = b.String()
		delete(r.output, key)
	}
	if e.Test == "" {
		switch {
		case e.Action == "fail":
			r.console.printf("FAIL %s (%.1f s)", short(e.Package), e.Elapsed)
			r.cutOff(e.Package)
			_, _ = io.WriteString(r.console, output)
		case r.tests[e.Package] > 0:
			r.console.printf("ok   %s (%d tests, %.1f s)", short(e.Package), r.tests[e.Package], e.Elapsed)
		}
		return
	}
	r.tests[e.Package]++
	switch e.Action {
	case "pass":
		r.console.count.passed++
		return
	case "fail":
		r.console.count.failed++
		r.console.failures = append(r.console.failures, newFailure(short(e.Package)+" "+e.Test, output))
	case "skip":
		r.console.count.skipped++
	}
	r.console.printf("%s %s %s", strings.ToUpper(e.Action), short(e.Package), e.Test)
	_, _ = io.WriteString(r.console, output)
}

// cutOff shows what the tests of a package printed that never ended: the
// process did, in the middle of them.
func (r *report) cutOff(name string) {
	for key, output := range r.output {
		if key[0] == name && key[1] != "" {
			r.console.printf("cut off: %s", key[1])
			_, _ = io.WriteString(r.console, output.String())
			delete(r.output, key)
		}
	}
}

// short is an import path below the module.
func short(importPath string) string {
	return strings.TrimPrefix(importPath, "github.com/tegami-im/tegami/")
}
