package embedded_test

import (
	"errors"
	"fmt"
	"log/slog"
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

// fillable is a disk that may be full, for all files or for tables.
type fillable struct {
	vfs.FS
	full, fullForTables atomic.Bool
}

func newFillable(disk vfs.FS) *fillable {
	f := &fillable{}
	f.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !f.full.Load() && (!f.fullForTables.Load() || !strings.HasSuffix(op.Path, ".sst")) {
			return nil
		}
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpLink, errorfs.OpReuseForWrite, errorfs.OpMkdirAll,
			errorfs.OpFilePreallocate, errorfs.OpFileWrite, errorfs.OpFileWriteAt:
			return &os.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
		default:
			return nil
		}
	}))
	return f
}

// appendAsync appends one record to shard 0.
func appendAsync(j persistence.Journal, record string) (outcome chan error) {
	outcome = make(chan error, 1)
	j.Append(0, [][]byte{[]byte(record)}, func(_ persistence.Appended, err error) { outcome <- err })
	return outcome
}

// TestFullDisk: what is in flight waits, what comes is refused at once, reads
// go on, and when there is space again everything does, with nothing lost.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newFillable(vfs.NewCrashableMem())
		f := newFolder(t, embedded.Options{Dir: "/data", FS: disk, Durability: persistence.DurabilityFsync})
		s := f.open
		var want int64
		for cycle := range 3 {
			if err := <-appendAsync(s.Journal, fmt.Sprint(want)); err != nil {
				t.Fatal(err)
			}
			disk.full.Store(true)
			inFlight := appendAsync(s.Journal, fmt.Sprint(want+1))
			synctest.Wait()
			if stats := s.Stats(); !stats.Full || !stats.Refusing {
				t.Fatalf("cycle %d: the disk is full and the stats say %+v", cycle, stats)
			}
			if err := <-appendAsync(s.Journal, "refused"); !errors.Is(err, persistence.ErrFull) {
				t.Fatalf("an append to a full disk: %v, want ErrFull", err)
			}
			if err := s.Store.Write(t.Context(), 0, persistence.Batch{}); !errors.Is(err, persistence.ErrFull) {
				t.Fatalf("a write to a full disk: %v, want ErrFull", err)
			}
			if _, err := s.Keys.Create(t.Context(), []string{"a"}); !errors.Is(err, persistence.ErrFull) {
				t.Fatalf("a new key on a full disk: %v, want ErrFull", err)
			}
			if entries, err := persisttest.ReadAll(t.Context(), s.Journal, 0, 0); err != nil || int64(len(entries)) != want+1 {
				t.Fatalf("reading from a full disk: %d entries, error %v, want %d", len(entries), err, want+1)
			}
			<-time.After(time.Hour) // as long as it takes
			select {
			case err := <-inFlight:
				t.Fatalf("the append in flight was answered %v while the disk was full", err)
			default:
			}
			disk.full.Store(false)
			if err := <-inFlight; err != nil {
				t.Fatalf("the append in flight, when there was space again: %v", err)
			}
			want += 2
			if stats := s.Stats(); stats.Full || stats.Refusing {
				t.Fatalf("cycle %d: there is space and the stats say %+v", cycle, stats)
			}
		}
		entries, err := persisttest.ReadAll(t.Context(), f.reopen().Journal, 0, 0)
		if err != nil || int64(len(entries)) != want {
			t.Fatalf("%d entries are left, error %v, want %d", len(entries), err, want)
		}
		for i, entry := range entries {
			if string(entry.Data) != fmt.Sprint(i) {
				t.Fatalf("entry %d is %q", i, entry.Data)
			}
		}
	})
}

// TestTableThatDoesNotFit: appends go on, no part of the table stays on the
// disk, and it is written once there is space.
func TestTableThatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := vfs.NewMem()
		disk := newFillable(memory)
		f := newFolder(t, embedded.Options{Dir: "/data", FS: disk, Logger: slog.New(slog.DiscardHandler)})
		disk.fullForTables.Store(true)
		const records = 300
		for i := range records { // more than the first write buffers hold
			if err := <-appendAsync(f.open.Journal, strings.Repeat("x", 100_000)); err != nil {
				t.Fatalf("append %d: %v", i, err)
			}
		}
		tables := func() (tables int) {
			names, err := memory.List("/data/journal")
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if strings.HasSuffix(name, ".sst") {
					tables++
				}
			}
			return tables
		}
		<-time.After(time.Hour)
		if got := tables(); got != 0 {
			t.Errorf("%d tables are on a disk that is full for them", got)
		}
		disk.fullForTables.Store(false)
		<-time.After(time.Minute)
		if got := tables(); got == 0 {
			t.Error("no table was written when there was space again")
		}
		if entries, err := persisttest.ReadAll(t.Context(), f.reopen().Journal, 0, 0); err != nil || len(entries) != records {
			t.Errorf("%d entries are left, error %v, want %d", len(entries), err, records)
		}
	})
}

// TestReserve: below the reserve appends are refused and everything else goes
// on, so that space is freed.
func TestReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		space := func(free uint64) {
			disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 30, UsedBytes: 1<<30 - free})
			<-time.After(time.Second) // the watch looks four times a second
		}
		space(1 << 29)
		s := newFolder(t, embedded.Options{Dir: "/data", FS: disk, ReserveBytes: 10 << 20}).open
		for _, step := range []struct {
			free uint64
			want error
		}{{1 << 29, nil}, {10 << 20, nil}, {10<<20 - 1, persistence.ErrFull}, {0, persistence.ErrFull}, {11 << 20, nil}} {
			space(step.free)
			if err := <-appendAsync(s.Journal, "x"); !errors.Is(err, step.want) {
				t.Errorf("an append with %d bytes free: %v, want %v", step.free, err, step.want)
			}
			if err := s.Store.Write(t.Context(), 0, persistence.Batch{}); err != nil {
				t.Errorf("a write with %d bytes free: %v", step.free, err)
			}
			if stats := s.Stats(); stats.FreeBytes != step.free || stats.Refusing != (step.want != nil) || stats.Full {
				t.Errorf("with %d bytes free the stats say %+v", step.free, stats)
			}
		}
	})
}

// TestReserveOfSmallDisk: the reserve is at most 5 % of the disk.
func TestReserveOfSmallDisk(t *testing.T) {
	disk := vfs.NewMem()
	disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 6 << 20, TotalBytes: 100 << 20, UsedBytes: 94 << 20})
	s := newFolder(t, embedded.Options{Dir: "/data", FS: disk}).open
	if err := <-appendAsync(s.Journal, "x"); err != nil {
		t.Errorf("an append with 6 of 100 MiB free: %v", err)
	}
}

// TestCloseOnFullDisk: closing does not wait for space. What was in flight may
// have happened.
func TestCloseOnFullDisk(t *testing.T) {
	disk := newFillable(vfs.NewMem())
	s, err := embedded.Open(embedded.Options{Dir: "/data", FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	disk.full.Store(true)
	inFlight := appendAsync(s.Journal, "x")
	if err := s.Close(); !errors.Is(err, persistence.ErrFull) {
		t.Errorf("closing on a full disk: %v, want ErrFull", err)
	}
	if err := <-inFlight; !errors.Is(err, persistence.ErrUnknownOutcome) {
		t.Errorf("the append in flight: %v, want ErrUnknownOutcome", err)
	}
	if err := <-appendAsync(s.Journal, "y"); !errors.Is(err, persistence.ErrFull) && !errors.Is(err, persistence.ErrClosed) {
		t.Errorf("an append after close: %v", err)
	}
}

// TestFullTmpfs fills a real file system.
func TestFullTmpfs(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("no file system of its own can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	// A reserve of one byte leaves it to the file system to say that it is full.
	for name, reserve := range map[string]uint64{"refused by the reserve": 0, "refused by the disk": 1} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t, embedded.Options{Dir: dir + "/" + strings.ReplaceAll(name, " ", "-"), ReserveBytes: reserve})
			var want []string
			waiting := fillUp(t, f.open, dir+"/ballast", &want)
			if err := os.Remove(dir + "/ballast"); err != nil {
				t.Fatal(err)
			}
			for _, outcome := range waiting {
				if err := <-outcome; err != nil {
					t.Fatalf("an append in flight, when there was space again: %v", err)
				}
			}
			for { // until the watch has seen the space
				record := fmt.Sprint("after ", len(want))
				err := <-appendAsync(f.open.Journal, record)
				if err == nil {
					want = append(want, record)
					break
				}
				if !errors.Is(err, persistence.ErrFull) {
					t.Fatal(err)
				}
			}
			entries, err := persisttest.ReadAll(t.Context(), f.reopen().Journal, 0, 0)
			if err != nil || len(entries) != len(want) {
				t.Fatalf("%d entries are left, error %v, want %d", len(entries), err, len(want))
			}
			for i, entry := range entries {
				if string(entry.Data) != want[i] {
					t.Fatalf("entry %d is %.40q, want %.40q", i, entry.Data, want[i])
				}
			}
			if err := f.open.Close(); err != nil {
				t.Fatal(err)
			}
			_ = os.RemoveAll(f.options.Dir)
		})
	}
}

// fillUp takes the space that a file system has left and appends until an
// append is refused. It returns the appends that wait for space.
func fillUp(t *testing.T, s *embedded.Storage, ballast string, want *[]string) (waiting []chan error) {
	t.Helper()
	for i := range 20 {
		record := fmt.Sprintf("%d %s", i, strings.Repeat("x", 10_000))
		if err := <-appendAsync(s.Journal, record); err != nil {
			t.Fatal(err)
		}
		*want = append(*want, record)
	}
	file, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		record := fmt.Sprintf("full %d %s", i, strings.Repeat("y", 10_000))
		outcome := appendAsync(s.Journal, record)
		for answered := false; !answered; {
			select {
			case err := <-outcome:
				if errors.Is(err, persistence.ErrFull) {
					return waiting
				}
				if err != nil {
					t.Fatal(err)
				}
				answered = true
			default:
				if s.Stats().Full { // it waits
					waiting = append(waiting, outcome)
					answered = true
				}
			}
		}
		*want = append(*want, record)
	}
}
