//go:build stores && !linux

package redis_test

import "os/exec"

// dieWithParent: only Linux can. Elsewhere Cleanup kills the server.
func dieWithParent(*exec.Cmd) {}
