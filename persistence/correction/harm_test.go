package correction_test

import (
	"context"
	"slices"

	"github.com/tegami-im/tegami/persistence"
)

// harmedCache is a cache in which things may be damaged, until they are replaced.
type harmedCache struct {
	persistence.CacheRepairer
	mark         bool    // every shard's
	copies, rows string  // of whom
	gone         []int64 // of bob's rows
}

func (c *harmedCache) Mark(ctx context.Context, shard uint32) (persistence.CacheMark, error) {
	if c.mark {
		return persistence.CacheMark{}, persistence.ErrDamaged
	}
	return c.CacheRepairer.Mark(ctx, shard)
}

func (c *harmedCache) Begin(ctx context.Context, shard uint32, watermark persistence.Position) (persistence.CacheMark, error) {
	if shard == shards-1 {
		c.mark = false
	}
	return c.CacheRepairer.Begin(ctx, shard, watermark)
}

func (c *harmedCache) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int, notBelow persistence.Position) (*persistence.Mailbox, error) {
	if mailbox == c.copies {
		return nil, persistence.ErrDamaged
	}
	return c.CacheRepairer.Load(ctx, shard, mailbox, maxDedup, notBelow)
}

func (c *harmedCache) Newest(ctx context.Context, shard uint32, mailbox string, before int64, limit int) ([]persistence.Row, error) {
	if mailbox == c.rows {
		return nil, persistence.ErrDamaged
	}
	rows, err := c.CacheRepairer.Newest(ctx, shard, mailbox, before, limit)
	if mailbox != "bob" {
		return rows, err
	}
	return slices.DeleteFunc(rows, func(row persistence.Row) bool { return slices.Contains(c.gone, row.Revision) }), err
}

func (c *harmedCache) Drop(ctx context.Context, shard uint32, mailbox string) error {
	if mailbox == c.copies {
		c.copies = ""
	}
	if mailbox == c.rows {
		c.rows = ""
	}
	if mailbox == "bob" {
		c.gone = nil
	}
	return c.CacheRepairer.Drop(ctx, shard, mailbox)
}

// unmarkedStore lost the marks of its shards as they were synced. Those that were
// written may be there: then they come back with the next Sync.
type unmarkedStore struct {
	persistence.Repairer
	written, gone bool
	synced        int
}

func (s *unmarkedStore) Marks(ctx context.Context, shard uint32) (persistence.Marks, error) {
	if s.gone && s.synced <= int(shard) {
		return persistence.Marks{}, nil
	}
	return s.Repairer.Marks(ctx, shard)
}

func (s *unmarkedStore) Sync(ctx context.Context) error {
	if s.written {
		s.synced++
	}
	return s.Repairer.Sync(ctx)
}
