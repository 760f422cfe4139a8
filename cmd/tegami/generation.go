package main

import (
	"context"
	"errors"

	"github.com/tegami-im/tegami/persistence"
)

type generationCommand struct {
	configFlags
}

func (generationCommand) Help() string {
	return `A shard whose journal ends below what its store holds does not open: the journal was set back (an old copy was restored, a disk was lost, a power cut with journal.durability os), and new records would be taken for old ones. If the newer journal is to be had, restore it instead. Otherwise this accepts the loss: what the store has stays, and what only the lost part of the journal had is gone. Shards that are whole are left alone.

The server must not run. Give the same flags as to serve.

Examples:
  tegami generation --data ./data`
}

func (c *generationCommand) Run(ctx context.Context, std streams) (err error) {
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	storage, err := openPresent(ctx, loaded, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storage.Close()) }()
	started := 0
	for shard := range uint32(storage.shards) {
		lost, err := startGeneration(ctx, storage.journal, storage.store, shard)
		if err != nil {
			return err
		}
		if lost > 0 {
			std.printf("shard %d: its journal ends %d records or more below its store; a new generation is started\n", shard, lost)
			started++
		}
	}
	std.printf("%d of %d shards were set back.\n", started, storage.shards)
	return nil
}

// startGeneration starts new generations of a shard's journal until it is not
// behind what the store holds, and returns how far it was: in records, as far
// as that can be told.
func startGeneration(ctx context.Context, journal persistence.Journal, store persistence.Store, shard uint32) (lost int64, err error) {
	marks, err := store.Marks(ctx, shard)
	if err != nil {
		return 0, err
	}
	for {
		bounds, err := journal.Bounds(ctx, shard)
		if err != nil || !marks.Ahead(bounds) {
			return lost, err
		}
		lost = max(lost, marks.Newest().Offset+1-bounds.Next, 1)
		if err := journal.StartGeneration(ctx, shard); err != nil {
			return lost, err
		}
	}
}
