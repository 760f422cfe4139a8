package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is written compiles, and its test passes, in Tegami's own sources: the
// overlay lays it there without touching them.
func TestNewBehaviour(t *testing.T) {
	dir := t.TempDir()
	var out, complaints bytes.Buffer
	std := streams{strings.NewReader(""), &out, &complaints}
	arguments := []string{"new", "behaviour", "trivia", "--dir", dir}
	if code := run(t.Context(), arguments, std); code != 0 || !strings.Contains(out.String(), "trivia.Kind()") {
		t.Fatalf("code %d: %s%s", code, &out, &complaints)
	}
	if code := run(t.Context(), arguments, std); code != codeUsage || !strings.Contains(complaints.String(), "there already") {
		t.Errorf("a second time: code %d: %s", code, &complaints)
	}
	for _, name := range []string{
		"", "Trivia", "two words", "../up", "1st", "func", "error", "main", "behaviour", "vendor", "ab", strings.Repeat("a", 33),
	} {
		if code := run(t.Context(), []string{"new", "behaviour", name, "--dir", dir}, std); code != codeUsage {
			t.Errorf("%q: code %d", name, code)
		}
	}

	t.Run("elsewhere", func(t *testing.T) {
		t.Chdir(dir)
		complaints.Reset()
		if code := run(t.Context(), []string{"new", "behaviour", "trivia"}, std); code != codeUsage || !strings.Contains(complaints.String(), "at the top of") {
			t.Errorf("code %d: %s", code, &complaints)
		}
	})

	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for _, file := range []string{"trivia.go", "trivia_test.go"} {
		replace[filepath.Join(root, "behaviours", "trivia", file)] = filepath.Join(dir, "trivia", file)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "trivia.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", file, "-o", binary, "./behaviours/trivia")
	build.Dir = root
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("it does not compile: %v\n%s", err, output)
	}
	output, err := exec.CommandContext(t.Context(), binary, "-test.v").CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: TestCount/two_hosts") {
		t.Errorf("its test fails: %v\n%s", err, output)
	}
}
