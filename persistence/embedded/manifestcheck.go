package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tegami-im/tegami/persistence"
)

// checkManifest refuses a manifest, Pebble's list of files, with damage in it.
// Pebble itself takes a record that does not read for the end, goes on with the
// older list, and deletes the files that are not in it. Each record is synced
// before the next is written, so one that reads behind one that does not is
// proof of damage. The last record is damaged, and not torn, when all of it
// was written.
func checkManifest(fs vfs.FS, dir string) error {
	database, err := pebble.Peek(dir, fs)
	if err != nil || !database.Exists {
		return err
	}
	name := database.ManifestFilename
	file, err := fs.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := record.NewReader(file, 0)
	for {
		end := reader.Offset()
		r, err := reader.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case record.IsInvalidRecord(err):
			tail, err := readFrom(fs, name, end)
			if err != nil {
				return err
			}
			if !tornManifestRecord(tail, end) || hasManifestRecord(tail, end) {
				return fmt.Errorf("%s, offset %d: %w: restore it from a backup", name, end, persistence.ErrDamaged)
			}
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
}

const (
	manifestHeaderSize               = 4 + 2 + 1 // checksum, length, kind
	manifestFullChunk, manifestFirst = 1, 2
	// sectorSize is what a disk writes all or none of.
	sectorSize = 512
)

// tornManifestRecord reports whether a part of the record at the start of tail
// was never written: it goes on behind the end of the file, or one of its
// sectors is empty.
func tornManifestRecord(tail []byte, offset int64) bool {
	if len(tail) < manifestHeaderSize {
		return true
	}
	size := manifestHeaderSize + int(binary.LittleEndian.Uint16(tail[4:]))
	if size > len(tail) {
		return true
	}
	for start := 0; start < size; {
		end := min(size, start+sectorSize-int((offset+int64(start))%sectorSize))
		if len(bytes.TrimLeft(tail[start:end], "\x00")) == 0 {
			return true
		}
		start = end
	}
	return false
}

// hasManifestRecord reports whether a record begins behind the start of tail.
func hasManifestRecord(tail []byte, offset int64) bool {
	for i := 1; i+manifestHeaderSize < len(tail); i++ {
		header := tail[i:]
		length := int(binary.LittleEndian.Uint16(header[4:]))
		end := manifestHeaderSize + length
		blockLeft := blockSize - int((offset+int64(i))%blockSize)
		if header[6] != manifestFullChunk && header[6] != manifestFirst || length == 0 || end > blockLeft || end > len(header) {
			continue
		}
		if binary.LittleEndian.Uint32(header) == checksumOf(header[6:end]) {
			return true
		}
	}
	return false
}
