//go:build soak

package hybrid

import (
	"os"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/workload"
)

var full = lengths{hbase: 2 * time.Minute, kafka: 30 * time.Second, others: 10 * time.Second, between: 4000}

// large is a crowd that sends up to 1,300 messages a second.
var large = workload.Options{Users: 400, Devices: 2, Senders: 1, Every: 300 * time.Millisecond, Mix: 5 * time.Second}

// TestSoak makes every fault at full length, also with the server killed, in
// random order and again and again until its time is up: an hour, or
// TEGAMI_TEST_SOAK.
func TestSoak(t *testing.T) {
	length := time.Hour
	if text := os.Getenv("TEGAMI_TEST_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("TEGAMI_TEST_SOAK: %v", err)
		}
	}
	s := start(t, large)
	s.await("more operations than Redis keeps", 110*int64(large.Users)) // each is two, and there are 200
	all := rows(faults(full))
	began, made := time.Now(), 0
	for time.Since(began) < length && !t.Failed() {
		if made%len(all) == 0 {
			s.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		r := all[made%len(all)]
		t.Run(r.String(), func(t *testing.T) { s.suffer(t, r, full) })
		made++
		t.Logf("progress: %d faults, %d acknowledged, in %.0f s", made, s.users.Acked(), time.Since(began).Seconds())
	}
	if t.Failed() {
		return // What comes after the first evidence only hides it.
	}
	report := s.users.Judge(complaints...)
	// What an hour is to show, and as much of it as there was time for.
	hours := length.Hours()
	if wantFaults, want := int(100*hours), int(1_000_000*hours); made < wantFaults || report.Acked < want {
		t.Errorf("%d faults, %d acknowledged; want %d and %d", made, report.Acked, wantFaults, want)
	}
}
