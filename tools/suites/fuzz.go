package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// fuzzTarget is one fuzz function.
type fuzzTarget struct {
	// directory as go test takes it: ./actors/mailbox.
	directory string
	name      string
}

var fuzzFunction = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// fuzzTargets finds the fuzz functions in the test files below root, so that
// a new one is run without being listed anywhere.
func fuzzTargets(root string) ([]fuzzTarget, error) {
	var found []fuzzTarget
	err := eachTestFile(root, func(directory string, source []byte) {
		for _, match := range fuzzFunction.FindAllSubmatch(source, -1) {
			found = append(found, fuzzTarget{directory: directory, name: string(match[1])})
		}
	})
	return found, err
}

// eachTestFile calls see for each test file below root, with its folder as go
// test takes it.
func eachTestFile(root string, see func(directory string, source []byte)) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "tools") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err == nil {
			see("./"+filepath.ToSlash(filepath.Dir(path)), source)
		}
		return err
	})
}
