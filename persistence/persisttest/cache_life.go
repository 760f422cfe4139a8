package persisttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tegami-im/tegami/persistence"
)

func cacheBatchOnce(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(1))
	twice := []persistence.MailboxWrite{{Mailbox: "a", Position: at(2), Rows: rows(1, 1, "b")}, {Mailbox: "a", Position: at(2)}}
	if _, err := c.Write(testContext(t), 0, mark, at(2), twice); err == nil || errors.Is(err, persistence.ErrMarkMoved) {
		t.Fatalf("a batch with a mailbox twice returns %v", err)
	}
	wantMark(t, c, 0, mark)
	wantNotCached(t, c, 0, "a", 0)
}

func cacheLargeBatch(t *testing.T, c *CacheInstance) {
	const records, mailboxes = 512, 300
	mark := begin(t, c, 0, at(0))
	batch := make([]persistence.MailboxWrite, mailboxes)
	for i := range batch {
		batch[i].Mailbox = fmt.Sprintf("user%d", i)
		fill(t, c, mark, batch[i].Mailbox, nil)
	}
	for i := range int64(records) {
		m := &batch[i%mailboxes]
		m.Position = at(i + 1)
		m.State = fmt.Append(nil, i)
		m.Rows = append(m.Rows, row(int64(len(m.Rows)+1), "b"))
		m.Dedup = append(m.Dedup, dedup(int(i), someDay, i+1))
	}
	put(t, c, mark, records, batch...)
	for _, m := range batch {
		wantCopy(t, c, 0, m.Mailbox, &persistence.Mailbox{Position: m.Position, State: m.State, Dedup: m.Dedup, DedupComplete: true})
		wantCached(t, c, 0, m.Mailbox, m.Rows)
	}
}

func cacheCalls(ctx context.Context, c persistence.Cache) map[string]error {
	_, markErr := c.Mark(ctx, 0)
	_, beginErr := c.Begin(ctx, 0, at(1))
	_, writeErr := c.Write(ctx, 0, persistence.CacheMark{Fill: "any"}, at(1), nil)
	fillErr := c.Fill(ctx, 0, persistence.CacheMark{Fill: "any"}, "a", nil)
	_, loadErr := c.Load(ctx, 0, "a", 1, at(1))
	_, operationsErr := c.Operations(ctx, 0, "a", 0, 0, 1, 1, 1)
	_, nothingErr := c.Operations(ctx, 0, "a", 0, 1, 1, 1, 1)
	return map[string]error{
		"Mark": markErr, "Begin": beginErr, "Write": writeErr, "Fill": fillErr, "Load": loadErr,
		"Operations": operationsErr, "Operations of nothing": nothingErr,
	}
}

func cacheClosed(t *testing.T, c *CacheInstance) {
	check(t, c.Close())
	check(t, c.Close())
	for call, err := range cacheCalls(testContext(t), c) {
		if !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("%s returns %v, want ErrClosed", call, err)
		}
	}
}

func cacheContext(t *testing.T, c *CacheInstance) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for call, err := range cacheCalls(ctx, c) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s returns %v, want context.Canceled", call, err)
		}
	}
}

func cacheShardsApart(t *testing.T, c *CacheInstance) {
	marks := map[uint32]persistence.CacheMark{}
	for shard := range uint32(Shards) {
		marks[shard] = begin(t, c, shard, at(1))
		check(t, c.Fill(testContext(t), shard, marks[shard], "a", nil))
		mark, err := c.Write(testContext(t), shard, marks[shard], at(int64(shard)+2), []persistence.MailboxWrite{
			{Mailbox: "a", Position: at(int64(shard) + 2), State: fmt.Append(nil, shard), Rows: rows(1, int64(shard)+1, "b")},
		})
		check(t, err)
		marks[shard] = mark
	}
	begin(t, c, 3, at(9))
	for shard := range uint32(Shards) {
		if shard == 3 {
			wantNoCopy(t, c, shard, "a")
			continue
		}
		wantMark(t, c, shard, marks[shard])
		wantCopy(t, c, shard, "a", stored(int64(shard)+2, fmt.Sprint(shard)))
		wantCached(t, c, shard, "a", rows(1, int64(shard)+1, "b"))
	}
}

func cacheOddNames(t *testing.T, c *CacheInstance) {
	mark := begin(t, c, 0, at(0))
	names := append(slices.Clone(oddNames), "", "{", "}", "{0001}", "a:c:b", "mark", "p", "s")
	want := map[string]*persistence.Mailbox{}
	var batch []persistence.MailboxWrite
	for i, name := range names {
		fill(t, c, mark, name, nil)
		m := persistence.MailboxWrite{Mailbox: name, Position: at(int64(i) + 1), State: []byte(name), Rows: []persistence.Row{row(int64(i+1), name)}, Dedup: []persistence.DedupEntry{dedup(i, someDay, 1)}}
		for k, source := range names {
			m.Sources = append(m.Sources, persistence.Source{Mailbox: source, Position: at(int64(k))})
		}
		want[name] = &persistence.Mailbox{Position: m.Position, State: m.State, Dedup: m.Dedup, DedupComplete: true, Sources: slices.Clone(m.Sources)}
		sortMailbox(want[name])
		batch = append(batch, m)
	}
	put(t, c, mark, 1000, batch...)
	for i, name := range names {
		wantCopy(t, c, 0, name, want[name])
		wantCached(t, c, 0, name, batch[i].Rows)
	}
}
