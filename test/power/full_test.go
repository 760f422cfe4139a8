//go:build linux

package power

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/workload"
)

// newMemoryDisk mounts a small file system that a test can fill.
func newMemoryDisk(t testing.TB, size string) string {
	t.Helper()
	requireRoot(t)
	folder := t.TempDir()
	command := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", folder)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, output)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "--lazy", folder).Run() }) //nolint:noctx // The test's context has ended.
	return folder
}

// fill writes a file that takes all the space there is.
func fill(t testing.TB, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := file.Write(block); err != nil {
			block = block[:len(block)/2] // The last free bytes, too.
		}
	}
}

// A full disk refuses sends, says so, and loses nothing; reading goes on. When
// space is freed the server recovers by itself.
func TestFullDisk(t *testing.T) {
	seed := workload.Seed(t)
	folder := newMemoryDisk(t, "256m")
	server := process.Start(t, process.Options{Binary: process.Build(t), Data: filepath.Join(folder, "data")})
	users := workload.New(t, server, workload.Options{Users: 8, Devices: 2, Senders: 2, Seed: seed})
	server.CreateUsers("probe")
	probe := server.Device("probe", "phone")
	if err := probe.Call(t.Context(), "TalkService/SendMessage", note("first"), new(tegamiv1.SendMessageResponse)); err != nil {
		t.Fatal(err)
	}
	users.StartReceiving()
	users.StartSending()
	if !users.AwaitAcked(500, phaseLimit) {
		t.Fatal("nothing goes on")
	}

	for round := range 2 {
		ballast := filepath.Join(folder, "ballast")
		fill(t, ballast)
		refusal := awaitRefusal(t, probe)
		t.Logf("progress: round %d: full after %d acknowledged: %v", round+1, users.Acked(), refusal)
		if refusal.Status != 503 || refusal.Detail.GetReason() != "disk_full" {
			t.Errorf("a send on a full disk: %v, want unavailable with reason disk_full", refusal)
		}
		if !server.Alive() {
			t.Fatal("the server ended")
		}
		page := new(tegamiv1.FetchOpsResponse)
		if err := probe.Call(t.Context(), "TalkService/FetchOps", &tegamiv1.FetchOpsRequest{Limit: 1}, page); err != nil || len(page.GetOps()) != 1 {
			t.Errorf("reading on a full disk: %d operations, %v", len(page.GetOps()), err)
		}

		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if !users.AwaitAcked(users.Acked()+300, phaseLimit) {
			t.Fatal("it does not recover when space is freed")
		}
		t.Logf("progress: round %d: 300 more acknowledged %v after space was freed", round+1, time.Since(begin).Round(time.Millisecond))
	}
	users.Judge("space", "disk")

	// What was acknowledged around it is on the disk.
	server.Kill()
	server.Start()
	users.StartReceiving()
	users.StartSending()
	if !users.AwaitAcked(users.Acked()+100, phaseLimit) {
		t.Fatal("it does not go on after a restart")
	}
	users.Judge("space", "disk")
}

// awaitRefusal sends until the disk's being full shows.
func awaitRefusal(t *testing.T, client *process.Client) *process.Error {
	t.Helper()
	hang := time.After(phaseLimit)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		err := client.Call(t.Context(), "TalkService/SendMessage", note("more"), new(tegamiv1.SendMessageResponse))
		refusal, ok := errors.AsType[*process.Error](err)
		// A send that was being written when the space ended may have happened.
		if ok && refusal.Code != "resource_exhausted" && refusal.Detail.GetReason() != "outcome_unknown" {
			return refusal
		} else if err != nil && !ok {
			t.Fatalf("a send on a full disk: %v", err)
		}
		select {
		case <-look.C:
		case <-hang:
			t.Fatal("sends are acknowledged on a full disk")
		}
	}
}

// note is a message of the probe to itself.
func note(text string) *tegamiv1.SendMessageRequest {
	return &tegamiv1.SendMessageRequest{To: "probe", Body: &tegamiv1.SendMessageRequest_Text{Text: text}}
}
