package correct

import (
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
)

// audited has a worker audit all that is stored, once, and returns how much it
// found wrong.
func audited(t *testing.T, config string) int {
	t.Helper()
	worker := process.Start(t, process.Options{
		Binary: process.Build(t), Config: config, Command: "worker", Flags: []string{"--set", "audit.rate=50000"},
	})
	defer worker.Stop()
	// There is no counter before the audit has reached the stores.
	for deadline := time.Now().Add(hangLimit); worker.Sum("tegami_audit_rounds_total") == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the audit does not come round")
		}
		<-time.After(100 * time.Millisecond)
	}
	return int(worker.Sum("tegami_audit_findings_total"))
}
