package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unitsFolder has units that run the program where it is installed, which here it is
// not.
const (
	unitsFolder = "../../deploy/systemd"
	installed   = "/usr/local/bin/tegami"
)

// systemd itself reads the units, and has nothing to say of them.
func TestUnitsAreWhatSystemdTakes(t *testing.T) {
	folder := t.TempDir()
	copied := copyUnits(t, folder, func(text string) string { return strings.ReplaceAll(text, installed, "/bin/true") })
	if output := verify(t, copied...); output != "" {
		t.Error(output)
	}
}

func TestAMistakeInAUnitIsFound(t *testing.T) {
	for from, to := range map[string]string{"StateDirectory=": "StateDir=", "TimeoutStopSec=": "TimeoutStopSec=x", "Requires=tegami-gateway.socket": "Requires=tegami.socket"} {
		folder, harmed := t.TempDir(), false
		copied := copyUnits(t, folder, func(text string) string {
			text = strings.ReplaceAll(text, installed, "/bin/true")
			harmed = harmed || strings.Contains(text, from)
			return strings.ReplaceAll(text, from, to)
		})
		if output := verify(t, copied...); !harmed || output == "" {
			t.Errorf("%s instead of %s was taken", to, from)
		}
	}
}

// copyUnits writes all units, changed, to a folder.
func copyUnits(t *testing.T, folder string, change func(string) string) (copied []string) {
	t.Helper()
	files, err := filepath.Glob(unitsFolder + "/tegami*.*")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d units, %v", len(files), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(folder, filepath.Base(file))
		if err := os.WriteFile(to, []byte(change(string(content))), 0o600); err != nil {
			t.Fatal(err)
		}
		copied = append(copied, to)
	}
	return copied
}

// verify returns what systemd-analyze says of units.
func verify(t *testing.T, units ...string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "systemd-analyze", append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil && len(output) == 0 {
		t.Fatal(err)
	}
	return string(output)
}
