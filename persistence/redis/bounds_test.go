//go:build stores

package redis_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/redis"
)

func entry(n int, offset int64) (e persistence.DedupEntry) {
	copy(e.Key[:], fmt.Sprint(n))
	e.Time, e.Position = 1_700_000_000_000, at(offset)
	return e
}

func TestRowsAreBounded(t *testing.T) {
	s := startServer(t)
	c := open(t, redis.Options{MaxRows: 100}, s)
	mark := begin(t, c, "a")
	const rows = 1000
	for offset := int64(2); offset <= rows; offset++ {
		mark = write(t, c, mark, "a", offset)
	}
	admin := s.admin()
	length, err := admin.XLen(t.Context(), "tegami:{0000}:"+mark.Fill+":r:a").Result()
	check(t, err)
	// Redis trims by nodes, of 100 rows at most.
	if length < 100 || length > 300 {
		t.Fatalf("%d rows are kept, want about 100", length)
	}
	held, err := c.Operations(testContext(t), 0, "a", 0, rows-length, rows, rows, 1<<20)
	check(t, err)
	if len(held) != int(length) || held[0].Revision != rows-length+1 {
		t.Fatalf("%d rows are read of %d", len(held), length)
	}
	if _, err := c.Operations(testContext(t), 0, "a", 0, rows-length-1, rows, rows, 1<<20); !errors.Is(err, persistence.ErrNotFound) {
		t.Fatalf("rows that were trimmed: %v", err)
	}
}

func TestDedupIsBounded(t *testing.T) {
	s := startServer(t)
	c := open(t, redis.Options{MaxDedup: 50}, s)
	mark, err := c.Begin(testContext(t), 0, at(0))
	check(t, err)
	large := &persistence.Mailbox{Position: at(1), DedupComplete: true}
	for i := range 51 {
		large.Dedup = append(large.Dedup, entry(i, 1))
	}
	check(t, c.Fill(testContext(t), 0, mark, "large", large))
	if _, err := c.Load(testContext(t), 0, "large", 100, at(0)); !errors.Is(err, persistence.ErrNotFound) {
		t.Fatalf("a mailbox with too many dedup entries is loaded: %v", err)
	}
	check(t, c.Fill(testContext(t), 0, mark, "a", &persistence.Mailbox{Position: at(1), Dedup: large.Dedup[:49], DedupComplete: true}))
	for _, step := range []struct {
		offset int64
		found  bool
	}{{2, true}, {3, false}, {4, false}} {
		mark, err = c.Write(testContext(t), 0, mark, at(step.offset), []persistence.MailboxWrite{
			{Mailbox: "a", Position: at(step.offset), Dedup: []persistence.DedupEntry{entry(100, step.offset)}},
		})
		check(t, err)
		if m, err := c.Load(testContext(t), 0, "a", 100, at(0)); (err == nil) != step.found || err == nil && len(m.Dedup) != 50 {
			t.Fatalf("at offset %d: %+v, %v", step.offset, m, err)
		}
	}
	// What is left of it is nothing.
	left, err := keys(t.Context(), s.admin())
	check(t, err)
	if len(left) != 1 {
		t.Fatalf("keys are left: %q", left)
	}
}

func TestBatchIsBounded(t *testing.T) {
	c := open(t, redis.Options{}, startServer(t))
	mark := begin(t, c, "a")
	many := make([]persistence.MailboxWrite, redis.MaxBatchMailboxes+1)
	for i := range many {
		many[i] = persistence.MailboxWrite{Mailbox: fmt.Sprint(i), Position: at(2)}
	}
	large := []persistence.MailboxWrite{{Mailbox: "a", Position: at(2), State: make([]byte, redis.MaxBatchBytes)}}
	for _, batch := range [][]persistence.MailboxWrite{many, large} {
		if _, err := c.Write(testContext(t), 0, mark, at(2), batch); err == nil {
			t.Fatal("a batch that is too large is written")
		}
	}
	write(t, c, mark, "a", 2)
	// The largest that is taken does not fail for the number of its parts.
	m := persistence.MailboxWrite{Mailbox: "large", Position: at(3)}
	for i := range 20_000 {
		m.Sources = append(m.Sources, persistence.Source{Mailbox: fmt.Sprint(i), Position: at(int64(i))})
		m.Dedup = append(m.Dedup, entry(i, 3))
		m.Rows = append(m.Rows, persistence.Row{Revision: int64(i + 1)})
		m.Parts = append(m.Parts, persistence.Part{Key: fmt.Sprint(i), Position: at(3), Data: []byte("part")})
	}
	generous := open(t, redis.Options{MaxDedup: 100_000, MaxRows: 100_000}, startServer(t))
	mark = begin(t, generous, "a")
	check(t, generous.Fill(testContext(t), 0, mark, "large", nil))
	mark, err := generous.Write(testContext(t), 0, mark, at(3), []persistence.MailboxWrite{m})
	check(t, err)
	loaded, err := generous.Load(testContext(t), 0, "large", 100_000, at(3))
	check(t, err)
	if len(loaded.Sources) != 20_000 || len(loaded.Dedup) != 20_000 || len(loaded.Parts) != 20_000 {
		t.Fatalf("loaded %d sources, %d dedup entries, %d parts", len(loaded.Sources), len(loaded.Dedup), len(loaded.Parts))
	}
	check(t, generous.Fill(testContext(t), 0, mark, "filled", loaded))
	if loaded, err = generous.Load(testContext(t), 0, "filled", 100_000, at(3)); err != nil || len(loaded.Sources) != 20_000 || len(loaded.Parts) != 20_000 {
		t.Fatalf("a large mailbox that was handed over: %v", err)
	}
}

// parts writes a mailbox that has all its keys, and returns them.
func parts(t *testing.T, c *redis.Cache, admin *goredis.Client) (mark persistence.CacheMark, all []string) {
	t.Helper()
	check(t, admin.FlushAll(t.Context()).Err())
	mark = begin(t, c, "a")
	writes := batch("a", 2)
	writes[0].Dedup = []persistence.DedupEntry{entry(1, 2)}
	mark, err := c.Write(testContext(t), 0, mark, at(2), writes)
	check(t, err)
	all, err = keys(t.Context(), admin)
	check(t, err)
	if len(all) != 4 {
		t.Fatalf("a mailbox has the keys %q", all)
	}
	return mark, all
}

func TestEveryKeyExpires(t *testing.T) {
	s := startServer(t)
	c := open(t, redis.Options{Expiry: time.Hour}, s)
	admin := s.admin()
	_, all := parts(t, c, admin)
	_, err := c.Operations(testContext(t), 0, "a", 0, 0, 2, 10, 10)
	check(t, err)
	for _, key := range all {
		left, err := admin.PTTL(t.Context(), key).Result()
		check(t, err)
		if left <= 0 || left > time.Hour {
			t.Errorf("key %q expires in %v", key, left)
		}
		check(t, admin.PExpire(t.Context(), key, time.Minute).Err())
	}
	wantState(t, c, "a", 2)
	for _, key := range all {
		if left := admin.PTTL(t.Context(), key).Val(); left <= time.Minute {
			t.Errorf("a load leaves key %q to expire in %v", key, left)
		}
	}
}

// TestKeysAreEvicted takes each key of a mailbox, as a server does that is
// short of memory: what is left is never taken for a whole copy, not after
// another write either.
func TestKeysAreEvicted(t *testing.T) {
	s := startServer(t)
	c := open(t, redis.Options{}, s)
	admin := s.admin()
	for _, kind := range []string{"c", "d", "r", "mark"} {
		for _, writeFirst := range []bool{false, true} {
			mark, all := parts(t, c, admin)
			for _, key := range all {
				if strings.HasSuffix(key, ":"+kind+":a") || strings.HasSuffix(key, ":"+kind) {
					check(t, admin.Del(t.Context(), key).Err())
				}
			}
			writes := batch("a", 3)
			writes[0].Dedup = []persistence.DedupEntry{entry(2, 3)}
			position := int64(2)
			if writeFirst {
				_, err := c.Write(testContext(t), 0, mark, at(3), writes)
				if moved := errors.Is(err, persistence.ErrMarkMoved); moved != (kind == "mark") {
					t.Fatalf("without key %q a write returns %v", kind, err)
				}
				position = 3
			}
			m, err := c.Load(testContext(t), 0, "a", 100, at(0))
			if kind == "r" {
				check(t, err)
				if m.Position != at(position) || len(m.Dedup) != int(position)-1 {
					t.Fatalf("without rows the copy is %+v", m)
				}
			} else if !errors.Is(err, persistence.ErrNotFound) {
				t.Fatalf("without key %q a load returns %+v, %v", kind, m, err)
			}
		}
	}
}

func TestServerIsFull(t *testing.T) {
	s := startServer(t, "--maxmemory-policy", "noeviction")
	c := open(t, redis.Options{}, s)
	mark := begin(t, c, "a")
	admin := s.admin()
	check(t, admin.ConfigSet(t.Context(), "maxmemory", "3mb").Err())
	noise := make([]byte, 64<<10)
	_, _ = rand.Read(noise)
	offset := int64(1)
	var err error
	for err == nil && offset < 1000 {
		var next persistence.CacheMark
		large := batch("a", offset+1)
		large[0].State = noise
		large[0].Rows[0].Data = noise
		if next, err = c.Write(testContext(t), 0, mark, at(offset+1), large); err == nil {
			mark = next
			offset++
		}
	}
	if !errors.Is(err, persistence.ErrFull) {
		t.Fatalf("a full server returns %v, want ErrFull", err)
	}
	// Nothing of it was written, what is there is read, and the mark is the same.
	if now, err := c.Mark(testContext(t), 0); err != nil || now != mark {
		t.Fatalf("the mark is %v, want %v, error %v", now, mark, err)
	}
	m, err := c.Load(testContext(t), 0, "a", 10, mark.Watermark)
	check(t, err)
	if m.Position != at(offset) || offset > 1 && !bytes.Equal(m.State, noise) {
		t.Fatalf("the copy is at %v, want offset %d", m.Position, offset)
	}
	if _, err := c.Operations(testContext(t), 0, "a", 0, offset, offset+1, 1, 1); !errors.Is(err, persistence.ErrNotFound) {
		t.Fatalf("a row of the write that failed is there: %v", err)
	}
	// The large write took memory while it waited: smaller ones need less.
	check(t, admin.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
	if _, err := c.Begin(testContext(t), 0, at(0)); !errors.Is(err, persistence.ErrFull) {
		t.Fatalf("a filling begins on a full server: %v", err)
	}
	if err := c.Fill(testContext(t), 0, mark, "b", nil); !errors.Is(err, persistence.ErrFull) {
		t.Fatalf("a full server takes a mailbox: %v", err)
	}
	check(t, admin.ConfigSet(t.Context(), "maxmemory", "0").Err())
	write(t, c, mark, "a", offset+1)
	wantState(t, c, "a", offset+1)
}
