package redis

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/persistence"
)

func drawPosition(t *rapid.T, name string) persistence.Position {
	return persistence.Position{
		Generation: rapid.Uint32().Draw(t, name+" generation"),
		Offset:     rapid.Int64Range(0, math.MaxInt64).Draw(t, name+" offset"),
	}
}

func TestPositionsCompareAsStrings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, q := drawPosition(t, "p"), drawPosition(t, "q")
		if p.Less(q) != (positionString(p) < positionString(q)) {
			t.Fatalf("%v and %v compare otherwise than %q and %q", p, q, positionString(p), positionString(q))
		}
		if parsed, err := parsePosition(positionString(p)); err != nil || parsed != p {
			t.Fatalf("%v reads %v, %v", p, parsed, err)
		}
	})
}

func TestDedupReadsAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entry := persistence.DedupEntry{
			Time: rapid.Int64().Draw(t, "time"), Revision: rapid.Int64().Draw(t, "revision"),
			Reason: rapid.Byte().Draw(t, "reason"), Position: drawPosition(t, "position"),
		}
		copy(entry.Key[:], rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "key"))
		copy(entry.BodyHash[:], rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "hash"))
		copy(entry.MessageID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		data := appendDedup(nil, &entry)
		if len(data) != dedupSize || dedupSize != 61 { // 61 is in write.lua
			t.Fatalf("an entry has %d bytes", len(data))
		}
		if parsed := parseDedup(string(data)); parsed != entry {
			t.Fatalf("%+v reads %+v", entry, parsed)
		}
	})
}

func TestRowsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := persistence.Row{
			Revision: rapid.Int64Range(1, math.MaxInt64).Draw(t, "revision"),
			Peer:     rapid.StringN(0, 200, -1).Draw(t, "peer"),
			Data:     rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
		}
		parsed, err := parseRow(rowID(row.Revision), string(rowContent(&row)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(row, parsed); diff != "" {
			t.Fatalf("row (-want +got):\n%s", diff)
		}
	})
}

// FuzzParse: whatever is stored, reading it says so and does not panic.
func FuzzParse(f *testing.F) {
	f.Add("1-0", "\x01bdata")
	f.Add(positionField, positionString(persistence.Position{Generation: 1, Offset: 2}))
	f.Add(sourceField+"b", "x")
	f.Fuzz(func(t *testing.T, name, value string) {
		if _, err := parseRow(name, value); err != nil && !errors.Is(err, persistence.ErrDamaged) {
			t.Errorf("a row: %v", err)
		}
		if _, err := parseCopy([]string{name, value}, []string{value, name}); err != nil && !errors.Is(err, persistence.ErrDamaged) {
			t.Errorf("a copy: %v", err)
		}
		if rows, err := parseRows([]any{name, value, value, name}, 0, 10); err == nil && rows[0].Revision != 1 {
			t.Errorf("rows that begin with %d", rows[0].Revision)
		}
	})
}
