package embedded_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tegami-im/tegami/persistence/embedded"
)

func wantOpenError(t *testing.T, options embedded.Options, parts ...string) {
	t.Helper()
	s, err := embedded.Open(options)
	if err == nil {
		_ = s.Close()
		t.Fatalf("the folder opens; want an error with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error %q does not say %q", err, part)
		}
	}
}

func TestFolderIsInUse(t *testing.T) {
	f := newFolder(t, embedded.Options{})
	wantOpenError(t, f.options, "in use", f.options.Dir)
	if err := f.open.Close(); err != nil {
		t.Fatal(err)
	}
	f.start()
}

// TestFolderIsInUseByAnotherProcess runs itself as the other process.
func TestFolderIsInUseByAnotherProcess(t *testing.T) {
	const variable = "TEGAMI_TEST_FOLDER"
	if dir := os.Getenv(variable); dir != "" {
		wantOpenError(t, embedded.Options{Dir: dir}, "in use by another process", dir)
		return
	}
	f := newFolder(t, embedded.Options{})
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	other.Env = append(os.Environ(), variable+"="+f.options.Dir)
	output, err := other.CombinedOutput()
	if err != nil || !bytes.Contains(output, []byte("PASS: "+t.Name())) {
		t.Fatalf("the other process: %v\n%s", err, output)
	}
}

func TestFormat(t *testing.T) {
	complete := func(t *testing.T) string {
		dir := t.TempDir()
		s, err := embedded.Open(embedded.Options{Dir: dir, Shards: 16})
		if err != nil {
			t.Fatal(err)
		}
		if s.Shards != 16 {
			t.Fatalf("the folder has %d shards, want 16", s.Shards)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	setFormat := func(content string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "FORMAT"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		change func(t *testing.T, dir string)
		shards int
		want   []string // in the error; none: it opens
	}{
		"the same number of shards":  {shards: 16},
		"the number is the folder's": {shards: 0},
		"another number of shards":   {shards: 32, want: []string{"made with 16 shards", "32 are configured", "cannot change"}},
		"a newer version":            {change: setFormat(`{"version":2,"shards":16,"complete":true}`), want: []string{"FORMAT", "version 2", "knows version 1"}},
		"a damaged format":           {change: setFormat(`{"version":1,"sha`), want: []string{"FORMAT", "damaged"}},
		"a format without shards":    {change: setFormat(`{"version":1,"complete":true}`), want: []string{"FORMAT", "damaged"}},
		"no format":                  {change: remove("FORMAT"), want: []string{"no file FORMAT", "restore it from a backup"}},
		"no journal":                 {change: remove("journal"), want: []string{"journal", "missing", "restore it from a backup"}},
		"no store":                   {change: remove("store"), want: []string{"store", "missing"}},
		"no keys":                    {change: remove("keys"), want: []string{"keys", "missing"}},
		"a first start that was ended": {change: func(t *testing.T, dir string) {
			setFormat(`{"version":1,"shards":16}`)(t, dir)
			remove("keys")(t, dir)
		}},
		"other files are left alone": {change: func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "admin.token"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := complete(t)
			if test.change != nil {
				test.change(t, dir)
			}
			options := embedded.Options{Dir: dir, Shards: test.shards}
			if len(test.want) > 0 {
				wantOpenError(t, options, test.want...)
				return
			}
			s, err := embedded.Open(options)
			if err != nil {
				t.Fatal(err)
			}
			if s.Shards != 16 {
				t.Errorf("the folder has %d shards, want 16", s.Shards)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	wantOpenError(t, embedded.Options{Dir: t.TempDir(), Shards: 1 << 20}, "1048576 shards", "must be 1 to 65536")
}
