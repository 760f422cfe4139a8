package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestChooseKeepsTheOrderOfTheTable(t *testing.T) {
	chosen, err := choose([]string{"crash", "build"})
	if err != nil {
		t.Fatal(err)
	}
	if len(chosen) != 2 || chosen[0].name != "build" || chosen[1].name != "crash" {
		t.Errorf("chose %v", chosen)
	}
	if _, err := choose([]string{"chekc"}); err == nil {
		t.Error("a suite that does not exist was accepted")
	}
	if _, err := choose(nil); err == nil {
		t.Error("nothing was accepted as a choice")
	}
}

// Every suite is part of make test, except the plain unit tests, which run
// there with the race detector.
func TestEverySuiteRunsInTest(t *testing.T) {
	for _, s := range suites {
		if s.in&inTest == 0 && s.name != "unit" {
			t.Errorf("make test does not run %s", s.name)
		}
	}
}

func TestBlackBoxPackagesAreSuites(t *testing.T) {
	for _, name := range blackBox {
		if !slices.ContainsFunc(suites, func(s suite) bool { return s.name == name }) {
			t.Errorf("test/%s is left out of the unit tests, but no suite runs it", name)
		}
		if !isBlackBox("github.com/tegami-im/tegami/test/" + name) {
			t.Errorf("test/%s is not recognised", name)
		}
	}
	if isBlackBox("github.com/tegami-im/tegami/test/checker") {
		t.Error("test/checker needs no server")
	}
}

func TestReportCounts(t *testing.T) {
	c := newConsole("x", &screen{out: io.Discard})
	defer c.close()
	r := newReport(c)
	err := r.read(strings.NewReader(`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: progress: half way\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"TestB","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"skip","Package":"p","Test":"TestC"}
not json
{"Action":"fail","Package":"p","Elapsed":1}
`))
	if err != nil {
		t.Fatal(err)
	}
	if want := (count{passed: 1, failed: 1, skipped: 1}); c.count != want {
		t.Errorf("counted %+v, want %+v", c.count, want)
	}
	if len(c.failures) != 1 || c.failures[0].test != "p TestB" || !slices.Equal(c.failures[0].last, []string{"why"}) {
		t.Errorf("the failures are %+v", c.failures)
	}
	if len(r.output) != 0 {
		t.Errorf("output kept after its test ended: %v", r.output)
	}
}

func TestFailureKeepsTheLastLines(t *testing.T) {
	f := newFailure("p TestA", "one\ntwo\n\nthree\n  four\nfive "+strings.Repeat("x", failureWidth)+"\n--- FAIL: TestA (0.00s)\n")
	if len(f.last) != failureLines || f.last[0] != "two" || f.last[2] != "four" || len(f.last[3]) != failureWidth {
		t.Errorf("kept %q", f.last)
	}
}

func TestConsoleWritesWholeLines(t *testing.T) {
	var out strings.Builder
	c := newConsole("x", &screen{out: &out})
	for _, part := range []string{"one\ntw", "o\n", "thr", "ee"} {
		if _, err := c.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	c.close()
	if got, want := out.String(), "x         │ one\nx         │ two\nx         │ three\n"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func TestSequentialPackagesExist(t *testing.T) {
	for _, name := range sequential {
		if files, err := filepath.Glob(filepath.Join("..", "..", name, "*_test.go")); err != nil || len(files) == 0 {
			t.Errorf("%s has no tests (%v)", name, err)
		}
	}
}

func TestStorePackagesAreFound(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, source := range map[string]string{
		"a/one_test.go": "//go:build stores\n\npackage a\n",
		"a/two_test.go": "//go:build stores\n\npackage a\n",
		"b/one_test.go": "package b\n",
		"b/one.go":      "//go:build stores\n\npackage b\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := storePackages(".")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"./a"}; !slices.Equal(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
}

func TestFuzzTargetsAreFound(t *testing.T) {
	t.Chdir(t.TempDir())
	source := "package p\n\nfunc FuzzDecode(f *testing.F) {}\n\nfunc TestX(t *testing.T) {}\n"
	if err := os.MkdirAll(filepath.Join("a", "b"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("a", "b", "x_test.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	targets, err := fuzzTargets(".")
	if err != nil {
		t.Fatal(err)
	}
	if want := []fuzzTarget{{directory: "./a/b", name: "FuzzDecode"}}; !slices.Equal(targets, want) {
		t.Errorf("found %v, want %v", targets, want)
	}
}
