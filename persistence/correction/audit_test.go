package correction

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

func TestAuditorGoesRoundAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		journal, store := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore()
		defer func() { _ = journal.Close() }()
		stored := persistence.Position{Generation: 1}
		batch := persistence.Batch{Highest: stored, Checkpoint: stored, Mailboxes: []persistence.MailboxWrite{{
			Mailbox: "bob", Position: stored, State: []byte{0xff},
			Rows: []persistence.Row{{Revision: 1, Data: []byte{0xff}}},
		}}}
		err := errors.Join(store.Write(t.Context(), 1, batch), store.Sync(t.Context()), journal.StartGeneration(t.Context(), 1))
		if err != nil {
			t.Fatal(err)
		}
		a := NewAuditor(Options{Journal: journal, Store: store, Shards: 4, Rate: 10})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			a.Run(ctx)
			close(ended)
		}()
		time.Sleep(10 * time.Second) //nolint:forbidigo // the bubble's time
		cancel()
		<-ended
		if a.Rounds() != 2 || a.Mailboxes() < 2 || a.Operations() < 2 || a.Found() != 2*a.Mailboxes() {
			t.Errorf("%d rounds, %d mailboxes, %d operations, %d found", a.Rounds(), a.Mailboxes(), a.Operations(), a.Found())
		}
	})
}
