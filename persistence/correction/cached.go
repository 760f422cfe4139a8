package correction

import (
	"bytes"
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// cachedCopy is what a cache has of a mailbox.
type cachedCopy struct {
	mailbox *persistence.Mailbox // nil for none that a server would take
	rows    map[int64]uint64     // digests, by revision
	newest  int64                // revision; 0 for no rows
	gap     int64                // the newest revision that is missing below that, and has rows below it; 0 for none
	damaged error                // what does not decode
}

const (
	// cachedPage is how many rows of a cache are read at a time, cachedRows how
	// many of a mailbox at most.
	cachedPage = 128
	cachedRows = 4096
)

// loadCached reads what a cache has of a mailbox that the store has at a
// position, by the rule by which a server takes it.
func loadCached(ctx context.Context, cache persistence.CacheRepairer, shard uint32, name string, at persistence.Position) (*cachedCopy, error) {
	held := &cachedCopy{rows: map[int64]uint64{}}
	var err error
	held.mailbox, err = cache.Load(ctx, shard, name, mailbox.MaxDedupInMemory, at)
	switch {
	case errors.Is(err, persistence.ErrNotFound):
	case isDamage(err):
		held.damaged = err
	case err != nil:
		return nil, err
	}
	if err := held.loadRows(ctx, cache, shard, name); isDamage(err) {
		held.damaged = err
	} else if err != nil {
		return nil, err
	}
	if held.mailbox == nil && held.newest == 0 && held.damaged == nil {
		return nil, nil
	}
	return held, nil
}

// loadRows reads the rows, which are there without a gap.
func (c *cachedCopy) loadRows(ctx context.Context, cache persistence.CacheRepairer, shard uint32, name string) error {
	for before := int64(persistence.MaxRevision); len(c.rows) < cachedRows; {
		rows, err := cache.Newest(ctx, shard, name, before, cachedPage)
		if err != nil {
			return err
		}
		for i := range rows {
			revision := rows[i].Revision
			switch {
			case c.newest == 0:
				c.newest = revision
			case c.gap == 0 && revision != before-1:
				c.gap = before - 1
			}
			c.rows[revision] = rowDigest(rows[i].Peer, rows[i].Data)
			before = revision
		}
		if len(rows) < cachedPage {
			break
		}
	}
	return nil
}

// compareCached holds the cache's copy against the store's. One that is ahead
// is on its way to the store.
func (b *box) compareCached() {
	if b.cached == nil {
		return
	}
	if b.cached.damaged != nil {
		b.found(CacheState, 0, 1, "%v", b.cached.damaged)
		return
	}
	b.compareTail()
	if b.cached.mailbox == nil {
		return
	}
	held, stored := b.cached.mailbox, b.loaded
	switch {
	case held.Position.Less(stored.Position):
		b.found(CacheState, 0, 1, "at %d/%d, and the cache says that it has all up to %d/%d",
			held.Position.Generation, held.Position.Offset, stored.Position.Generation, stored.Position.Offset)
	case held.Position != stored.Position:
	case !sameState(held.State, stored.State):
		b.found(CacheState, 0, 1, "another state at the same position")
	case !sameParts(held.Parts, stored.Parts):
		b.found(CacheState, 0, 1, "other parts of the state at the same position")
	case !sameSources(held.Sources, stored.Sources):
		b.found(CacheState, 0, 1, "other sources at the same position")
	case !b.sameDedup(held.Dedup, stored.Dedup):
		b.found(CacheState, 0, 1, "other dedup entries at the same position")
	}
}

// compareTail looks for rows that are missing in the cache: a row and the state
// that tells of it come there in one step. That the older ones are not there, or
// none, is no damage.
func (b *box) compareTail() {
	c := b.cached
	if c.gap > 0 {
		b.found(CacheRow, c.gap, 1, "it is missing, and older ones are there")
	}
	if c.newest == 0 || c.mailbox == nil {
		return
	}
	state := new(record.State)
	if err := proto.Unmarshal(c.mailbox.State, state); err == nil && c.newest < state.GetHead() {
		b.found(CacheRow, c.newest+1, 1, "it is missing, and the copy's head is %d", state.GetHead())
	}
}

func sameState(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, y := new(record.State), new(record.State)
	return proto.Unmarshal(a, x) == nil && proto.Unmarshal(b, y) == nil && proto.Equal(x, y)
}

func sameParts(a, b []persistence.Part) bool {
	known := make(map[string][]byte, len(a))
	for i := range a {
		known[a[i].Key] = a[i].Data
	}
	for i := range b {
		if data, ok := known[b[i].Key]; !ok || !bytes.Equal(data, b[i].Data) {
			return false
		}
	}
	return len(a) == len(b)
}

func sameSources(a, b []persistence.Source) bool {
	known := make(map[string]persistence.Position, len(a))
	for _, source := range a {
		known[source.Mailbox] = source.Position
	}
	for _, source := range b {
		if known[source.Mailbox] != source.Position {
			return false
		}
	}
	return len(a) == len(b)
}

// sameDedup compares the entries that both keep. Their positions may differ: one
// that was made anew has another.
func (b *box) sameDedup(held, stored []persistence.DedupEntry) bool {
	since := max(b.kept, b.state.GetTime()-mailbox.DedupWindow.Milliseconds())
	kept := func(entries []persistence.DedupEntry) map[persistence.DedupEntry]int {
		all := make(map[persistence.DedupEntry]int, len(entries))
		for _, entry := range entries {
			if entry.Time >= since && !b.position.Less(entry.Position) {
				entry.Position = persistence.Position{}
				all[entry]++
			}
		}
		return all
	}
	x, y := kept(held), kept(stored)
	for entry := range x {
		if y[entry] == 0 {
			return false
		}
	}
	return len(x) == len(y)
}
