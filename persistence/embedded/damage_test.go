package embedded_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// fillDisk returns a disk as a kill leaves it, after records of these sizes were
// acknowledged one by one. Damage is done to copies of it.
func fillDisk(t *testing.T, durability persistence.Durability, sizes []int) *vfs.MemFS {
	t.Helper()
	f := newFolder(t, onCrashableDisk(durability))
	for i, size := range sizes {
		record := bytes.Repeat([]byte{byte(i)}, size)
		mustAppend(t, f.open.Journal, record)
	}
	return copyDisk(f.options.FS.(*vfs.MemFS))
}

func mustAppend(t *testing.T, j persistence.Journal, record []byte) {
	t.Helper()
	if _, err := persisttest.Append(t.Context(), j, 0, string(record)); err != nil {
		t.Fatal(err)
	}
}

// copyDisk copies all that was written, synced or not: what a kill leaves.
func copyDisk(disk *vfs.MemFS) *vfs.MemFS {
	return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// files returns the files of a database that match a pattern, oldest first.
func files(t *testing.T, fs vfs.FS, database, pattern string) (matching []string) {
	t.Helper()
	names, err := fs.List("/data/" + database)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		if ok, _ := path.Match(pattern, name); ok {
			matching = append(matching, "/data/"+database+"/"+name)
		}
	}
	if len(matching) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, database, names)
	}
	return matching
}

func newest(t *testing.T, fs vfs.FS, database, pattern string) string {
	t.Helper()
	matching := files(t, fs, database, pattern)
	return matching[len(matching)-1]
}

func readFile(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	file, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	content, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writeAt(t *testing.T, fs vfs.FS, name string, content []byte, offset int) {
	t.Helper()
	file, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(content, int64(offset)); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, fs vfs.FS, name string, offset int) {
	t.Helper()
	content := readFile(t, fs, name)
	writeAt(t, fs, name, []byte{content[offset] ^ 0x40}, offset)
}

func openDisk(t *testing.T, fs vfs.FS, durability persistence.Durability, log io.Writer) (*embedded.Storage, error) {
	t.Helper()
	s, err := embedded.Open(embedded.Options{
		Dir: "/data", FS: fs, Durability: durability,
		Logger: logTo(log),
	})
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// TestDamagedLog: a bit that flips anywhere in the journal's log either stops
// the open with an error that names the file, or loses nothing that was
// acknowledged. Only the very last record of a process that was killed can be
// mistaken for a torn one.
func TestDamagedLog(t *testing.T) {
	const flips = 12
	rng := rand.New(rand.NewPCG(3, 4))
	sizes := map[string]func() int{
		"small records":           func() int { return 20 + rng.IntN(200) },
		"records of a few blocks": func() int { return 1000 + rng.IntN(60_000) },
	}
	for name, size := range sizes {
		t.Run(name, func(t *testing.T) {
			var all []int
			for range 40 {
				all = append(all, size())
			}
			disk := fillDisk(t, persistence.DurabilityFsync, all)
			logs := files(t, disk, "journal", "*.log")
			last := logs[len(logs)-1]
			refused := 0
			for range flips {
				log := logs[rng.IntN(len(logs))]
				used := len(bytes.TrimRight(readFile(t, disk, log), "\x00"))
				damaged := copyDisk(disk)
				at := rng.IntN(used)
				flip(t, damaged, log, at)
				s, err := openDisk(t, damaged, persistence.DurabilityFsync, io.Discard)
				if err != nil {
					refused++
					if !errors.Is(err, persistence.ErrDamaged) || !strings.Contains(err.Error(), path.Base(log)) || !strings.Contains(err.Error(), "offset") {
						t.Fatalf("bit at %d of %d: the error names no file and offset: %v", at, used, err)
					}
					continue
				}
				entries, err := persisttest.ReadAll(t.Context(), s.Journal, 0, 0)
				if err != nil {
					t.Fatal(err)
				}
				if lost := len(all) - len(entries); lost > 1 || lost > 0 && log != last {
					t.Fatalf("bit at %d of %d: %d acknowledged records are lost in silence", at, used, lost)
				}
			}
			if refused < flips/4 { // some of the logs are in tables already
				t.Fatalf("only %d of %d damaged logs were refused", refused, flips)
			}
		})
	}
}

// TestTornLog: a record that was not written to its end is cut, with a line in
// the log, and the journal goes on behind what was acknowledged.
func TestTornLog(t *testing.T) {
	for _, durability := range []persistence.Durability{persistence.DurabilityFsync, persistence.DurabilityOS} {
		t.Run(durability.String(), func(t *testing.T) {
			disk := fillDisk(t, durability, []int{100, 200, 300, 70_000})
			file := newest(t, disk, "journal", "*.log")
			used := len(bytes.TrimRight(readFile(t, disk, file), "\x00"))
			for _, missing := range []int{1, 69_000} {
				torn := copyDisk(disk)
				writeAt(t, torn, file, make([]byte, missing), used-missing)
				var log strings.Builder
				s, err := openDisk(t, torn, durability, &log)
				if err != nil {
					t.Fatal(err)
				}
				entries, err := persisttest.ReadAll(t.Context(), s.Journal, 0, 0)
				if err != nil || len(entries) != 3 {
					t.Fatalf("%d bytes of the last record missing: %d entries are left, error %v, want 3", missing, len(entries), err)
				}
				if !strings.Contains(log.String(), "torn record") || !strings.Contains(log.String(), path.Base(file)) {
					t.Fatalf("the cut is not in the log: %q", log.String())
				}
				mustAppend(t, s.Journal, []byte("goes on"))
			}
		})
	}
}

// TestHolesWithDurabilityOS: a power cut may keep a later part of the log and
// lose an earlier one. That is no damage, as nothing of it was promised.
func TestHolesWithDurabilityOS(t *testing.T) {
	f := newFolder(t, onCrashableDisk(persistence.DurabilityOS))
	for round := range 10 {
		for i := range 50 {
			mustAppend(t, f.open.Journal, bytes.Repeat([]byte{byte(i)}, 3000))
		}
		if err := f.open.Journal.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		synced, _ := f.open.Journal.Bounds(t.Context(), 0)
		for i := range 50 {
			mustAppend(t, f.open.Journal, bytes.Repeat([]byte{byte(i)}, 3000))
		}
		after, err := f.crash().Journal.Bounds(t.Context(), 0)
		if err != nil || after.Next < synced.Next {
			t.Fatalf("round %d: the log ends at %d, error %v; %d was synced", round, after.Next, err, synced.Next)
		}
	}
}

// TestDamagedManifest: Pebble itself would go on with an older list of files,
// and delete the newer ones. The length of the last record is all that cannot
// be checked.
func TestDamagedManifest(t *testing.T) {
	killed := fillDisk(t, persistence.DurabilityFsync, []int{100, 200})
	s, err := openDisk(t, killed, persistence.DurabilityFsync, io.Discard) // replays its log, which edits the list
	if err != nil {
		t.Fatal(err)
	}
	disk := copyDisk(killed)
	_ = s.Close()
	manifest := newest(t, disk, "journal", "MANIFEST-*")
	content := readFile(t, disk, manifest)
	unnoticed := 0
	for at := range content {
		damaged := copyDisk(disk)
		flip(t, damaged, manifest, at)
		s, err := openDisk(t, damaged, persistence.DurabilityFsync, io.Discard)
		if err == nil {
			unnoticed++
			_ = s.Close()
			continue
		}
		if !strings.Contains(err.Error(), path.Base(manifest)) {
			t.Fatalf("byte %d: the error names no file: %v", at, err)
		}
	}
	if unnoticed > 2 {
		t.Fatalf("%d of %d damaged bytes were not noticed", unnoticed, len(content))
	}
}

// TestDamagedTable: a bit that flips in a table never changes what is read.
// What cannot be read says which file, and where.
func TestDamagedTable(t *testing.T) {
	sizes := slices.Repeat([]int{3000}, 50)
	killed := fillDisk(t, persistence.DurabilityFsync, sizes)
	s, err := openDisk(t, killed, persistence.DurabilityFsync, io.Discard) // replays its log into a table
	if err != nil {
		t.Fatal(err)
	}
	disk := copyDisk(killed)
	_ = s.Close()
	table := newest(t, disk, "journal", "*.sst")
	content := readFile(t, disk, table)
	rng := rand.New(rand.NewPCG(5, 6))
	const flips = 8
	refused := 0
	for range flips {
		damaged := copyDisk(disk)
		at := rng.IntN(len(content))
		flip(t, damaged, table, at)
		s, err := openDisk(t, damaged, persistence.DurabilityFsync, io.Discard)
		if err == nil {
			var entries []persistence.Entry
			if entries, err = persisttest.ReadAll(t.Context(), s.Journal, 0, 0); err == nil {
				if len(entries) != len(sizes) {
					t.Fatalf("bit at %d of %d: %d of %d records are lost in silence", at, len(content), len(sizes)-len(entries), len(sizes))
				}
				for i, entry := range entries {
					if !bytes.Equal(entry.Data, bytes.Repeat([]byte{byte(i)}, sizes[i])) {
						t.Fatalf("bit at %d of %d: record %d changed", at, len(content), i)
					}
				}
			}
		}
		if err != nil {
			refused++
			if !errors.Is(err, persistence.ErrDamaged) || !strings.Contains(err.Error(), "/data/journal: ") || !strings.Contains(err.Error(), "file 000005: block ") {
				t.Fatalf("bit at %d of %d: the error names no file and offset: %v", at, len(content), err)
			}
		}
	}
	if refused < flips*2/3 {
		t.Fatalf("only %d of %d damaged tables were noticed", refused, flips)
	}
}
