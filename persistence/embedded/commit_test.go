package embedded_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// slowDisk is a disk whose fsyncs of logs wait while it is stopped.
type slowDisk struct {
	vfs.FS
	gate atomic.Pointer[chan struct{}]
}

func newSlowDisk() *slowDisk {
	d := &slowDisk{}
	d.FS = errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if gate := d.gate.Load(); gate != nil && op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".log") {
			<-*gate
		}
		return nil
	}))
	return d
}

func (d *slowDisk) stop() (goOn func()) {
	gate := make(chan struct{})
	d.gate.Store(&gate)
	return func() {
		d.gate.Store(nil)
		close(gate)
	}
}

// TestGroupCommit: all that queues behind a commit, over all shards, is in the
// next, with one fsync.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newSlowDisk()
		s := newFolder(t, embedded.Options{Dir: "/data", FS: disk}).open
		before := s.Stats()
		goOn := disk.stop()
		var answered atomic.Int64
		done := func(_ persistence.Appended, err error) {
			if err == nil {
				answered.Add(1)
			}
		}
		s.Journal.Append(0, [][]byte{[]byte("first")}, done)
		synctest.Wait()
		for i := range 100 {
			s.Journal.Append(uint32(i%persisttest.Shards), [][]byte{[]byte("x"), []byte("y")}, done)
		}
		synctest.Wait()
		if stats := s.Stats(); answered.Load() != 0 || stats.QueuedAppends != 100 {
			t.Fatalf("while the fsync runs %d appends were answered and %d wait, want 0 and 100", answered.Load(), stats.QueuedAppends)
		}
		goOn()
		synctest.Wait()
		after := s.Stats()
		if answered.Load() != 101 || after.QueuedAppends != 0 || after.QueuedBytes != 0 {
			t.Fatalf("%d of 101 appends were answered, %d wait", answered.Load(), after.QueuedAppends)
		}
		if commits, fsyncs := after.Commits-before.Commits, after.Journal.Fsyncs-before.Journal.Fsyncs; commits != 2 || fsyncs != 2 {
			t.Fatalf("%d commits and %d fsyncs, want 2 and 2", commits, fsyncs)
		}
		if records := after.Records - before.Records; records != 201 {
			t.Fatalf("%d records were counted, want 201", records)
		}
	})
}

// TestNotVisibleBeforeDurable: what is not synced yet is neither read nor told
// of.
func TestNotVisibleBeforeDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newSlowDisk()
		s := newFolder(t, embedded.Options{Dir: "/data", FS: disk}).open
		var told atomic.Int64
		defer s.Journal.Tail(0, func(next int64) { told.Store(next) })()
		goOn := disk.stop()
		outcome := appendAsync(s.Journal, "x")
		synctest.Wait()
		bounds, err := s.Journal.Bounds(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := s.Journal.Read(t.Context(), 0, 0, 1000)
		if err != nil || len(entries) != 0 || bounds.Next != 0 || told.Load() != 0 {
			t.Errorf("before the fsync ended %d entries were read, bounds are %+v, tails were told of %d, error %v", len(entries), bounds, told.Load(), err)
		}
		goOn()
		if err := <-outcome; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if told.Load() != 1 {
			t.Errorf("tails were told of %d, want 1", told.Load())
		}
	})
}

// TestQueueIsBounded: what does not fit in the queue is refused at once.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newSlowDisk()
		s := newFolder(t, embedded.Options{Dir: "/data", FS: disk, QueueBytes: 100_000}).open
		goOn := disk.stop()
		record := strings.Repeat("x", 10_000)
		outcomes := []chan error{appendAsync(s.Journal, record)}
		synctest.Wait()
		for range 9 {
			outcomes = append(outcomes, appendAsync(s.Journal, record))
		}
		if err := <-appendAsync(s.Journal, record); !errors.Is(err, persistence.ErrBusy) {
			t.Errorf("an append to a full queue: %v, want ErrBusy", err)
		}
		goOn()
		for i, outcome := range outcomes {
			if err := <-outcome; err != nil {
				t.Errorf("append %d: %v", i, err)
			}
		}
		if err := <-appendAsync(s.Journal, record); err != nil {
			t.Errorf("an append after that: %v", err)
		}
		if err := <-appendAsync(s.Journal, strings.Repeat("x", 200_000)); err == nil || errors.Is(err, persistence.ErrBusy) {
			t.Errorf("an append that never fits: %v, want an error of its own", err)
		}
	})
}

// TestSyncWithDurabilityOS: appends do not wait for an fsync; one comes within a
// second, and none when nothing was appended.
func TestSyncWithDurabilityOS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFolder(t, embedded.Options{Dir: "/data", FS: vfs.NewMem(), Durability: persistence.DurabilityOS}).open
		fsyncs := func() int64 { return s.Stats().Journal.Fsyncs }
		before := fsyncs()
		for range 100 {
			if err := <-appendAsync(s.Journal, "x"); err != nil {
				t.Fatal(err)
			}
		}
		if got := fsyncs() - before; got != 0 {
			t.Fatalf("100 appends made %d fsyncs, want none", got)
		}
		<-time.After(time.Second)
		if got := fsyncs() - before; got != 1 {
			t.Fatalf("a second later there were %d fsyncs, want 1", got)
		}
		<-time.After(time.Minute)
		if got := fsyncs() - before; got != 1 {
			t.Fatalf("after an idle minute there were %d fsyncs, want 1", got)
		}
	})
}

// TestFsyncError: nothing is acknowledged after a failed fsync; the process
// ends.
func TestFsyncError(t *testing.T) {
	for _, suffix := range []string{".log", ".sst"} {
		t.Run(suffix, func(t *testing.T) {
			var broken atomic.Bool
			disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				isSync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
				if broken.Load() && isSync && strings.HasSuffix(op.Path, suffix) {
					return &os.PathError{Op: "fsync", Path: op.Path, Err: syscall.EIO}
				}
				return nil
			}))
			exited := make(chan int, 1)
			var log strings.Builder
			s, err := embedded.Open(embedded.Options{
				Dir: "/data", FS: disk, Exit: func(code int) { exited <- code },
				Logger: logTo(&log),
			})
			if err != nil {
				t.Fatal(err)
			}
			broken.Store(true)
			var acknowledged atomic.Bool
			for i := range 20 { // a table is written when the first write buffer is full
				s.Journal.Append(0, [][]byte{make([]byte, 1<<20)}, func(_ persistence.Appended, err error) {
					if suffix == ".log" && err == nil {
						acknowledged.Store(true)
						t.Errorf("append %d was acknowledged", i)
					}
				})
			}
			if code := <-exited; code != 1 {
				t.Errorf("the process ends with %d, want 1", code)
			}
			if !strings.Contains(log.String(), "fsync /data/journal/") || !strings.Contains(log.String(), "input/output error") {
				t.Errorf("the log does not say why: %s", log.String())
			}
		})
	}
}

func TestLogTimeWithAClockThatGoesBack(t *testing.T) {
	clock := time.UnixMilli(1_000_000)
	f := newFolder(t, embedded.Options{Now: func() time.Time { return clock }})
	for i, step := range []struct {
		clock, want int64
	}{{1_000_000, 1_000_000}, {999_000, 1_000_000}, {1_000_001, 1_000_001}, {5, 1_000_001}} {
		clock = time.UnixMilli(step.clock)
		appended, err := persisttest.Append(t.Context(), f.open.Journal, uint32(i%2), "x")
		if err != nil || appended.Time != step.want {
			t.Errorf("step %d: log time %d, error %v, want %d", i, appended.Time, err, step.want)
		}
		f.reopen()
	}
	if err := f.open.Journal.Truncate(t.Context(), 0, 2); err != nil {
		t.Fatal(err)
	}
	if err := f.open.Journal.Truncate(t.Context(), 1, 2); err != nil {
		t.Fatal(err)
	}
	f.reopen() // nothing is left that bears a time
	if appended, err := persisttest.Append(t.Context(), f.open.Journal, 0, "x"); err != nil || appended.Time != 1_000_001 {
		t.Errorf("after truncation: log time %d, error %v, want 1000001", appended.Time, err)
	}
}

func TestUnknownShard(t *testing.T) {
	s := newFolder(t, embedded.Options{Shards: 4}).open
	ctx := t.Context()
	_, appendErr := persisttest.Append(ctx, s.Journal, 4, "x")
	_, readErr := s.Journal.Read(ctx, 4, 0, 1)
	_, boundsErr := s.Journal.Bounds(ctx, 4)
	_, loadErr := s.Store.Load(ctx, 4, "a", 1)
	for call, err := range map[string]error{
		"Append": appendErr, "Read": readErr, "Bounds": boundsErr, "Load": loadErr,
		"Truncate":        s.Journal.Truncate(ctx, 4, 1),
		"StartGeneration": s.Journal.StartGeneration(ctx, 4),
		"Write":           s.Store.Write(ctx, 4, persistence.Batch{}),
	} {
		if err == nil || !strings.Contains(err.Error(), "shard 4: there are 4") {
			t.Errorf("%s: %v", call, err)
		}
	}
	s.Journal.Tail(1<<20, func(int64) {})()
}

// TestTruncationFreesSpace: what was let go leaves the disk.
func TestTruncationFreesSpace(t *testing.T) {
	f := newFolder(t, embedded.Options{Dir: "/data", FS: vfs.NewMem()})
	record := strings.Repeat("x", 10_000)
	for i := range 30 {
		records := make([]string, 200)
		for k := range records {
			records[k] = fmt.Sprint(i, k, record)
		}
		if _, err := persisttest.Append(t.Context(), f.open.Journal, 0, records...); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.open.Journal.Truncate(t.Context(), 0, 5990); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	deadline := time.After(30 * time.Second)
	for f.open.Stats().Journal.DiskBytes > 4<<20 {
		select {
		case <-deadline:
			t.Fatalf("the journal takes %d bytes for 10 records of 10,000", f.open.Stats().Journal.DiskBytes)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if entries, err := persisttest.ReadAll(t.Context(), f.open.Journal, 0, 5990); err != nil || len(entries) != 10 {
		t.Fatalf("%d entries are left, error %v, want 10", len(entries), err)
	}
}
