//go:build stores

package redis_test

import (
	"context"
	"errors"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/redis"
)

// damagedKeys are the ways in which each key of a mailbox may be another than it
// was written.
var damagedKeys = []struct {
	name string
	key  string // as its name ends, before the mailbox's
	harm func(ctx context.Context, admin *goredis.Client, key string) error
	// copied: the mailbox's copy is read as it is, for nothing tells.
	copied bool
	// shard: nothing can be read of the shard, and its mark says so.
	shard bool
}{
	{"the mark is of another type", "mark", anotherType, false, true},
	{"the mark is empty", "mark", empty, false, true},
	{"the mark lacks its watermark", "mark", without("watermark"), false, true},
	{"the mark's watermark is garbage", "mark", set("watermark", "garbage"), true, true},
	{"the mark has no filling", "mark", set("fill", ""), false, true},
	{"the copy is of another type", ":c:bob", anotherType, false, false},
	{"the copy is empty", ":c:bob", empty, false, false},
	{"the copy lacks its position", ":c:bob", without("p"), false, false},
	{"the copy's position is garbage", ":c:bob", set("p", "garbage"), false, false},
	{"the copy lacks its state", ":c:bob", without("s"), false, false},
	{"the copy lacks the length of its entries", ":c:bob", without("n"), false, false},
	{"the copy's length is garbage", ":c:bob", set("n", "garbage"), false, false},
	{"the copy's count is garbage", ":c:bob", set("d", "garbage"), true, false},
	{"a source is garbage", ":c:bob", set("oalice", "garbage"), false, false},
	{"the dedup entries are of another type", ":d:bob", anotherType, false, false},
	{"the dedup entries are empty", ":d:bob", trimmed, false, false},
	{"a block of dedup entries is garbage", ":d:bob", func(ctx context.Context, admin *goredis.Client, key string) error {
		return replaced(ctx, admin, key, "garbage")
	}, false, false},
	{"the rows are of another type", ":r:bob", anotherType, true, false},
	{"the rows are empty", ":r:bob", trimmed, true, false},
	{"the newest row is empty", ":r:bob", func(ctx context.Context, admin *goredis.Client, key string) error {
		return replaced(ctx, admin, key, "")
	}, true, false},
	{"the newest row is garbage", ":r:bob", func(ctx context.Context, admin *goredis.Client, key string) error {
		return replaced(ctx, admin, key, "\x7fgarbage")
	}, true, false},
	{"a row has another id", ":r:bob", func(ctx context.Context, admin *goredis.Client, key string) error {
		return admin.XAdd(ctx, &goredis.XAddArgs{Stream: key, ID: "3-7", Values: []string{"r", "garbage"}}).Err()
	}, true, false},
}

func anotherType(ctx context.Context, admin *goredis.Client, key string) error {
	if err := admin.Del(ctx, key).Err(); err != nil {
		return err
	}
	return admin.RPush(ctx, key, "another").Err()
}

func empty(ctx context.Context, admin *goredis.Client, key string) error {
	return admin.Set(ctx, key, "", 0).Err()
}

func trimmed(ctx context.Context, admin *goredis.Client, key string) error {
	return admin.XTrimMaxLen(ctx, key, 0).Err()
}

func without(field string) func(context.Context, *goredis.Client, string) error {
	return func(ctx context.Context, admin *goredis.Client, key string) error {
		return admin.HDel(ctx, key, field).Err()
	}
}

func set(field, value string) func(context.Context, *goredis.Client, string) error {
	return func(ctx context.Context, admin *goredis.Client, key string) error {
		return admin.HSet(ctx, key, field, value).Err()
	}
}

// replaced gives the newest entry of a stream another content.
func replaced(ctx context.Context, admin *goredis.Client, key, content string) error {
	newest, err := admin.XRevRangeN(ctx, key, "+", "-", 1).Result()
	if err != nil {
		return err
	}
	kept, err := admin.XRange(ctx, key, "-", "+").Result()
	if err != nil {
		return err
	}
	if err := admin.Del(ctx, key).Err(); err != nil {
		return err
	}
	for _, entry := range kept {
		values := []any{"r", entry.Values["r"]}
		if entry.ID == newest[0].ID {
			values[1] = content
		}
		if err := admin.XAdd(ctx, &goredis.XAddArgs{Stream: key, ID: entry.ID, Values: values}).Err(); err != nil {
			return err
		}
	}
	return nil
}

// Whatever is wrong with a key, what is read is right, or an error that says so,
// and a new filling has none of it.
func TestDamagedKeys(t *testing.T) {
	s := startServer(t)
	admin := s.admin()
	bob := func(offset int64) *persistence.Mailbox {
		return &persistence.Mailbox{
			Position: persistence.Position{Generation: 1, Offset: offset}, State: []byte("state"), DedupComplete: true,
			Sources: []persistence.Source{{Mailbox: "alice", Position: persistence.Position{Generation: 1, Offset: 1}}},
			Dedup:   []persistence.DedupEntry{{Time: 1, Revision: 1, Position: persistence.Position{Generation: 1, Offset: 1}}},
		}
	}
	row := func(revision int64) persistence.Row {
		return persistence.Row{Revision: revision, Peer: "alice", Data: []byte("data")}
	}
	for _, damage := range damagedKeys {
		t.Run(damage.name, func(t *testing.T) {
			ctx := testContext(t)
			c := open(t, redis.Options{}, s)
			write := func(mark persistence.CacheMark, offset int64) (persistence.CacheMark, error) {
				m := bob(offset)
				return c.Write(ctx, 0, mark, m.Position, []persistence.MailboxWrite{{
					Mailbox: "bob", Position: m.Position, State: m.State, Rows: []persistence.Row{row(offset - 1)}, Sources: m.Sources,
					Dedup: []persistence.DedupEntry{{Time: 1, Revision: offset - 1, Position: m.Position}},
				}})
			}
			fillAndHarm := func() persistence.CacheMark {
				check(t, admin.FlushAll(ctx).Err())
				mark, err := c.Begin(ctx, 0, bob(1).Position)
				check(t, err)
				check(t, c.Fill(ctx, 0, mark, "bob", bob(1)))
				for offset := range int64(3) {
					mark, err = write(mark, offset+2)
					check(t, err)
				}
				key := "tegami:{0000}:" + damage.key
				if damage.key != "mark" {
					key = "tegami:{0000}:" + mark.Fill + damage.key
				}
				check(t, damage.harm(ctx, admin, key))
				return mark
			}
			fillAndHarm()
			if _, err := c.Mark(ctx, 0); errors.Is(err, persistence.ErrDamaged) != damage.shard {
				t.Errorf("the mark: %v", err)
			}
			loaded, err := c.Load(ctx, 0, "bob", 100, bob(1).Position)
			switch {
			case (err == nil) != damage.copied || err == nil && loaded.Position != bob(4).Position:
				t.Errorf("loaded %+v, %v", loaded, err)
			case err != nil && !errors.Is(err, persistence.ErrDamaged) && !errors.Is(err, persistence.ErrNotFound):
				t.Errorf("load: %v", err)
			}
			rows, err := c.Operations(ctx, 0, "bob", 1, 0, 3, 10, 1<<20)
			if err != nil && !errors.Is(err, persistence.ErrDamaged) && !errors.Is(err, persistence.ErrNotFound) {
				t.Errorf("operations: %v", err)
			}
			for i := range rows {
				if want := row(int64(i) + 1); rows[i].Revision != want.Revision || rows[i].Peer != want.Peer || string(rows[i].Data) != string(want.Data) {
					t.Errorf("read %+v", rows[i])
				}
			}
			if _, err := c.Newest(ctx, 0, "bob", persistence.MaxRevision, 10); err != nil && !errors.Is(err, persistence.ErrDamaged) {
				t.Errorf("newest: %v", err)
			}
			if err := c.Drop(ctx, 0, "bob"); err != nil && (!damage.shard || !errors.Is(err, persistence.ErrDamaged)) {
				t.Errorf("drop: %v", err)
			}
			if _, err := write(fillAndHarm(), 5); err != nil && !errors.Is(err, persistence.ErrDamaged) && !errors.Is(err, persistence.ErrMarkMoved) {
				t.Errorf("write: %v", err)
			}

			mark, err := c.Begin(ctx, 0, bob(4).Position)
			check(t, err)
			check(t, c.Fill(ctx, 0, mark, "bob", bob(4)))
			mark, err = write(mark, 5)
			check(t, err)
			if loaded, err := c.Load(ctx, 0, "bob", 100, bob(5).Position); err != nil || loaded.Position != bob(5).Position || len(loaded.Dedup) != 2 {
				t.Errorf("a new filling has %+v, %v", loaded, err)
			}
			if got, err := c.Mark(ctx, 0); err != nil || got != mark {
				t.Errorf("the mark of a new filling: %+v, %v", got, err)
			}
		})
	}
}
