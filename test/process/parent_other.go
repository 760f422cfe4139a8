//go:build !linux

package process

import "os/exec"

// dieWithParent: only Linux can. Elsewhere Cleanup kills the server.
func dieWithParent(*exec.Cmd) {}
