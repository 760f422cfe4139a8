package correction_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/correction"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/persisttest"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// shards of a world.
const shards = 2

// world is a journal, a store and a cache, in which users write to each other.
// Everything is stored as soon as it was applied.
type world struct {
	t       testing.TB
	journal persistence.Journal
	store   persistence.Repairer
	keys    persistence.Keys
	cache   *harmedCache

	folder string            // of the store, if it is embedded
	data   *embedded.Storage // likewise
	states map[string]*mailbox.State
	marks  [shards]persistence.CacheMark
	sent   int
	older  *persistence.Mailbox // what was stored of someone before
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, cache: &harmedCache{CacheRepairer: memory.NewCache()}, folder: t.TempDir(), states: map[string]*mailbox.State{}}
	w.open()
	t.Cleanup(func() { _ = w.data.Close() })
	w.fillCache()
	return w
}

func (w *world) open() {
	w.t.Helper()
	data, err := embedded.Open(embedded.Options{Dir: w.folder, Shards: shards, Durability: persistence.DurabilityOS})
	w.check(err)
	w.data, w.journal, w.store, w.keys = data, data.Journal, data.Store, data.Keys
}

// raw changes the rows of the store, behind its back.
func (w *world) raw(change func(db *pebble.DB)) {
	w.t.Helper()
	w.check(w.data.Close())
	db, err := pebble.Open(filepath.Join(w.folder, "store"), &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	w.check(err)
	change(db)
	w.check(db.Close())
	w.open()
}

// quiet logs nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)                   {}
func (quiet) Errorf(string, ...any)                  {}
func (quiet) Fatalf(format string, arguments ...any) { panic(fmt.Sprintf(format, arguments...)) }

// remove takes all rows of a kind of a user out of the store.
func (w *world) remove(kind byte, user string) {
	w.t.Helper()
	w.raw(func(db *pebble.DB) {
		iter, err := db.NewIter(nil)
		w.check(err)
		var keys [][]byte
		for valid := iter.First(); valid; valid = iter.Next() {
			if key := iter.Key(); key[0] == kind && bytes.Contains(key[:min(len(key), 24)], append([]byte{byte(len(user))}, user...)) {
				keys = append(keys, bytes.Clone(key))
			}
		}
		w.check(iter.Close())
		if len(keys) == 0 {
			w.t.Fatalf("no row %c of %s", kind, user)
		}
		for _, key := range keys {
			w.check(db.Delete(key, pebble.Sync))
		}
	})
}

// letGo has the journals let go of everything.
func (w *world) letGo() {
	w.t.Helper()
	for shard := range uint32(shards) {
		bounds, err := w.journal.Bounds(w.t.Context(), shard)
		w.check(err)
		w.check(w.journal.Truncate(w.t.Context(), shard, bounds.Next))
	}
}

func (w *world) fillCache() {
	w.t.Helper()
	for shard := range w.marks {
		mark, err := w.cache.Begin(w.t.Context(), uint32(shard), persistence.Position{})
		w.check(err)
		w.marks[shard] = mark
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func shardOf(user string) uint32 { return uint32(user[0]) % shards }

func (w *world) key(user string) persistence.Key {
	w.t.Helper()
	keys, err := w.keys.Create(w.t.Context(), []string{user})
	w.check(err)
	return keys[0]
}

// do appends a record, applies it and stores what comes of it.
func (w *world) do(r *record.Record) {
	w.t.Helper()
	data, err := proto.Marshal(r)
	w.check(err)
	shard := shardOf(r.GetMailbox())
	landed, err := persisttest.Append(w.t.Context(), w.journal, shard, string(data))
	w.check(err)
	state := w.states[r.GetMailbox()]
	if state == nil {
		state = mailbox.New(r.GetMailbox())
		w.states[r.GetMailbox()] = state
		w.check(w.cache.Fill(w.t.Context(), shard, w.marks[shard], r.GetMailbox(), nil))
	}
	out := state.Apply(mailbox.Input{Position: landed.First, Time: landed.Time, Record: r})
	if out.Fault != "" {
		w.t.Fatal(out.Fault)
	}
	for _, f := range out.FollowUps {
		w.do(f.Record)
	}
	batch := persistence.Batch{Highest: landed.First, Checkpoint: landed.First}
	if out.Write.State != nil {
		batch.Mailboxes = []persistence.MailboxWrite{out.Write}
	}
	w.check(w.store.Write(w.t.Context(), shard, batch))
	w.marks[shard], err = w.cache.Write(w.t.Context(), shard, w.marks[shard], landed.First, batch.Mailboxes)
	w.check(err)
}

func (w *world) command(user string, kind func(*record.Record)) {
	w.t.Helper()
	id := uuid.New()
	r := &record.Record{
		Id: id[:], Mailbox: user, MintTime: time.Now().UnixMilli(), ApplyVersion: mailbox.ApplyVersion,
		DedupKey: id[:persistence.DedupKeySize], BodyHash: id[persistence.DedupKeySize:],
	}
	kind(r)
	w.do(r)
}

func (w *world) register(users ...string) {
	w.t.Helper()
	for _, user := range users {
		w.key(user)
		w.command(user, func(r *record.Record) { r.Kind = &record.Record_CreateAccount{CreateAccount: &record.CreateAccount{}} })
		w.name(user, "mallory", "not a friend")
	}
}

// name has a user give another an alias: an operation without a message, and a
// part of the state.
func (w *world) name(user, peer, alias string) {
	w.t.Helper()
	w.command(user, func(r *record.Record) {
		r.Kind = &record.Record_EditContact{EditContact: &record.EditContact{UserId: peer, Change: &record.EditContact_Alias{Alias: alias}}}
	})
}

func (w *world) send(from, to string) {
	w.t.Helper()
	w.sent++
	key, id, body := w.key(to), uuid.New(), fmt.Appendf(nil, "message %d", w.sent)
	w.command(to, func(r *record.Record) {
		send := &record.Send{
			MessageId: id[:], From: from, ClientMessageId: fmt.Sprint(w.sent), FromDevice: "phone",
			SealedBody: sealing.Seal(key, to, id[:], body),
		}
		if from != to {
			send.SealedCopy = sealing.Seal(w.key(from), from, id[:], body)
		}
		sealing.HashCommand(r.DedupKey, key, from, send.ClientMessageId)
		sealing.HashBody(r.BodyHash, key, body)
		r.Kind = &record.Record_Send{Send: send}
	})
}

// talk has everybody write to everybody, and sync.
func (w *world) talk(rounds int, users ...string) {
	w.t.Helper()
	for range rounds {
		for _, from := range users {
			for _, to := range users {
				w.send(from, to)
			}
		}
	}
	w.check(w.store.Sync(w.t.Context()))
}

func (w *world) options() correction.Options {
	return correction.Options{Journal: w.journal, Store: w.store, Cache: w.cache, Keys: w.keys, Shards: shards}
}

// look returns what is found, by kind.
func (w *world) look(change ...func(*correction.Options)) *correction.Report {
	w.t.Helper()
	o := w.options()
	o.Found = func(f correction.Finding) { w.t.Logf("%+v", f) }
	for _, c := range change {
		c(&o)
	}
	report, err := correction.Run(w.t.Context(), o, 0, shards)
	w.check(err)
	return report
}

// repairing has what is found repaired at once: nobody else writes.
func repairing(o *correction.Options) {
	o.Hold = func(ctx context.Context, _ uint32, _ string, repair func(context.Context, persistence.Position) error) error {
		return repair(ctx, persistence.Position{})
	}
}

// everything returns all that the store has of a mailbox.
func (w *world) everything(user string) (items []persistence.Item) {
	w.t.Helper()
	err := w.store.ScanMailbox(w.t.Context(), shardOf(user), user, func(item *persistence.Item) error {
		if item.Err != nil {
			return errors.Join(fmt.Errorf("%v", item.Kind), item.Err)
		}
		copied := *item
		copied.State, copied.Row.Data = append([]byte(nil), item.State...), append([]byte(nil), item.Row.Data...)
		copied.Part.Data = append([]byte(nil), item.Part.Data...)
		copied.Written = persistence.Position{}
		if copied.Kind == persistence.ItemDedup {
			copied.Dedup.Position = persistence.Position{} // one made anew has another
		}
		items = append(items, copied)
		return nil
	})
	w.check(err)
	return items
}
