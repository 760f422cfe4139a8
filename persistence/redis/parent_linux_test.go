//go:build stores

package redis_test

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the server when the test process ends,
// however that happens.
func dieWithParent(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
