//go:build !linux

package target

import "syscall"

// dieWithUs is for Linux: elsewhere a server outlives a benchmark that is
// killed.
func dieWithUs() *syscall.SysProcAttr { return nil }
