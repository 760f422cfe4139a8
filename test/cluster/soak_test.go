//go:build soak

package cluster

import (
	"os"
	"testing"
	"time"
)

// TestSoakRestartsInTurn restarts talk nodes in turn until its time is up: an
// hour, or TEGAMI_TEST_SOAK.
func TestSoakRestartsInTurn(t *testing.T) {
	length := time.Hour
	if text := os.Getenv("TEGAMI_TEST_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("TEGAMI_TEST_SOAK: %v", err)
		}
	}
	began := time.Now()
	restartInTurn(t, 2000, func(int) bool { return time.Since(began) < length && !t.Failed() })
}
