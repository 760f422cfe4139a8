//go:build soak

package hybrid

import (
	"testing"
	"time"
)

// TestSoak makes faults at random, each as long as it may be, until its time is
// up: an hour, or TEGAMI_TEST_SOAK.
func TestSoak(t *testing.T) {
	t.Setenv("TEGAMI_TEST_HBASE_DOWN", "2m")
	t.Setenv("TEGAMI_TEST_KAFKA_DOWN", "30s")
	s := start(t)
	end := time.Now().Add(duration("TEGAMI_TEST_SOAK", time.Hour))
	all, made := faults(), 0
	for time.Now().Before(end) && !s.users.History.Broken() {
		f := all[s.random.IntN(len(all))]
		s.settle()
		s.await("before: "+f.name, between)
		s.suffer(f)
		made++
	}
	report := s.users.Judge(complaints...)
	t.Logf("progress: %d faults, %d acknowledged", made, report.Acked)
}
