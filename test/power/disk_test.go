//go:build linux

package power

import (
	"os"
	"path/filepath"
	"testing"
)

// A power cut that takes nothing would let every server pass.
func TestCutKeepsWhatIsSyncedAndNothingElse(t *testing.T) {
	d := newDisk(t, 64)
	write := func(name string, sync bool) {
		t.Helper()
		file, err := os.Create(filepath.Join(d.Mount, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(name); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := file.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("synced", true)
	d.Sync()
	write("unsynced", false)
	d.Cut()
	if _, err := os.Create(filepath.Join(d.Mount, "late")); err == nil {
		t.Error("the disk still takes writes")
	}
	d.PlugIn()
	if content, err := os.ReadFile(filepath.Join(d.Mount, "synced")); err != nil || string(content) != "synced" {
		t.Errorf("what was synced reads %q, %v", content, err)
	}
	if _, err := os.Stat(filepath.Join(d.Mount, "unsynced")); !os.IsNotExist(err) {
		t.Errorf("what was not synced is still there: %v", err)
	}
}
