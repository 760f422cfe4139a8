package stack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// script runs bash as the scripts run it, at the root of the repository, and
// returns what it says.
func script(t *testing.T, text string, environment ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", text)
	command.Dir = "../.."
	command.Env = append(os.Environ(), environment...)
	output, err := command.CombinedOutput()
	return string(output), err
}

// inAFolder sources what runs programs, for a folder whose name has a space.
func inAFolder(t *testing.T) (begin, folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "a folder")
	if err := os.MkdirAll(filepath.Join(folder, "program"), 0o700); err != nil {
		t.Fatal(err)
	}
	return "processes='" + folder + "' processes_of=test processes_wait=10\n. scripts/processes.sh\n", folder
}

func TestAProgramThatCannotBeStartedIsNamed(t *testing.T) {
	begin, _ := inAFolder(t)
	for name, program := range map[string]string{"there is none": "/nowhere/program", "it fails at once": "false"} {
		output, err := script(t, begin+"start program "+program+"\nawait program false")
		if err == nil || !strings.Contains(output, "test: program died while it started; its log is") {
			t.Errorf("%s: %v\n%s", name, err, output)
		}
	}
}

// The system gives the id of a process that has ended to another one.
func TestTheProcessOfSomebodyElseIsLeftAlone(t *testing.T) {
	begin, folder := inAFolder(t)
	other := exec.CommandContext(t.Context(), "sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- other.Wait() }()
	for name, content := range map[string]string{"pid": strconv.Itoa(other.Process.Pid), "started": "1"} {
		if err := os.WriteFile(filepath.Join(folder, "program", name), []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if output, err := script(t, begin+"! running program\nstop program graceful\nstop program"); err != nil || output != "" {
		t.Errorf("%v\n%s", err, output)
	}
	select {
	case err := <-ended:
		t.Errorf("it was ended: %v", err)
	default:
	}
	_ = other.Process.Kill()
	if err := <-ended; err == nil {
		t.Error("it had ended by itself")
	}
}

// Where no cluster was started there is nothing to stop, and nothing to write down.
func TestStoppingANodeOfNoCluster(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a folder")
	output, err := script(t, "scripts/cluster/down.sh talk-1", "CLUSTER_DIR="+folder)
	if err != nil || output != "talk-1 is not up\n" {
		t.Errorf("%v\n%s", err, output)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("it wrote %v, %v", left, err)
	}
}

// With CDPATH cd says where it goes.
func TestScriptsFindThemselves(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "a folder")
	for library, variable := range map[string]string{"cluster": "$cluster_root $CLUSTER_DIR", "stack": "$stack_root $STACK_DIR"} {
		output, err := script(t, ". scripts/"+library+"/lib.sh\necho \""+variable+"\"",
			"CDPATH=.:/", "CLUSTER_DIR="+folder, "STACK_DIR="+folder)
		if err != nil || output != root+" "+folder+"\n" {
			t.Errorf("%s: %v\n%s", library, err, output)
		}
	}
}
