package correct

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/tsuna/gohbase"
	"github.com/tsuna/gohbase/hrpc"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/correction"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/test/stack"
)

// damager harms what HBase and Redis have, behind the server's back.
type damager struct {
	t     *testing.T
	ctx   context.Context
	name  string
	store *hbase.Store
	raw   gohbase.Client
	redis *goredis.Client
	names []mailboxName
	// harmed: it was done before.
	harmed bool
}

type mailboxName struct {
	shard uint32
	name  string
}

func openDamager(t *testing.T, servers *stack.Stack, name string) *damager {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*hangLimit) // of the whole test
	t.Cleanup(cancel)
	store := openHBase(t, servers, name)
	raw := gohbase.NewClient(servers.Addr(stack.HBase), gohbase.Logger(slog.New(slog.DiscardHandler)))
	t.Cleanup(raw.Close)
	redis := goredis.NewClient(&goredis.Options{Addr: servers.Addr(stack.Redis)})
	t.Cleanup(func() { _ = redis.Close() })
	d := &damager{t: t, ctx: ctx, name: name, store: store, raw: raw, redis: redis}
	for shard := range uint32(shards) {
		d.check(store.Scan(ctx, shard, func(item *persistence.Item) error {
			if item.Kind == persistence.ItemState {
				d.names = append(d.names, mailboxName{shard, item.Mailbox})
			}
			return item.Err
		}))
	}
	if len(d.names) < len(harms)+4 {
		t.Fatalf("%d mailboxes are stored", len(d.names))
	}
	return d
}

func openHBase(t *testing.T, servers *stack.Stack, name string) *hbase.Store {
	t.Helper()
	store, err := hbase.OpenStore(t.Context(), hbase.Options{
		ZooKeeper: servers.Addr(stack.HBase), TablePrefix: name + "_", Shards: shards, RequestTimeout: 20 * time.Second,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func (d *damager) check(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// checksums returns a checksum of everything but the dedup entries' positions,
// of each mailbox, up to its state.
func (d *damager) checksums() map[string]string {
	d.t.Helper()
	sums := map[string]string{}
	for shard := range uint32(shards) {
		maps.Copy(sums, checksums(d.ctx, d.t, d.store, shard, false))
	}
	return sums
}

// checksums returns a checksum of what is stored of each mailbox of a shard. Rows
// and dedup entries stay what they are when messages come after; all does not.
func checksums(ctx context.Context, t *testing.T, store persistence.Scanner, shard uint32, all bool) map[string]string {
	t.Helper()
	contents := map[string][]string{}
	err := store.Scan(ctx, shard, func(item *persistence.Item) error {
		line := ""
		switch item.Kind {
		case persistence.ItemRow:
			line = fmt.Sprintf("row %d %s %x", item.Row.Revision, item.Row.Peer, sha256.Sum256(item.Row.Data))
		case persistence.ItemDedup:
			entry := item.Dedup
			if !all {
				entry.Position = persistence.Position{}
			}
			line = fmt.Sprintf("dedup %+v", entry)
		case persistence.ItemPlace:
			line = fmt.Sprintf("place %d %s", item.Row.Revision, item.Row.Peer)
		case persistence.ItemState:
			if all {
				line = fmt.Sprintf("state %v %x", item.Position, item.State)
			}
		case persistence.ItemSource:
			if all {
				line = fmt.Sprintf("source %v", item.Source)
			}
		case persistence.ItemPart:
			if all {
				line = fmt.Sprintf("part %+v", item.Part)
			}
		}
		contents[item.Mailbox] = append(contents[item.Mailbox], line)
		return item.Err
	})
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for name, lines := range contents {
		slices.Sort(lines)
		sums[name] = strings.Join(lines, "\n")
	}
	return sums
}

// compare fails when something is not there that was.
func (d *damager) compare(before map[string]string) {
	d.t.Helper()
	now := d.checksums()
	for name, lines := range before {
		has := map[string]bool{}
		for line := range strings.Lines(now[name] + "\n") {
			has[line] = true
		}
		for line := range strings.Lines(lines + "\n") {
			if !has[line] {
				d.t.Errorf("mailbox %s: gone, or another: %s", name, line)
			}
		}
	}
}

// mailbox returns the nth mailbox, as it is loaded.
func (d *damager) mailbox(n int) (mailboxName, *persistence.Mailbox, *record.State) {
	d.t.Helper()
	m := d.names[n]
	loaded, err := d.store.Load(d.ctx, m.shard, m.name, 1<<20)
	d.check(err)
	state := new(record.State)
	d.check(proto.Unmarshal(loaded.State, state))
	return m, loaded, state
}

// repair changes the nth mailbox by what is made to mend it.
func (d *damager) repair(n int, change func(*persistence.Repair, *record.State)) {
	d.t.Helper()
	m, loaded, state := d.mailbox(n)
	r := persistence.Repair{Mailbox: m.name, Through: persistence.Position{Generation: loaded.Position.Generation, Offset: loaded.Position.Offset - 1}}
	r.Position = loaded.Position
	change(&r, state)
	d.check(d.store.Repair(d.ctx, m.shard, r))
}

func (d *damager) rows(n int, after, upTo int64) []persistence.Row {
	d.t.Helper()
	rows, err := d.store.Operations(d.ctx, d.names[n].shard, d.names[n].name, after, upTo, 1000, 1<<20)
	d.check(err)
	return rows
}

// prefix begins the keys of the nth mailbox in every table.
func (d *damager) prefix(n int) []byte {
	m := d.names[n]
	key := append(binary.BigEndian.AppendUint16(nil, uint16(m.shard)), 2)
	return append(binary.AppendUvarint(key, uint64(len(m.name))), m.name...)
}

// drop removes the cells below a prefix that are wanted, up to the version that
// they have: an older one would come to light.
func (d *damager) drop(table string, prefix []byte, wanted func(row []byte, qualifier string) bool) {
	d.t.Helper()
	stop := bytes.Clone(prefix)
	stop[len(stop)-1]++
	scan, err := hrpc.NewScanRange(d.ctx, []byte(d.name+"_"+table), prefix, stop)
	d.check(err)
	scanner := d.raw.Scan(scan)
	dropped := 0
	for {
		result, err := scanner.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		d.check(err)
		for _, c := range result.Cells {
			if !wanted(c.Row[len(prefix):], string(c.Qualifier)) {
				continue
			}
			cell := map[string]map[string][]byte{"t": {string(c.Qualifier): nil}}
			removal, err := hrpc.NewDel(d.ctx, []byte(d.name+"_"+table), c.Row, cell, hrpc.TimestampUint64(*c.Timestamp))
			d.check(err)
			_, err = d.raw.Delete(removal)
			d.check(err)
			dropped++
		}
	}
	if dropped == 0 {
		d.t.Fatalf("nothing to drop from %s", table)
	}
}

func every([]byte, string) bool { return true }

// harms are the ways in which what HBase has of a mailbox is damaged, each done to
// the mailbox of its number.
var harms = []struct {
	name string
	do   func(d *damager, n int)
	// once: what was mended has the version that is removed here, and HBase hides
	// it until a compaction.
	once bool
}{
	{"rows are gone in the middle", func(d *damager, n int) {
		d.drop("operations", d.prefix(n), func(row []byte, _ string) bool {
			revision := binary.BigEndian.Uint64(row)
			return revision == 3 || revision == 4
		})
	}, false},
	{"the newest row is gone", func(d *damager, n int) {
		_, _, state := d.mailbox(n)
		d.drop("operations", d.prefix(n), func(row []byte, _ string) bool { return binary.BigEndian.Uint64(row) == uint64(state.GetHead()) })
	}, false},
	{"a row is corrupt", func(d *damager, n int) {
		d.repair(n, func(r *persistence.Repair, _ *record.State) {
			r.Rows = d.rows(n, 4, 5)
			r.Rows[0].Data = []byte{0xff}
		})
	}, false},
	{"a body is corrupt", func(d *damager, n int) {
		d.repair(n, func(r *persistence.Repair, _ *record.State) {
			r.Rows = d.rows(n, 4, 5)
			op := new(record.Operation)
			d.check(proto.Unmarshal(r.Rows[0].Data, op))
			for _, m := range []*record.Message{op.GetReceiveMessage(), op.GetSendMessage()} {
				if m != nil {
					m.SealedBody[len(m.SealedBody)-1] ^= 1
				}
			}
			var err error
			r.Rows[0].Data, err = proto.Marshal(op)
			d.check(err)
		})
	}, false},
	{"the state is corrupt", func(d *damager, n int) {
		d.repair(n, func(r *persistence.Repair, _ *record.State) { r.State = []byte{0xff} })
	}, false},
	{"the head is shifted back", func(d *damager, n int) { d.shift(n, -3) }, false},
	{"the head is shifted forth", func(d *damager, n int) { d.shift(n, 2) }, false},
	{"a row is above the head", func(d *damager, n int) {
		d.repair(n, func(r *persistence.Repair, state *record.State) {
			r.Rows = d.rows(n, 4, 5)
			r.Rows[0].Revision = state.GetHead() + 1
		})
	}, false},
	{"two rows are exchanged", func(d *damager, n int) {
		d.repair(n, func(r *persistence.Repair, _ *record.State) {
			r.Rows = d.rows(n, 4, 6)
			r.Rows[0].Revision, r.Rows[1].Revision = 6, 5
		})
	}, false},
	{"the column of the state is gone", func(d *damager, n int) {
		d.drop("mailboxes", d.prefix(n), func(_ []byte, qualifier string) bool { return qualifier == "s" })
	}, false},
	{"the row of the state is gone", func(d *damager, n int) {
		d.drop("mailboxes", d.prefix(n), func(row []byte, _ string) bool { return row[0] == 0 })
	}, true},
	{"the columns of the sources are gone", func(d *damager, n int) {
		d.drop("mailboxes", d.prefix(n), func(_ []byte, qualifier string) bool { return strings.HasPrefix(qualifier, "@") })
	}, true},
	{"the dedup entries are gone", func(d *damager, n int) {
		d.drop("mailboxes", d.prefix(n), func(row []byte, _ string) bool { return row[0] == 1 })
	}, false},
	{"the conversations are gone", func(d *damager, n int) { d.drop("conversations", d.prefix(n), every) }, false},
	{"all rows are gone", func(d *damager, n int) { d.drop("operations", d.prefix(n), every) }, false},
	{"its shard is wiped from the cache", func(*damager, int) {}, false}, // by harmRedis
	{"a part of the state is corrupt", func(d *damager, n int) {
		d.repair(n, func(r *persistence.Repair, _ *record.State) {
			r.Parts = []persistence.Part{{Key: "cmallory", Data: []byte{0xff}}}
		})
	}, false},
	{"the column of the position is gone", func(d *damager, n int) {
		d.drop("mailboxes", d.prefix(n), func(_ []byte, qualifier string) bool { return qualifier == "p" })
	}, false},
	{"the state says that it is ahead of the journal", func(d *damager, n int) {
		d.repair(n, func(r *persistence.Repair, state *record.State) {
			var err error
			r.State, err = proto.Marshal(state)
			d.check(err)
			r.Position.Offset = 1 << 30
		})
	}, false},
}

// shift moves the head of a mailbox.
func (d *damager) shift(n int, by int64) {
	d.t.Helper()
	d.repair(n, func(r *persistence.Repair, state *record.State) {
		state.Head += by
		var err error
		r.State, err = proto.Marshal(state)
		d.check(err)
	})
}

// harm damages mailboxes, each in another way, the marks of a shard, and the cache.
func (d *damager) harm() {
	for n, h := range harms {
		if !d.harmed || !h.once {
			d.t.Logf("mailbox %s: %s", d.names[n].name, h.name)
			h.do(d, n)
		}
	}
	d.harmed = true
	d.harmRedis()
}

// harmRedis wipes one shard of the cache, has another's mark ahead of the
// journal, and changes copies.
func (d *damager) harmRedis() {
	keys, err := d.redis.Keys(d.ctx, d.name+":*").Result()
	d.check(err)
	wiped := fmt.Sprintf("{%04d}", d.names[15].shard)
	ahead := fmt.Sprintf("{%04d}", d.names[len(d.names)-1].shard)
	odd := d.shardBeside(wiped, ahead)
	d.harmStreams(wiped, ahead, odd)
	copies := 0
	for _, key := range keys {
		switch {
		case strings.Contains(key, wiped):
			d.check(d.redis.Del(d.ctx, key).Err())
		case strings.HasSuffix(key, ":mark") && strings.Contains(key, ahead):
			d.check(d.redis.HSet(d.ctx, key, "watermark", fmt.Sprintf("%010d%019d", 9, 9)).Err())
		case strings.HasSuffix(key, ":mark") && strings.Contains(key, odd):
			d.check(d.redis.Del(d.ctx, key).Err())
			d.check(d.redis.RPush(d.ctx, key, "of another type").Err())
		case strings.Contains(key, ":c:") && !strings.Contains(key, ahead) && !strings.Contains(key, odd):
			state, err := d.redis.HGet(d.ctx, key, "s").Result()
			if errors.Is(err, goredis.Nil) {
				continue
			}
			d.check(err)
			stored := new(record.State)
			d.check(proto.Unmarshal([]byte(state), stored))
			stored.NextEpoch += 7
			changed, err := proto.Marshal(stored)
			d.check(err)
			d.check(d.redis.HSet(d.ctx, key, "s", changed).Err())
			copies++
		}
	}
	if copies == 0 {
		d.t.Fatal("no copy in the cache")
	}
}

// shardBeside returns the tag of a shard with mailboxes that is none of some.
func (d *damager) shardBeside(taken ...string) string {
	d.t.Helper()
	for _, m := range d.names {
		if tag := fmt.Sprintf("{%04d}", m.shard); !slices.Contains(taken, tag) {
			return tag
		}
	}
	d.t.Fatal("all mailboxes lie in two shards")
	return ""
}

// harmStreams takes a row out of what the cache has of a mailbox that nothing else is
// wrong with, and makes another one's dedup entries and rows of another type.
func (d *damager) harmStreams(not ...string) {
	d.t.Helper()
	holed, odd := false, false
	for _, m := range d.names[len(harms):] {
		tag := fmt.Sprintf("{%04d}", m.shard)
		fill, err := d.redis.HGet(d.ctx, d.name+":"+tag+":mark", "fill").Result()
		if slices.Contains(not, tag) || errors.Is(err, goredis.Nil) {
			continue
		}
		d.check(err)
		prefix := d.name + ":" + tag + ":" + fill
		rows, err := d.redis.XRange(d.ctx, prefix+":r:"+m.name, "-", "+").Result()
		d.check(err)
		switch {
		case len(rows) > 2 && !holed:
			d.check(d.redis.XDel(d.ctx, prefix+":r:"+m.name, rows[1].ID).Err())
			holed = true
		case len(rows) > 2 && !odd:
			for _, key := range []string{prefix + ":r:" + m.name, prefix + ":d:" + m.name} {
				d.check(d.redis.Del(d.ctx, key).Err())
				d.check(d.redis.RPush(d.ctx, key, "of another type").Err())
			}
			odd = true
		}
	}
	if !holed || !odd {
		d.t.Fatal("no rows in the cache to harm")
	}
}

// expected are the kinds that harm makes.
func (*damager) expected() []correction.Kind {
	return []correction.Kind{
		correction.MissingRow, correction.ExtraRow, correction.DifferentRow, correction.MissingState, correction.DamagedState,
		correction.MissingPlace, correction.ExtraPlace, correction.MissingDedup, correction.MissingSource, correction.SourceBehind,
		correction.CacheMark, correction.CacheState, correction.CacheRow, correction.DamagedMark, correction.SealedBody,
		correction.StateAhead,
	}
}
