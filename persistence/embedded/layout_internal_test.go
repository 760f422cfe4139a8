package embedded

import (
	"bytes"
	"errors"
	"math"
	"os"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/persistence"
)

func positions() *rapid.Generator[persistence.Position] {
	return rapid.Custom(func(t *rapid.T) persistence.Position {
		return persistence.Position{
			Generation: rapid.Uint32().Draw(t, "generation"),
			Offset:     rapid.Int64Range(0, math.MaxInt64).Draw(t, "offset"),
		}
	})
}

// TestRowsSurviveEncoding: every row decodes to what was encoded.
func TestRowsSurviveEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := stateRow{
			position: positions().Draw(t, "position"),
			first:    rapid.Int64Range(0, math.MaxInt64).Draw(t, "first"),
			day:      rapid.Int64Range(0, math.MaxInt64).Draw(t, "day"),
			state:    rapid.SliceOf(rapid.Byte()).Draw(t, "state"),
		}
		gotState, err := decodeStateRow(state.encode())
		same(t, state, gotState, err, cmp.AllowUnexported(stateRow{}))

		marks := persistence.Marks{Checkpoint: positions().Draw(t, "checkpoint"), Highest: positions().Draw(t, "highest")}
		gotMarks, err := decodeMarks(encodeMarks(marks))
		same(t, marks, gotMarks, err)

		entry := persistence.DedupEntry{
			Time:     rapid.Int64().Draw(t, "time"),
			Revision: rapid.Int64().Draw(t, "revision"),
			Reason:   rapid.Uint8().Draw(t, "reason"),
			Position: positions().Draw(t, "entry position"),
		}
		copy(entry.Key[:], rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "key"))
		copy(entry.BodyHash[:], rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "hash"))
		copy(entry.MessageID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		gotEntry, err := decodeDedup(entry.Key[:], encodeDedup(&entry))
		same(t, entry, gotEntry, err)

		row := persistence.Row{Peer: rapid.String().Draw(t, "peer"), Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data")}
		peer, data, err := decodeOperation(appendOperation(nil, &row))
		same(t, row, persistence.Row{Peer: string(peer), Data: data}, err)

		note := syncNote{synced: rapid.Uint64().Draw(t, "synced"), deferred: rapid.Bool().Draw(t, "deferred")}
		batch := append(make([]byte, 12), noteKind, byte(noteSize))
		gotNote, ok := decodeNote(append(batch, note.encode()...))
		if !ok || gotNote != note {
			t.Fatalf("note %+v decodes to %+v, %v", note, gotNote, ok)
		}
	})
}

func same[T any](t *rapid.T, want, got T, err error, options ...cmp.Option) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, append(options, cmpopts.EquateEmpty())...); diff != "" {
		t.Fatalf("decoded (-want +got):\n%s", diff)
	}
}

// TestKeysKeepApart: of two names none begins with the key of the other, and
// revisions lie in their order.
func TestKeysKeepApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 'a', 0xff}), 0, 6), 2, 2, func(b []byte) string { return string(b) }).Draw(t, "names")
		one, other := operationPrefix(7, string(names[0])), operationPrefix(7, string(names[1]))
		if bytes.HasPrefix(one, other) || bytes.HasPrefix(other, one) {
			t.Fatalf("%x and %x", one, other)
		}
		low, high := rapid.Int64Range(0, math.MaxInt64-1).Draw(t, "low"), rapid.Int64Range(0, math.MaxInt64).Draw(t, "high")
		if (low < high) != (bytes.Compare(withRevision(one, low), withRevision(one, high)) < 0) {
			t.Fatalf("revisions %d and %d lie in another order", low, high)
		}
	})
}

// FuzzRows: bytes that are no row are an error, never a panic.
func FuzzRows(f *testing.F) {
	f.Add([]byte{})
	f.Add(stateRow{position: persistence.Position{Generation: 1, Offset: 2}, state: []byte("x")}.encode())
	f.Add(encodeDedup(&persistence.DedupEntry{}))
	f.Add(appendOperation(nil, &persistence.Row{Peer: "bob", Data: []byte("x")}))
	f.Fuzz(func(t *testing.T, row []byte) {
		_, stateErr := decodeStateRow(row)
		_, marksErr := decodeMarks(row)
		_, dedupErr := decodeDedup(row, row)
		_, _, operationErr := decodeOperation(row)
		_, _, _, entryErr := decodeEntry(row)
		for _, err := range []error{stateErr, marksErr, dedupErr, operationErr, entryErr} {
			if err != nil && !errors.Is(err, persistence.ErrDamaged) {
				t.Fatal(err)
			}
		}
		_, _ = decodeNote(row)
	})
}

// FuzzLogTail: whatever lies behind the end of a log is searched without a
// panic.
func FuzzLogTail(f *testing.F) {
	f.Add([]byte{}, int64(0))
	f.Add(bytes.Repeat([]byte{5}, 100), int64(blockSize-20))
	f.Fuzz(func(t *testing.T, tail []byte, end int64) {
		scan := logScan{number: 0x05050505, end: end & 0xffffff}
		_ = searchTail(tail, scan)
		tornManifestRecord(tail, scan.end)
		hasManifestRecord(tail, scan.end)
	})
}

// shortWriter is a file on a disk that is full after every few bytes.
type shortWriter struct {
	vfs.File
	content bytes.Buffer
	full    bool
}

func (w *shortWriter) Write(p []byte) (int, error) {
	w.full = !w.full
	if w.full {
		n, _ := w.content.Write(p[:min(3, len(p))])
		return n, &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	}
	n, _ := w.content.Write(p[:min(2, len(p))])
	if n < len(p) {
		return n, &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	}
	return n, nil
}

// TestWriteGoesOnWhereTheDiskWasFull: what was written before is not written
// again.
func TestWriteGoesOnWhereTheDiskWasFull(t *testing.T) {
	options := Options{Dir: "/data"}.withDefaults()
	disk := &shortWriter{}
	file := &databaseFile{File: disk, fs: &databaseFS{FS: vfs.NewMem(), volume: newVolume(vfs.NewMem(), &options)}, name: "/data/x"}
	const text = "what was written"
	if n, err := file.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("wrote %d, error %v", n, err)
	}
	if disk.content.String() != text {
		t.Fatalf("the file holds %q", disk.content.String())
	}
}
