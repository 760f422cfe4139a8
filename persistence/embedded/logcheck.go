package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math"

	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"

	"github.com/tegami-im/tegami/persistence"
)

// A log whose process was killed ends anyhow: in zeros, in what a recycled file
// held before, or in the first half of a record. So a record that does not read
// is either the torn end of the log, which was never acknowledged and is cut,
// or damage, behind which acknowledged records would be lost.
//
// Pebble tells them apart by offsets in the records behind, but those count
// only part of what was synced, are not looked at within the same 32 KiB, and
// are wrong when the fsyncs of the log are deferred. So every batch of ours
// begins with a note: the sequence number below which all was synced when it
// was made. A record that does not read, whose sequence number a later note
// covers, is damage, and Open stops. Otherwise the log is cut there, with
// zeros, so that Pebble finds its end at the same place.
//
// What cannot be told is damage to the very last record of a process that was
// killed: nothing behind it speaks of it.

// syncNote is what a batch says about the log before it.
type syncNote struct {
	synced uint64
	// deferred: fsyncs of this log are deferred, and Pebble's offsets mean
	// nothing.
	deferred bool
}

const (
	noteMagic = "TGMI"
	noteSize  = len(noteMagic) + 1 + 8
	// noteKind is the kind of LogData entries in a batch.
	noteKind = 3
)

func (n syncNote) encode() []byte {
	b := append(make([]byte, 0, noteSize), noteMagic...)
	if n.deferred {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, n.synced)
}

// decodeNote reads the note at the start of a batch, if there is one.
func decodeNote(batch []byte) (note syncNote, ok bool) {
	if len(batch) < batchrepr.HeaderLen+2+noteSize {
		return note, false
	}
	entry := batch[batchrepr.HeaderLen:]
	if entry[0] != noteKind || int(entry[1]) != noteSize || string(entry[2:2+len(noteMagic)]) != noteMagic {
		return note, false
	}
	entry = entry[2+len(noteMagic):]
	return syncNote{deferred: entry[0] == 1, synced: binary.BigEndian.Uint64(entry[1:])}, true
}

// checkLogs looks at the last log of a database that is about to be opened, and
// at its manifest, which Pebble would both cut at the first bit that is wrong.
func checkLogs(fs vfs.FS, dir string, logger *slog.Logger) error {
	there, err := exists(fs, dir)
	if err != nil || !there {
		return err
	}
	if err := checkManifest(fs, dir); err != nil {
		return err
	}
	logs, err := wal.Scan(wal.Dir{FS: fs, Dirname: dir})
	if err != nil || len(logs) == 0 {
		return err
	}
	scan, err := scanLog(logs[len(logs)-1])
	if err != nil {
		return err
	}
	if scan.clean {
		return nil
	}
	tail, err := readFrom(fs, scan.file, scan.end)
	if err != nil {
		return err
	}
	found := searchTail(tail, scan)
	if found.damage(scan) {
		return damaged(scan.file, scan.end)
	}
	return cutTail(fs, scan, tail, found, logger)
}

// locateDamage names the log that Pebble refused. Every log but the last was
// closed, and ends as such.
func locateDamage(fs vfs.FS, dir string, refused error) error {
	logs, err := wal.Scan(wal.Dir{FS: fs, Dirname: dir})
	if err != nil {
		return refused
	}
	for _, log := range logs {
		if scan, err := scanLog(log); err == nil && !scan.clean {
			return damaged(scan.file, scan.end)
		}
	}
	return refused
}

func damaged(file string, offset int64) error {
	return fmt.Errorf("%s, offset %d, behind which more was synced: %w: restore it from a backup", file, offset, persistence.ErrDamaged)
}

// logScan is how far a log reads.
type logScan struct {
	number uint32
	file   string
	// end is the offset of the first record that does not read.
	end int64
	// clean: the log ends as a closed log does.
	clean bool
	// next is the sequence number that the record at end must have, 0 when no
	// record comes before it.
	next uint64
	// definite: Pebble knows of a later record that promises this one.
	definite bool
	deferred bool
}

func scanLog(log wal.LogicalLog) (logScan, error) {
	scan := logScan{number: uint32(log.Num)}
	reader := log.OpenForRead()
	defer func() { _ = reader.Close() }()
	for {
		r, offset, err := reader.NextRecord()
		scan.file, scan.end = offset.PhysicalFile, offset.Physical
		var batch []byte
		if err == nil {
			batch, err = io.ReadAll(r)
		}
		switch {
		case errors.Is(err, io.EOF):
			scan.clean = true
			return scan, nil
		case errors.Is(err, record.ErrUnexpectedEOF):
			return scan, nil
		case errors.Is(err, record.ErrInvalidChunk), errors.Is(err, record.ErrZeroedChunk):
			scan.definite = true
			return scan, nil
		case err != nil:
			return scan, fmt.Errorf("read %s: %w", scan.file, err)
		}
		header, ok := batchrepr.ReadHeader(batch)
		if !ok {
			return scan, damaged(scan.file, scan.end)
		}
		scan.next = uint64(header.SeqNum) + uint64(header.Count)
		if note, ok := decodeNote(batch); ok {
			scan.deferred = note.deferred
		}
	}
}

func readFrom(fs vfs.FS, name string, offset int64) ([]byte, error) {
	file, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	tail := make([]byte, max(0, info.Size()-offset))
	if _, err := file.ReadAt(tail, offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return tail, nil
}

// Chunks are what Pebble's logs consist of. A record is one chunk, or several
// where it crosses the end of a block. There are two formats: the first log of
// a new database is of the older one, without synced offsets.
const (
	blockSize       = 32 << 10
	chunkHeaderSize = 4 + 2 + 1 + 4 // checksum, length, kind, log number
	syncedSize      = 8

	fullChunk, firstChunk, lastChunk                   = 5, 6, 8
	syncedFullChunk, syncedFirstChunk, syncedLastChunk = 9, 10, 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksumOf(chunk []byte) uint32 {
	c := crc32.Checksum(chunk, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// tailFindings is what lies behind the end of a log.
type tailFindings struct {
	chunks int // that read, and are this log's
	// first is the sequence number of the first record that begins there.
	first uint64
	// synced is the highest that a note there speaks of.
	synced   uint64
	deferred bool
}

// damage reports whether the record at the end of the scan was synced once.
func (f tailFindings) damage(scan logScan) bool {
	missing := scan.next
	if missing == 0 {
		missing = f.first
	}
	if f.synced > missing {
		return true
	}
	return scan.definite && !scan.deferred && !f.deferred
}

// searchTail looks at every offset behind the end of a log, since the length
// of a damaged record cannot be trusted.
func searchTail(tail []byte, scan logScan) tailFindings {
	found := tailFindings{first: math.MaxUint64}
	for i := 0; i < len(tail); i++ {
		blockLeft := blockSize - int((scan.end+int64(i))%blockSize)
		data, begins, size := readChunk(tail[i:min(i+blockLeft, len(tail))], scan.number)
		if size == 0 {
			continue
		}
		found.chunks++
		if begins {
			if note, ok := decodeNote(data); ok {
				found.first = min(found.first, uint64(batchrepr.ReadSeqNum(data)))
				found.synced = max(found.synced, note.synced)
				found.deferred = found.deferred || note.deferred
			}
		}
		i += size - 1
	}
	return found
}

// readChunk reads a chunk of a log at the start of b, which ends with the
// block. It returns the chunk's data, whether a record begins in it, and its
// size; 0 where there is none.
func readChunk(b []byte, number uint32) (data []byte, begins bool, size int) {
	if len(b) < chunkHeaderSize || binary.LittleEndian.Uint32(b[7:]) != number {
		return nil, false, 0
	}
	header := chunkHeaderSize
	switch kind := b[6]; {
	case kind >= fullChunk && kind <= lastChunk:
		begins = kind == fullChunk || kind == firstChunk
	case kind >= syncedFullChunk && kind <= syncedLastChunk:
		begins = kind == syncedFullChunk || kind == syncedFirstChunk
		header += syncedSize
	default:
		return nil, false, 0
	}
	size = header + int(binary.LittleEndian.Uint16(b[4:]))
	if size > len(b) || binary.LittleEndian.Uint32(b) != checksumOf(b[6:size]) {
		return nil, false, 0
	}
	return b[header:size], begins, size
}

// cutTail ends a log where it stopped reading.
func cutTail(fs vfs.FS, scan logScan, tail []byte, found tailFindings, logger *slog.Logger) error {
	torn := len(tail) >= chunkHeaderSize && binary.LittleEndian.Uint32(tail[7:]) == scan.number
	if torn || found.chunks > 0 {
		logger.Warn("log ends in a torn record, which was never acknowledged; it is cut there",
			slog.String("file", scan.file), slog.Int64("offset", scan.end))
	}
	return eraseTail(fs, scan, tail)
}

// eraseTail writes zeros over what lies behind the end of a log.
func eraseTail(fs vfs.FS, scan logScan, tail []byte) error {
	used := len(bytes.TrimRight(tail, "\x00"))
	if used == 0 {
		return nil
	}
	file, err := fs.OpenReadWrite(scan.file, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("cut %s: %w", scan.file, err)
	}
	_, err = file.WriteAt(make([]byte, used), scan.end)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("cut %s: %w", scan.file, err)
	}
	return nil
}
