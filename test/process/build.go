// Package process runs real servers for black-box tests: it builds the binary
// once, starts it on a data folder, waits until it is ready, kills it, stops
// it, and keeps its log. Client speaks to it over a socket, in a few lines of
// its own, so that what the tests see is what is on the wire.
//
// A test package that uses it has
//
//	func TestMain(m *testing.M) { process.Main(m) }
package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// tagsVariable names build tags for every server that Build builds. The tests
// of planted bugs set it.
const tagsVariable = "TEGAMI_TEST_TAGS"

// built holds the binaries of this test process.
var built struct {
	sync.Mutex
	directory string
	paths     map[string]string
}

// Main runs the tests of a package and removes the binaries afterwards.
func Main(m *testing.M) {
	code := m.Run()
	built.Lock()
	if built.directory != "" {
		_ = os.RemoveAll(built.directory)
	}
	os.Exit(code)
}

// Build builds cmd/tegami with flags of go build, such as -race, and returns
// the path of the binary. The same flags build once. Safe for concurrent use.
func Build(t testing.TB, flags ...string) string {
	t.Helper()
	if tags := os.Getenv(tagsVariable); tags != "" {
		flags = append(flags, "-tags="+tags)
	}
	built.Lock()
	defer built.Unlock()
	name := "tegami" + strings.Join(flags, "")
	if path := built.paths[name]; path != "" {
		return path
	}
	if built.directory == "" {
		directory, err := os.MkdirTemp("", "tegami-test-") //nolint:usetesting // It outlives the test that asks first.
		if err != nil {
			t.Fatal(err)
		}
		built.directory, built.paths = directory, map[string]string{}
	}
	path := filepath.Join(built.directory, name)
	arguments := append([]string{"build", "-ldflags=-w", "-o", path}, flags...)
	command := exec.CommandContext(t.Context(), "go", append(arguments, "github.com/tegami-im/tegami/cmd/tegami")...)
	if slices.Contains(flags, "-race") {
		command.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("%s: %w\n%s", command, err, output))
	}
	built.paths[name] = path
	return path
}
