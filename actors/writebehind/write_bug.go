//go:build bug_state_before_rows

package writebehind

import (
	"context"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// writeBatch has a bug planted: states go to the store before their rows, so
// that a crash in between loses the rows for good.
func writeBatch(ctx context.Context, store persistence.Store, shard uint32, batch persistence.Batch) error {
	bare := batch
	bare.Mailboxes = make([]persistence.MailboxWrite, len(batch.Mailboxes))
	for i, write := range batch.Mailboxes {
		write.Rows = nil
		bare.Mailboxes[i] = write
	}
	if err := store.Write(ctx, shard, bare); err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	return store.Write(ctx, shard, batch)
}
