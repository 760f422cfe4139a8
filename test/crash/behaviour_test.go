package crash

import (
	"testing"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/workload"
)

// TestKillBehaviours kills the server while users talk to behaviours that run in
// it.
func TestKillBehaviours(t *testing.T) {
	server := process.Start(t, process.Options{Binary: process.Build(t), Config: workload.BehavioursConfig})
	workload.KillBehaviours(t, server, 12, func() {
		server.Kill()
		server.Start()
	})
	for _, complaint := range server.Complaints() {
		t.Errorf("the server complained: %s", complaint)
	}
}
