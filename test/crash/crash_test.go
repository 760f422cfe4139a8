// Package crash kills a real server under load from real clients, over and
// over, and has the checker look for what was lost.
package crash

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/workload"
)

func TestMain(m *testing.M) { process.Main(m) }

// What a run must have seen to prove anything. The numbers shrink with the
// cycles when a test of a planted bug asks for fewer.
var (
	cycles          = workload.Cycles(30)
	wantAcked       = int64(20_000 * cycles / 30)
	wantKillsInside = 10 * cycles / 30
)

// cycleLimit is a limit against hanging: a cycle takes about a second.
const cycleLimit = 60 * time.Second

// TestKill kills the server with SIGKILL at random moments and starts it again
// on the same data. No client is told: sends in flight have an unknown outcome
// and are tried again under the same id, held polls break and are made again
// from the same cursor.
//
// A moment is drawn as a number of acknowledgements since the start, so that
// the load is the same on a slow machine and on a fast one, plus a few random
// milliseconds, so that any stage of a group commit may be hit.
func TestKill(t *testing.T) {
	seed := workload.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	server := process.Start(t, process.Options{Binary: process.Build(t), Config: workload.Unlimited})
	users := workload.New(t, server, workload.Options{Users: 24, Devices: 2, Senders: 2, Mix: 100 * time.Millisecond, Seed: seed})
	users.StartReceiving()
	users.StartSending()

	killsInside, killsAtStart := 0, 0
	for cycle := range cycles {
		before := users.Acked()
		target := before + 1 + random.Int64N(2*wantAcked/int64(cycles))
		if cycle == cycles-1 {
			target = max(target, wantAcked)
		}
		if !users.AwaitAcked(target, cycleLimit) {
			t.Fatalf("cycle %d: %d of %d acknowledged within %v", cycle+1, users.Acked()-before, target-before, cycleLimit)
		}
		wait(random, 20*time.Millisecond)

		inFlight := users.History.InFlight()
		server.Kill()
		if inFlight > 0 {
			killsInside++
		}
		if cycle%5 == 4 {
			// Once more, while it replays.
			server.Launch()
			wait(random, 300*time.Millisecond)
			server.Kill()
			killsAtStart++
		}
		start := time.Now()
		server.Start()
		t.Logf("progress: cycle %d/%d: %d acknowledged, killed with %d sends in flight, ready again in %d ms",
			cycle+1, cycles, users.Acked()-before, inFlight, time.Since(start).Milliseconds())
		if users.History.Broken() {
			break // What comes after the first evidence only hides it.
		}
	}

	report := users.Judge()
	t.Logf("progress: kills %d (%d with an append in flight), and %d while starting", cycles, killsInside, killsAtStart)
	if int64(report.Acked) < wantAcked {
		t.Errorf("%d acknowledged, which proves too little: want %d", report.Acked, wantAcked)
	}
	if killsInside < wantKillsInside {
		t.Errorf("%d kills with an append in flight, which proves too little: want %d", killsInside, wantKillsInside)
	}
}

// TestStop stops the server in order, under the same load: what it has
// acknowledged is there, and it leaves within its time.
func TestStop(t *testing.T) {
	seed := workload.Seed(t)
	server := process.Start(t, process.Options{Binary: process.Build(t), Config: workload.Unlimited})
	users := workload.New(t, server, workload.Options{Users: 8, Devices: 2, Senders: 2, Mix: 100 * time.Millisecond, Seed: seed})
	users.StartReceiving()
	users.StartSending()
	for cycle := range 3 {
		if !users.AwaitAcked(users.Acked()+200, cycleLimit) {
			t.Fatalf("cycle %d: nothing goes on", cycle+1)
		}
		start := time.Now()
		server.Stop()
		t.Logf("progress: cycle %d: stopped in %d ms", cycle+1, time.Since(start).Milliseconds())
		server.Start()
	}
	users.Judge()
}

// wait lets a random time up to limit go by: when a kill comes is no condition
// that could be waited for.
func wait(random *rand.Rand, limit time.Duration) {
	<-time.After(time.Duration(random.Int64N(int64(limit))))
}
