package main

import (
	"context"
	"errors"

	"github.com/tegami-im/tegami/persistence/correction"
)

type rebuildCommand struct {
	offlineFlags
	From string `enum:"hbase,journal" required:"" help:"hbase or journal: what the cache is filled from."`
	All  bool   `help:"From hbase: all mailboxes, not only those that have records in the journal."`
}

func (rebuildCommand) Help() string {
	return `Begins a new filling of the cache, and fills it before the servers start, so that they need not load every mailbox from HBase first. It is never needed: a server begins a filling by itself, and fills it with what it loads.

From the journal alone, without HBase's states, only those mailboxes can be made whose accounts lie in what the journal still has (kafka.keep), if it never let go of anything; the others are counted, and loaded from HBase when they are used.

Examples:
  tegami store rebuild --config hybrid.yaml --offline --from hbase
  tegami store rebuild --config hybrid.yaml --offline --from hbase --all
  tegami store rebuild --config hybrid.yaml --offline --from journal`
}

func (c *rebuildCommand) Run(ctx context.Context, std streams) (err error) {
	if c.All && c.From != "hbase" {
		return usagef("--all goes with --from hbase")
	}
	s, _, err := c.open(ctx, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.cache == nil {
		return usagef("there is no cache: redis.addresses is empty, or store.kind is embedded")
	}
	rebuilt, err := correction.Rebuild{
		Journal: s.journal, Store: s.repairer, Cache: s.cacheRepairer, Shards: uint32(s.shards), FromJournal: c.From == "journal", All: c.All,
	}.Run(ctx)
	if err != nil {
		return err
	}
	std.printf("The cache has %d mailboxes.\n", rebuilt.Mailboxes)
	if c.From == "journal" {
		std.printf("This covers what the journal still has: %d mailboxes with records in it are not told by it alone, nor is any without records.\n", rebuilt.Passed)
	}
	return nil
}
