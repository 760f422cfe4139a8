package writebehind

import (
	"testing"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// A step whose answer was lost may be stored for good, so that the journal lets
// go of it: there is nothing left to read again.
func TestCatchUpEndsWhereTheJournalLetGo(t *testing.T) {
	journal := memory.NewJournal(persistence.DurabilityFsync)
	appended := make(chan persistence.Position, 1)
	journal.Append(0, [][]byte{{1}, {2}, {3}}, func(landed persistence.Appended, err error) {
		if err != nil {
			t.Error(err)
		}
		appended <- persistence.Position{Generation: landed.First.Generation, Offset: landed.First.Offset + 2}
	})
	limit := <-appended
	if err := journal.Truncate(t.Context(), 0, limit.Offset+1); err != nil {
		t.Fatal(err)
	}
	lane := &storeLane{writer: &writer{Options: Options{Journal: journal, Store: memory.NewStore()}}}
	c := lane.newCatchUp(persistence.Position{})
	batch, records, err := c.step(t.Context(), limit)
	if err != nil || batch.Checkpoint != limit || records != 0 || c.stored != limit {
		t.Errorf("%+v with %d records, %v; stored up to %v, want %v", batch, records, err, c.stored, limit)
	}
}
