package redis

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"strconv"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tegami-im/tegami/persistence"
)

var (
	//go:embed newest.lua
	newestSource string
	//go:embed drop.lua
	dropSource string

	newestScript = goredis.NewScript(newestSource)
	dropScript   = goredis.NewScript(dropSource)
)

var _ persistence.CacheRepairer = (*Cache)(nil)

// Newest implements persistence.CacheRepairer.
func (c *Cache) Newest(ctx context.Context, shard uint32, mailbox string, before int64, limit int) ([]persistence.Row, error) {
	if before <= 1 || limit <= 0 {
		return nil, c.ready(ctx)
	}
	reply, err := c.runInFill(ctx, newestScript, shard, func(fill string) *request {
		r := &request{keys: []string{c.markKey(shard), c.mailboxKeys(shard, fill, mailbox).rows}}
		r.add(fill, rowID(before-1), strconv.Itoa(min(limit, maxNumber)))
		return r
	})
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	values, err := texts(reply)
	if err != nil {
		return nil, fmt.Errorf("read newest operations: %w", err)
	}
	rows := make([]persistence.Row, 0, len(values)/2)
	for i := 0; i+1 < len(values); i += 2 {
		row, err := parseRow(values[i], values[i+1])
		if err != nil {
			return nil, fmt.Errorf("read newest operations: %w", err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Drop implements persistence.CacheRepairer.
func (c *Cache) Drop(ctx context.Context, shard uint32, mailbox string) error {
	_, err := c.runInFill(ctx, dropScript, shard, func(fill string) *request {
		keys := c.mailboxKeys(shard, fill, mailbox)
		r := &request{keys: []string{c.markKey(shard), keys.copy, keys.dedup, keys.rows}}
		r.add(fill)
		return r
	})
	return ignoreNotFound(err)
}

// ignoreNotFound: a shard without a filling has nothing of any mailbox.
func ignoreNotFound(err error) error {
	if errors.Is(err, persistence.ErrNotFound) {
		return nil
	}
	return err
}
