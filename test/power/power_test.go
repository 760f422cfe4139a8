//go:build linux

// Package power takes the disk away from a real server under load: by a power
// cut, and by filling it. Its tests need root.
package power

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/workload"
)

func TestMain(m *testing.M) { process.Main(m) }

// phaseLimit is a limit against hanging for a phase that takes seconds.
const phaseLimit = 100 * time.Second

// run is a server on a disk of its own, with users.
type run struct {
	disk   *disk
	server *process.Server
	users  *workload.Workload
	random *rand.Rand
}

func start(t *testing.T, config string) *run {
	t.Helper()
	seed := workload.Seed(t)
	r := &run{disk: newDisk(t, 512), random: rand.New(rand.NewPCG(seed, 0))}
	r.server = process.Start(t, process.Options{
		Binary: process.Build(t),
		Data:   filepath.Join(r.disk.Mount, "data"),
		Config: config + workload.Unlimited,
	})
	r.users = workload.New(t, r.server, workload.Options{Users: 12, Devices: 2, Senders: 2, Mix: 100 * time.Millisecond, Seed: seed})
	return r
}

// load sends until so many more messages were acknowledged, and a random
// moment longer.
func (r *run) load(t *testing.T, messages int64) {
	t.Helper()
	before := r.users.Acked()
	if !r.users.AwaitAcked(before+messages, phaseLimit) {
		t.Fatalf("%d of %d messages acknowledged within %v", r.users.Acked()-before, messages, phaseLimit)
	}
	<-time.After(time.Duration(r.random.Int64N(int64(20 * time.Millisecond))))
}

// diskGone is what a server says whose disk is gone, just before it ends.
const diskGone = "storage failed; the process ends"

// cut is a power failure, up to the moment when the machine comes back. The
// server stands still first, each thread of it out of the kernel: an fsync that
// is under way while the file system is shut down may report success for data
// that the shutdown then drops, which no loss of power does.
func (r *run) cut(t *testing.T) {
	t.Helper()
	inFlight := r.users.History.InFlight()
	r.server.Signal(unix.SIGSTOP)
	awaitStopped(t, r.server.Pid())
	r.disk.Cut()
	r.server.Kill()
	r.disk.PlugIn()
	t.Logf("progress: power cut after %d acknowledged, %d in flight", r.users.Acked(), inFlight)
}

// With durability fsync a power cut is no worse than a crash: nothing that was
// acknowledged is missing.
func TestPowerCutWithFsync(t *testing.T) {
	r := start(t, "journal: {durability: fsync}\n")
	r.users.StartReceiving()
	r.users.StartSending()
	for range workload.Cycles(3) {
		r.load(t, 1000)
		r.cut(t)
		r.server.Start()
	}
	r.load(t, 500)
	r.users.Judge(diskGone)
}

// With durability os a power cut may take the last moments. It must not take
// more: the server starts by itself, and everything sent from then on arrives
// once, in order, in mailboxes that may have gone back.
func TestPowerCutWithoutFsync(t *testing.T) {
	r := start(t, "journal: {durability: os}\n")
	// Accounts and sessions are not what this is about.
	r.disk.Sync()
	r.users.StartReceiving()
	r.users.StartSending()
	for range workload.Cycles(3) {
		r.load(t, 2000)
		r.cut(t)
		// Nobody may still be asking under the old history: cursors beyond a
		// head that went back are the business of another test.
		r.users.Abandon()
		r.server.Start()
		r.users.StartReceiving()
		r.users.StartSending()
	}
	r.load(t, 2000)
	r.users.Judge(diskGone)
}
