package client_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tegami-im/tegami/client"
)

func TestFileCursor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cursor")
	cursor := client.FileCursor(file)
	if at, err := cursor.Load(t.Context()); at != 0 || err != nil {
		t.Errorf("a missing file is %d, %v; want 0", at, err)
	}
	for _, revision := range []int64{1, 2, 1 << 62, 3} {
		if err := cursor.Save(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
		if at, err := client.FileCursor(file).Load(t.Context()); at != revision || err != nil {
			t.Errorf("got %d, %v; want %d", at, err, revision)
		}
	}
}

// A crash while Save writes leaves the file beside; the cursor is the old one.
func TestFileCursorSurvivesAHalfWrittenSave(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cursor")
	cursor := client.FileCursor(file)
	if err := cursor.Save(t.Context(), 41); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".new", []byte("4"), 0o600); err != nil {
		t.Fatal(err)
	}
	if at, err := cursor.Load(t.Context()); at != 41 || err != nil {
		t.Errorf("got %d, %v", at, err)
	}
	if err := cursor.Save(t.Context(), 42); err != nil {
		t.Fatal(err)
	}
	if at, err := cursor.Load(t.Context()); at != 42 || err != nil {
		t.Errorf("got %d, %v", at, err)
	}
}

func TestFileCursorRefusesWhatIsNoRevision(t *testing.T) {
	for _, content := range []string{"", "-1", "12x", "99999999999999999999"} {
		file := filepath.Join(t.TempDir(), "cursor")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if at, err := client.FileCursor(file).Load(t.Context()); err == nil {
			t.Errorf("%q was read as %d", content, at)
		}
	}
}

func TestFileCursorNamesWhatFailed(t *testing.T) {
	cursor := client.FileCursor(filepath.Join(t.TempDir(), "no", "such", "folder"))
	if err := cursor.Save(t.Context(), 1); err == nil {
		t.Error("saved into a folder that does not exist")
	}
}
