//go:build !bug_state_before_rows

package writebehind

import (
	"context"

	"github.com/tegami-im/tegami/persistence"
)

func writeBatch(ctx context.Context, store persistence.Store, shard uint32, batch persistence.Batch) error {
	return store.Write(ctx, shard, batch)
}
