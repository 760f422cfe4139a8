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
	data, err := proto.Marshal(&record.Record{Mailbox: "bob", Kind: &record.Record_Trim{Trim: &record.Trim{}}})
	if err != nil {
		t.Fatal(err)
	}
	const records = 10
	var positions []persistence.Position
	for range records {
		landed := make(chan persistence.Appended, 1)
		journal.Append(0, [][]byte{data}, func(a persistence.Appended, err error) {
			if err != nil {
				t.Error(err)
			}
			landed <- a
		})
		positions = append(positions, (<-landed).First)
	}
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
	_, _, err = l.run(ctx)
	if !errors.Is(err, persistence.ErrTruncated) {
		t.Errorf("a load that was overtaken: %v, want that it is made again", err)
	}
	loaded, forward, err := l.run(ctx)
	if err != nil || loaded.Position != positions[6] || len(forward) != 3 || forward[0].position != positions[7] {
		t.Errorf("loaded at %v with %d records behind it, %v", loaded.Position, len(forward), err)
	}
}
