package target

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMetrics(t *testing.T) {
	got := parseMetrics(`
# HELP fsyncs What it counts.
# TYPE fsyncs counter
fsyncs{database="journal"} 3
fsyncs{database="a } in a label"} 4 1700000000000
go_goroutines 12
process_cpu_seconds_total 1.5e+01
not a number
lonely
`)
	want := map[string]float64{"fsyncs": 7, "go_goroutines": 12, "process_cpu_seconds_total": 15}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadProcOfOurselves(t *testing.T) {
	var before, after Usage
	if err := before.readProc(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for after.CPU <= before.CPU { // ends once a tick was spent
		for i := range 10_000_000 {
			sum += i
		}
		if err := after.readProc(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if after.RSS < 1<<20 || after.PeakRSS < after.RSS {
		t.Errorf("implausible memory: %+v (%d)", after, sum)
	}
}

func TestAttachRefusesWhatIsNoURL(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:7400", "ftp://x", "http://", "::"} {
		if _, err := Attach(bad, "", ""); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
