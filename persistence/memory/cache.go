package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tegami-im/tegami/persistence"
)

// Cache is a persistence.Cache in memory, without bounds. Empty and Snapshot
// do to it what may happen to a cache.
type Cache struct {
	mu     sync.Mutex // guards the following
	shards map[uint32]*filling
	named  int // fillings and writes
	closed bool
}

// filling is what a cache has of a shard. Byte slices in it are never changed.
type filling struct {
	mark      persistence.CacheMark
	mailboxes map[string]*cached
}

// cached is what a filling has of a mailbox.
type cached struct {
	// copy is nil without a copy, and at the zero position with one of a mailbox
	// that does not exist.
	copy *mailbox
	rows run
}

// run holds rows without a gap, in order.
type run struct {
	rows []persistence.Row
	// newest is the revision that the next row follows; 0 in an empty run that
	// any row may begin.
	newest int64
}

var _ persistence.Cache = (*Cache)(nil)

// NewCache returns an empty cache.
func NewCache() *Cache { return &Cache{shards: map[uint32]*filling{}} }

// Empty takes everything from the cache, as a restart without data does.
func (c *Cache) Empty() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shards = map[uint32]*filling{}
}

// Snapshot remembers what the cache holds, and returns a function that sets it
// back to that, as a restart with old data does.
func (c *Cache) Snapshot() (setBack func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	snapshot := cloneShards(c.shards)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.shards = cloneShards(snapshot)
	}
}

func cloneShards(shards map[uint32]*filling) map[uint32]*filling {
	clone := make(map[uint32]*filling, len(shards))
	for shard, f := range shards {
		mailboxes := make(map[string]*cached, len(f.mailboxes))
		for name, m := range f.mailboxes {
			c := *m
			c.rows.rows = slices.Clone(m.rows.rows)
			if m.copy != nil {
				c.copy = m.copy.clone()
			}
			mailboxes[name] = &c
		}
		clone[shard] = &filling{mark: f.mark, mailboxes: mailboxes}
	}
	return clone
}

// Mark implements persistence.Cache.
func (c *Cache) Mark(ctx context.Context, shard uint32) (persistence.CacheMark, error) {
	if err := c.lock(ctx); err != nil {
		return persistence.CacheMark{}, err
	}
	defer c.mu.Unlock()
	if f := c.shards[shard]; f != nil {
		return f.mark, nil
	}
	return persistence.CacheMark{}, nil
}

// Begin implements persistence.Cache.
func (c *Cache) Begin(ctx context.Context, shard uint32, watermark persistence.Position) (persistence.CacheMark, error) {
	if err := c.lock(ctx); err != nil {
		return persistence.CacheMark{}, err
	}
	defer c.mu.Unlock()
	c.named++
	mark := persistence.CacheMark{Fill: fmt.Sprint(c.named), Watermark: watermark}
	c.shards[shard] = &filling{mark: mark, mailboxes: map[string]*cached{}}
	return mark, nil
}

// Write implements persistence.Cache.
func (c *Cache) Write(ctx context.Context, shard uint32, from persistence.CacheMark, watermark persistence.Position, mailboxes []persistence.MailboxWrite) (persistence.CacheMark, error) {
	if err := c.lock(ctx); err != nil {
		return persistence.CacheMark{}, err
	}
	defer c.mu.Unlock()
	batch := persistence.Batch{Mailboxes: mailboxes}
	if err := batch.Check(); err != nil {
		return persistence.CacheMark{}, err
	}
	f := c.shards[shard]
	if f == nil || f.mark != from {
		return persistence.CacheMark{}, persistence.ErrMarkMoved
	}
	for _, write := range cloneBatch(batch).Mailboxes {
		m := f.mailbox(write.Mailbox)
		m.rows.write(write.Rows, write.First)
		if m.copy != nil {
			write.Rows, write.First = nil, 0
			m.copy.apply(write)
		}
	}
	c.named++
	f.mark.Write = fmt.Sprint(c.named)
	f.mark.Watermark = later(f.mark.Watermark, watermark)
	return f.mark, nil
}

func (f *filling) mailbox(name string) *cached {
	m := f.mailboxes[name]
	if m == nil {
		m = &cached{}
		f.mailboxes[name] = m
	}
	return m
}

func (r *run) write(rows []persistence.Row, first int64) {
	if r.newest > 0 {
		r.rows = slices.DeleteFunc(r.rows, func(row persistence.Row) bool { return row.Revision < first })
		r.newest = max(r.newest, first-1)
	}
	slices.SortFunc(rows, func(a, b persistence.Row) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, row := range rows {
		if row.Revision < first || row.Revision <= r.newest {
			continue
		}
		if row.Revision != r.newest+1 {
			r.rows = nil
		}
		r.rows = append(r.rows, row)
		r.newest = row.Revision
	}
}

// Fill implements persistence.Cache.
func (c *Cache) Fill(ctx context.Context, shard uint32, from persistence.CacheMark, name string, m *persistence.Mailbox) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	f := c.shards[shard]
	switch {
	case m != nil && !m.DedupComplete:
		return nil
	case f == nil || f.mark != from:
		return persistence.ErrMarkMoved
	case f.mailbox(name).copy != nil:
		return nil
	}
	filled := newMailbox()
	if m != nil {
		write := persistence.MailboxWrite{Position: m.Position, State: m.State, Dedup: m.Dedup, Sources: m.Sources, Parts: m.Parts}
		filled.set(cloneBatch(persistence.Batch{Mailboxes: []persistence.MailboxWrite{write}}).Mailboxes[0])
	}
	f.mailbox(name).copy = filled
	return nil
}

// Load implements persistence.Cache.
func (c *Cache) Load(ctx context.Context, shard uint32, name string, maxDedup int, notBelow persistence.Position) (*persistence.Mailbox, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	f := c.shards[shard]
	if f == nil || f.mark.Watermark.Less(notBelow) {
		return nil, persistence.ErrNotFound
	}
	m := f.mailboxes[name]
	if m == nil || m.copy == nil || m.copy.position.IsZero() {
		return nil, persistence.ErrNotFound
	}
	loaded := m.copy.load(maxDedup)
	if !loaded.DedupComplete {
		return nil, persistence.ErrNotFound
	}
	return loaded, nil
}

// Operations implements persistence.Cache.
func (c *Cache) Operations(ctx context.Context, shard uint32, name string, generation uint32, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	after = max(0, after)
	if after >= upTo || limit <= 0 {
		return nil, nil
	}
	page := page{limit: limit, maxBytes: maxBytes}
	if f := c.shards[shard]; f != nil && f.mark.Watermark.Generation >= generation {
		for _, row := range f.mailbox(name).rows.rows {
			if row.Revision == after+1 && row.Revision <= upTo && page.add(row) {
				after++
			}
		}
	}
	if len(page.rows) == 0 {
		return nil, persistence.ErrNotFound
	}
	return page.rows, nil
}

func (c *Cache) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return persistence.ErrClosed
	}
	return nil
}

// Close implements persistence.Cache.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}
