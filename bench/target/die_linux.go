package target

import "syscall"

// dieWithUs has the system kill a child when we die, however that happens. It
// goes by the thread that starts the child, so no thread of ours may end
// before the process does.
func dieWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
