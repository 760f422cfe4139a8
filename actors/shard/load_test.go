package shard

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// overtakenStore has its first Load overtaken by what happens to a mailbox in
// the meantime.
type overtakenStore struct {
	persistence.Store
	meanwhile func()
}

func (s *overtakenStore) Load(ctx context.Context, shard uint32, name string, maxDedup int) (*persistence.Mailbox, error) {
	loaded, err := s.Store.Load(ctx, shard, name, maxDedup)
	if s.meanwhile != nil {
		s.meanwhile()
		s.meanwhile = nil
	}
	return loaded, err
}

// What is stored and truncated while a mailbox loads must not be missing
// between its state and the records that follow.
func TestLoadMissesNothingThatIsTruncatedMeanwhile(t *testing.T) {
	ctx := t.Context()
	journal := memory.NewJournal(persistence.DurabilityFsync)
	store := &overtakenStore{Store: memory.NewStore()}
	const records = 10
	positions := appendTrims(t, journal, records)
	write := func(position persistence.Position) {
		err := errors.Join(
			store.Write(ctx, 0, persistence.Batch{
				Highest: position, Checkpoint: position,
				Mailboxes: []persistence.MailboxWrite{{Mailbox: "bob", Position: position, State: []byte("state")}},
			}),
			store.Sync(ctx),
			journal.Truncate(ctx, 0, position.Offset+1),
		)
		if err != nil {
			t.Error(err)
		}
	}
	write(positions[1])
	store.meanwhile = func() { write(positions[6]) }

	l := loading{journal: journal, store: store, mailbox: "bob", through: positions[records-1]}
	_, _, err := l.run(ctx, l.fromStore)
	if !errors.Is(err, persistence.ErrTruncated) {
		t.Errorf("a load that was overtaken: %v, want that it is made again", err)
	}
	loaded, forward, err := l.run(ctx, l.fromStore)
	if err != nil || loaded.Position != positions[6] || len(forward) != 3 || forward[0].position != positions[7] {
		t.Errorf("loaded at %v with %d records behind it, %v", loaded.Position, len(forward), err)
	}
}

// A mailbox hears of every record that was dispatched to it while it took none,
// also of those that the state has which is loaded in the end.
func TestLoadBringsWhatTheMailboxWasNotTold(t *testing.T) {
	ctx := t.Context()
	journal, store := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore()
	positions := appendTrims(t, journal, 10)
	err := store.Write(ctx, 0, persistence.Batch{
		Highest:   positions[6],
		Mailboxes: []persistence.MailboxWrite{{Mailbox: "bob", Position: positions[6], State: []byte("state")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for through, want := range map[int]int{4: 2, 6: 4, 9: 7} { // from the fourth record on
		l := loading{journal: journal, store: store, mailbox: "bob", through: positions[through], untold: positions[3]}
		loaded, told, err := l.run(ctx, l.fromStore)
		if err != nil || loaded.Position != positions[6] || len(told) != want || told[0].position != positions[3] {
			t.Errorf("through %v: loaded at %v with %d records, %v; want %d", positions[through], loaded.Position, len(told), err, want)
		}
	}
}

// What became of records that the journal has no more cannot be told: the load says
// so, unless the mailbox heard of them.
func TestLoadSaysWhatItCannotTell(t *testing.T) {
	ctx := t.Context()
	journal, store := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore()
	positions := appendTrims(t, journal, 10)
	err := errors.Join(
		store.Write(ctx, 0, persistence.Batch{
			Highest: positions[6], Checkpoint: positions[6],
			Mailboxes: []persistence.MailboxWrite{{Mailbox: "bob", Position: positions[6], State: []byte("state")}},
		}),
		journal.Truncate(ctx, 0, positions[6].Offset+1),
	)
	if err != nil {
		t.Fatal(err)
	}
	for untold, want := range map[int]error{3: errUntold, 6: errUntold, 7: nil, 9: nil} {
		l := loading{journal: journal, store: store, mailbox: "bob", through: positions[9], untold: positions[untold]}
		if _, _, err := l.run(ctx, l.fromStore); !errors.Is(err, want) {
			t.Errorf("the oldest that is not known is %v: %v, want %v", positions[untold], err, want)
		}
	}
}

// advancingStore has another owner store and truncate what there is as its marks
// are read.
type advancingStore struct {
	persistence.Store
	advance func()
}

func (s advancingStore) Marks(ctx context.Context, shard uint32) (persistence.Marks, error) {
	marks, err := s.Store.Marks(ctx, shard)
	s.advance()
	return marks, err
}

// A shard that opens while another owner truncates its journal is not taken for one
// whose journal lost records.
func TestEndsThatAnotherOwnerMoves(t *testing.T) {
	ctx := t.Context()
	journal, store := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore()
	positions := appendTrims(t, journal, 10)
	advance := func(to persistence.Position) {
		err := errors.Join(
			store.Write(ctx, 0, persistence.Batch{Highest: to, Checkpoint: to}),
			store.Sync(ctx),
			journal.Truncate(ctx, 0, to.Offset+1),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	advance(positions[3])
	marks, bounds, err := readEnds(ctx, journal, advancingStore{store, func() {
		advance(positions[8])
		appendTrims(t, journal, 5)
	}}, 0)
	if err != nil || marks.Checkpoint != positions[3] || bounds.First != positions[3].Offset+1 || bounds.Next != 15 || marks.Ahead(bounds) {
		t.Errorf("marks %+v, bounds %+v, %v", marks, bounds, err)
	}
}

// appendTrims appends records of bob's mailbox, and returns where they lie.
func appendTrims(t *testing.T, journal persistence.Journal, n int) []persistence.Position {
	t.Helper()
	data, err := proto.Marshal(&record.Record{Mailbox: "bob", Kind: &record.Record_Trim{Trim: &record.Trim{}}})
	if err != nil {
		t.Fatal(err)
	}
	var positions []persistence.Position
	for range n {
		landed := make(chan persistence.Appended, 1)
		journal.Append(0, [][]byte{data}, func(a persistence.Appended, err error) {
			if err != nil {
				t.Error(err)
			}
			landed <- a
		})
		positions = append(positions, (<-landed).First)
	}
	return positions
}

// The journal may have let go of what lies above the cache's copy since the
// load was asked for: that copy does not count, though it did then.
func TestLoadPassesOverACopyBelowTheStartOfTheJournal(t *testing.T) {
	ctx := t.Context()
	journal, store, cache := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore(), memory.NewCache()
	positions := appendTrims(t, journal, 10)
	asked, through := positions[2], positions[6]

	mark, err := cache.Begin(ctx, 0, positions[4])
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		cache.Fill(ctx, 0, mark, "bob", &persistence.Mailbox{Position: positions[1], State: []byte("old"), DedupComplete: true}),
		store.Write(ctx, 0, persistence.Batch{
			Highest: through, Checkpoint: through,
			Mailboxes: []persistence.MailboxWrite{{Mailbox: "bob", Position: through, State: []byte("new")}},
		}),
		store.Sync(ctx),
		journal.Truncate(ctx, 0, through.Offset+1),
	)
	if err != nil {
		t.Fatal(err)
	}
	l := loading{journal: journal, store: store, cache: cache, mailbox: "bob", through: through, checkpoint: asked, settled: through}
	if loaded, _, err := l.run(ctx, l.fromCache); !errors.Is(err, errNotCached) {
		t.Errorf("the copy counts: %+v, %v", loaded, err)
	}
	loaded, forward, err := l.run(ctx, l.fromStore)
	if err != nil || loaded.Position != through || len(forward) != 0 {
		t.Errorf("loaded at %v with %d records behind it, %v; want it at %v", loaded.Position, len(forward), err, through)
	}
}

// emptyJournal says of its log that it ends where it is read from, as a new
// leader may before it knows better.
type emptyJournal struct{ persistence.Journal }

func (emptyJournal) Read(context.Context, uint32, int64, int) ([]persistence.Entry, error) {
	return nil, nil
}

func TestLoadFailsWhereTheJournalEndsEarly(t *testing.T) {
	journal := memory.NewJournal(persistence.DurabilityFsync)
	positions := appendTrims(t, journal, 2)
	l := loading{journal: emptyJournal{journal}, store: memory.NewStore(), mailbox: "bob", through: positions[1]}
	if _, forward, err := l.run(t.Context(), l.fromStore); err == nil {
		t.Errorf("loaded with %d records of 2", len(forward))
	}
}

// awayJournal does not answer.
type awayJournal struct{ persistence.Journal }

func (awayJournal) Bounds(context.Context, uint32) (persistence.Bounds, error) {
	return persistence.Bounds{}, errors.New("away")
}

func TestLoadNeedsNoJournalForWhatIsStored(t *testing.T) {
	store := memory.NewStore()
	stored := persistence.Position{Generation: 1, Offset: 5}
	err := store.Write(t.Context(), 0, persistence.Batch{
		Highest: stored, Mailboxes: []persistence.MailboxWrite{{Mailbox: "bob", Position: stored, State: []byte("state")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := loading{journal: awayJournal{}, store: store, mailbox: "bob", through: stored}
	if loaded, _, err := l.run(t.Context(), l.fromStore); err != nil || loaded.Position != stored {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
	l.through.Offset++
	if loaded, _, err := l.run(t.Context(), l.fromStore); err == nil {
		t.Errorf("loaded %+v without the record behind it", loaded)
	}
}

// A copy in the cache that does not decode is as good as none.
func TestLoadPassesOverADamagedCopy(t *testing.T) {
	ctx, store, cache := t.Context(), memory.NewStore(), memory.NewCache()
	position := persistence.Position{Generation: 1, Offset: 5}
	mark, err := cache.Begin(ctx, 0, position)
	err = errors.Join(
		err,
		cache.Fill(ctx, 0, mark, "bob", &persistence.Mailbox{Position: position, State: []byte{0xff}, DedupComplete: true}),
		store.Write(ctx, 0, persistence.Batch{
			Highest: position, Mailboxes: []persistence.MailboxWrite{{Mailbox: "bob", Position: position, State: []byte("stored")}},
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	l := loading{store: store, cache: cache, mailbox: "bob", settled: position}
	if loaded, _, err := l.run(ctx, l.fromCache); !errors.Is(err, errNotCached) {
		t.Errorf("the copy counts: %+v, %v", loaded, err)
	}
	if loaded, _, err := l.run(ctx, l.fromStore); err != nil || string(loaded.State) != "stored" {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
}
