package redis

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// Fields of a copy's hash. Those of sources are sourceField and the source's
// name, those of parts partField and the part's key; n and d, the lengths of the dedup stream in blocks and in entries, are
// the scripts' own.
const (
	positionField = "p"
	stateField    = "s"
	sourceField   = "o"
	partField     = "k"
)

const (
	timeDigits     = 19
	positionDigits = 10 + timeDigits
	// dedupSize is also written in write.lua.
	dedupSize = persistence.DedupKeySize + persistence.BodyHashSize + persistence.MessageIDSize + 8 + 8 + 1 + 4 + 8
)

// appendDigits appends a number that is not negative, with leading zeros.
func appendDigits(to []byte, number int64, width int) []byte {
	var digits [20]byte
	decimal := strconv.AppendInt(digits[:0], max(0, number), 10)
	for range width - len(decimal) {
		to = append(to, '0')
	}
	return append(to, decimal...)
}

// timeString makes a time in milliseconds comparable as a string.
func timeString(time int64) string { return string(appendDigits(nil, time, timeDigits)) }

// positionString makes a position comparable as a string.
func positionString(p persistence.Position) string {
	digits := make([]byte, 0, positionDigits)
	digits = appendDigits(digits, int64(p.Generation), positionDigits-timeDigits)
	return string(appendDigits(digits, p.Offset, timeDigits))
}

func parsePosition(s string) (persistence.Position, error) {
	if len(s) != positionDigits {
		return persistence.Position{}, fmt.Errorf("position %q: %w", s, persistence.ErrDamaged)
	}
	generation, err := strconv.ParseUint(s[:positionDigits-timeDigits], 10, 32)
	if err != nil {
		return persistence.Position{}, fmt.Errorf("position %q: %w", s, persistence.ErrDamaged)
	}
	offset, err := strconv.ParseInt(s[positionDigits-timeDigits:], 10, 64)
	if err != nil {
		return persistence.Position{}, fmt.Errorf("position %q: %w", s, persistence.ErrDamaged)
	}
	return persistence.Position{Generation: uint32(generation), Offset: offset}, nil
}

// blockID is the stream id of a block of dedup entries, by the position of the
// last. It is never 0-0, which Redis does not take.
func blockID(p persistence.Position) string {
	return strconv.FormatUint(uint64(p.Generation), 10) + "-" + strconv.FormatUint(uint64(max(0, p.Offset))+1, 10)
}

func appendDedup(to []byte, entry *persistence.DedupEntry) []byte {
	to = append(to, entry.Key[:]...)
	to = append(to, entry.BodyHash[:]...)
	to = append(to, entry.MessageID[:]...)
	to = binary.BigEndian.AppendUint64(to, uint64(entry.Time))
	to = binary.BigEndian.AppendUint64(to, uint64(entry.Revision))
	to = append(to, entry.Reason)
	to = binary.BigEndian.AppendUint32(to, entry.Position.Generation)
	return binary.BigEndian.AppendUint64(to, uint64(entry.Position.Offset))
}

// parseDedup reads an entry of dedupSize bytes.
func parseDedup(from string) (entry persistence.DedupEntry) {
	data := []byte(from)
	next := func(n int) (part []byte) {
		part, data = data[:n], data[n:]
		return part
	}
	copy(entry.Key[:], next(len(entry.Key)))
	copy(entry.BodyHash[:], next(len(entry.BodyHash)))
	copy(entry.MessageID[:], next(len(entry.MessageID)))
	entry.Time = int64(binary.BigEndian.Uint64(next(8)))
	entry.Revision = int64(binary.BigEndian.Uint64(next(8)))
	entry.Reason = next(1)[0]
	entry.Position.Generation = binary.BigEndian.Uint32(next(4))
	entry.Position.Offset = int64(binary.BigEndian.Uint64(next(8)))
	return entry
}

// dedupUpTo returns the entries at or below a position, in the order of
// positions. One above it would be there before the state that it belongs to.
func dedupUpTo(entries []persistence.DedupEntry, position persistence.Position) []persistence.DedupEntry {
	sorted := make([]persistence.DedupEntry, 0, len(entries))
	for _, entry := range entries {
		if !position.Less(entry.Position) {
			sorted = append(sorted, entry)
		}
	}
	slices.SortStableFunc(sorted, func(a, b persistence.DedupEntry) int {
		return cmp.Or(cmp.Compare(a.Position.Generation, b.Position.Generation), cmp.Compare(a.Position.Offset, b.Position.Offset))
	})
	return sorted
}

const day = int64(24 * time.Hour / time.Millisecond)

// windowStart is the time below which entries need not be kept, by the newest
// of some: that of a load, the 24 to 48 hours before the newest.
func windowStart(newest int64) int64 { return (newest/day - 1) * day }

func newestTime(entries []persistence.DedupEntry) int64 {
	var newest int64
	for i := range entries {
		newest = max(newest, entries[i].Time)
	}
	return newest
}

// parseBlocks reads the dedup entries of a copy at a position, without those
// that are too old for a load.
func parseBlocks(blocks []string, position persistence.Position) ([]persistence.DedupEntry, error) {
	var entries []persistence.DedupEntry
	for _, block := range blocks {
		if len(block) < timeDigits || (len(block)-timeDigits)%dedupSize != 0 {
			return nil, fmt.Errorf("a block of dedup entries has %d bytes: %w", len(block), persistence.ErrDamaged)
		}
		for block = block[timeDigits:]; block != ""; block = block[dedupSize:] {
			entries = append(entries, parseDedup(block[:dedupSize]))
		}
	}
	start := windowStart(newestTime(entries))
	return slices.DeleteFunc(entries, func(entry persistence.DedupEntry) bool {
		return entry.Time < start || position.Less(entry.Position)
	}), nil
}

// parseCopy reads a copy.
func parseCopy(fields, blocks []string) (*persistence.Mailbox, error) {
	m := &persistence.Mailbox{DedupComplete: true}
	for i := 0; i+1 < len(fields); i += 2 {
		field, value := fields[i], fields[i+1]
		var err error
		switch {
		case field == positionField:
			m.Position, err = parsePosition(value)
		case field == stateField:
			m.State = []byte(value)
		case field != "" && field[:1] == sourceField:
			source := persistence.Source{Mailbox: field[1:]}
			source.Position, err = parsePosition(value)
			m.Sources = append(m.Sources, source)
		case field != "" && field[:1] == partField:
			m.Parts = append(m.Parts, persistence.Part{Key: field[1:], Data: []byte(value)})
		}
		if err != nil {
			return nil, err
		}
	}
	if m.Position.IsZero() || m.State == nil {
		return nil, fmt.Errorf("a copy without a position or a state: %w", persistence.ErrDamaged)
	}
	var err error
	m.Dedup, err = parseBlocks(blocks, m.Position)
	return m, err
}

func rowContent(row *persistence.Row) []byte {
	content := make([]byte, 0, binary.MaxVarintLen32+len(row.Peer)+len(row.Data))
	content = binary.AppendUvarint(content, uint64(len(row.Peer)))
	content = append(content, row.Peer...)
	return append(content, row.Data...)
}

// rowID is also the syntax of the ends of a range.
func rowID(revision int64) string { return strconv.FormatInt(revision, 10) + "-0" }

func parseRow(id, content string) (persistence.Row, error) {
	if len(id) < 3 || id[len(id)-2:] != "-0" {
		return persistence.Row{}, fmt.Errorf("row id %q: %w", id, persistence.ErrDamaged)
	}
	revision, err := strconv.ParseInt(id[:len(id)-2], 10, 64)
	if err != nil {
		return persistence.Row{}, fmt.Errorf("row id %q: %w", id, persistence.ErrDamaged)
	}
	data := []byte(content)
	length, n := binary.Uvarint(data)
	if n <= 0 || length > uint64(len(data)-n) {
		return persistence.Row{}, fmt.Errorf("row %d has a peer of %d bytes in %d: %w", revision, length, len(data), persistence.ErrDamaged)
	}
	data = data[n:]
	return persistence.Row{Revision: revision, Peer: string(data[:length]), Data: data[length:]}, nil
}
