package power

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disk is a file system of its own in an image file.
type disk struct {
	t     testing.TB
	image string
	// Mount is where it is mounted.
	Mount string
}

// newDisk makes an ext4 file system and mounts it.
func newDisk(t testing.TB, megabytes int64) *disk {
	t.Helper()
	requireRoot(t)
	folder := t.TempDir()
	d := &disk{t: t, image: filepath.Join(folder, "image"), Mount: filepath.Join(folder, "mount")}
	if err := os.Mkdir(d.Mount, 0o700); err != nil {
		t.Fatal(err)
	}
	image, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if err := image.Truncate(megabytes << 20); err != nil {
		t.Fatal(err)
	}
	d.run("mkfs.ext4", "-q", "-F", d.image)
	d.mount()
	t.Cleanup(func() { _ = exec.Command("umount", "--lazy", d.Mount).Run() }) //nolint:noctx // The test's context has ended.
	return d
}

func (d *disk) mount() {
	d.t.Helper()
	d.run("mount", "-o", "loop", d.image, d.Mount)
}

// PlugIn mounts the disk again after a cut. The file system replays its own
// journal, as at any start after a power failure.
func (d *disk) PlugIn() {
	d.t.Helper()
	d.run("umount", d.Mount)
	d.mount()
}

// Cut does to the file system what a power failure does: from this moment
// nothing reaches the disk, and what was not synced is gone. The journal of
// the file system is not flushed first.
func (d *disk) Cut() {
	d.t.Helper()
	const (
		ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN: _IOR('X', 125, __u32)
		noLogFlush   = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
	)
	folder, err := os.Open(d.Mount)
	if err != nil {
		d.t.Fatal(err)
	}
	defer folder.Close()
	flags := uint32(noLogFlush)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, folder.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))) //nolint:gosec // The call takes a pointer.
	if errno != 0 {
		d.t.Fatalf("shut %s down: %v", d.Mount, errno)
	}
}

// Sync flushes the whole file system.
func (d *disk) Sync() {
	d.t.Helper()
	folder, err := os.Open(d.Mount)
	if err != nil {
		d.t.Fatal(err)
	}
	defer folder.Close()
	if err := unix.Syncfs(int(folder.Fd())); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) run(name string, arguments ...string) {
	d.t.Helper()
	command := exec.CommandContext(d.t.Context(), name, arguments...)
	if output, err := command.CombinedOutput(); err != nil {
		d.t.Fatal(fmt.Errorf("%s: %w: %s", command, err, output))
	}
}

// awaitStopped waits until every thread of a process is stopped.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(stopLimit)
	for time.Now().Before(deadline) {
		states, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		stopped := 0
		for _, path := range states {
			stat, err := os.ReadFile(path)
			// The state stands behind the name, which is in parentheses.
			if _, state, _ := strings.Cut(string(stat), ") "); err == nil && strings.HasPrefix(state, "T") {
				stopped++
			}
		}
		if stopped > 0 && stopped == len(states) {
			return
		}
		<-time.After(time.Millisecond)
	}
	t.Fatalf("process %d does not stop", pid)
}

// stopLimit is a limit against hanging.
const stopLimit = 30 * time.Second

// requireRoot fails rather than skips: a power cut that did not happen proves
// nothing.
func requireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a file system and needs root: sudo make power")
	}
}
