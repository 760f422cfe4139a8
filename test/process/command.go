package process

import (
	"context"
	"os/exec"
	"testing"
)

// Command prepares a run of a binary from Build. The kernel kills it when the
// test process ends; the test ends it before, where it should.
func Command(t testing.TB, binary string, arguments ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(context.WithoutCancel(t.Context()), binary, arguments...)
	dieWithParent(command)
	return command
}
