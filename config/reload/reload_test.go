package reload_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/config/reload"
)

func TestAValueFollowsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	synctest.Test(t, func(t *testing.T) {
		write := func(text string, at int64) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, time.Unix(at, 0), time.Unix(at, 0)); err != nil {
				t.Fatal(err)
			}
		}
		reads := 0
		read := func() (string, error) {
			reads++
			content, err := os.ReadFile(path)
			if string(content) == "bad" {
				err = errors.New("bad")
			}
			return string(content), err
		}
		if _, err := reload.New([]string{path}, slog.New(slog.DiscardHandler), read); err == nil {
			t.Fatal("no error without a file")
		}
		write("one", 1)
		v, err := reload.New([]string{path}, slog.New(slog.DiscardHandler), read)
		if err != nil {
			t.Fatal(err)
		}
		want := func(text string, n int) {
			t.Helper()
			if got := v.Get(); got != text || reads != n {
				t.Errorf("got %q after %d readings, want %q after %d", got, reads, text, n)
			}
		}
		write("two", 2)
		want("one", 1) // it was looked at just now
		<-time.After(reload.Every)
		want("two", 2)
		<-time.After(reload.Every)
		want("two", 2) // nothing has changed
		write("bad", 3)
		<-time.After(reload.Every)
		want("two", 3)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		<-time.After(reload.Every)
		want("two", 3)
		write("three", 4)
		<-time.After(reload.Every)
		want("three", 4)
	})
}
