//go:build stores

package hbase_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/persistence/persisttest"
	"github.com/tegami-im/tegami/test/stack"
)

func TestMain(m *testing.M) { stack.Main(m) }

// suiteShards are enough for every test to have shards of its own: making
// tables takes a second, and removing rows is no better.
const suiteShards = 8192

// address returns where HBase is: that of the tests' stack, unless
// TEGAMI_TEST_HBASE names the ZooKeeper of a running one, which saves its start.
// Each run leaves its tables there: a small heap is full after some ten runs.
func address(t testing.TB) string {
	t.Helper()
	if running := os.Getenv("TEGAMI_TEST_HBASE"); running != "" {
		return running
	}
	return stack.Shared(t, stack.HBase).Addr(stack.HBase)
}

func logTo(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// prefix is that of this run's tables, so that a running HBase can be used
// again.
var prefix = fmt.Sprintf("test_%d_", time.Now().UnixNano())

// applied are the schemas that this run has made.
var applied struct {
	sync.Mutex
	shards map[int]bool
}

func optionsFor(t testing.TB) hbase.Options {
	t.Helper()
	return optionsWith(t, suiteShards)
}

// optionsWith returns options for this run's tables with a number of shards,
// which it makes first.
func optionsWith(t testing.TB, shards int) hbase.Options {
	t.Helper()
	o := hbase.Options{
		ZooKeeper:   address(t),
		TablePrefix: fmt.Sprint(prefix, shards, "_"),
		Shards:      shards,
		// Each region in use takes 2 MiB of the server's small heap.
		Regions: min(2, shards/1000+1),
		// A machine that is busy with other suites must not fail this one.
		RequestTimeout: 20 * time.Second,
		Logger:         logTo(t.Output()),
	}
	applied.Lock()
	defer applied.Unlock()
	if !applied.shards[shards] {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := hbase.ApplySchema(ctx, o); err != nil {
			t.Fatal(err)
		}
		if applied.shards == nil {
			applied.shards = map[int]bool{}
		}
		applied.shards[shards] = true
	}
	return o
}

func openStore(t testing.TB, o hbase.Options) *hbase.Store {
	t.Helper()
	s, err := hbase.OpenStore(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openKeys(t testing.TB, o hbase.Options) *hbase.Keys {
	t.Helper()
	k, err := hbase.OpenKeys(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

var usedShards atomic.Uint32

// shardsOf is a store's part for one test: shards that no other test has used.
type shardsOf struct {
	persistence.Store
	first uint32
}

func newShards(s persistence.Store) shardsOf {
	first := usedShards.Add(persisttest.Shards) - persisttest.Shards
	return shardsOf{s, first % suiteShards}
}

func (s shardsOf) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (*persistence.Mailbox, error) {
	return s.Store.Load(ctx, s.first+shard, mailbox, maxDedup)
}

func (s shardsOf) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	return s.Store.Write(ctx, s.first+shard, batch)
}

func (s shardsOf) Dedup(ctx context.Context, shard uint32, mailbox string, key [persistence.DedupKeySize]byte, notBefore int64) (persistence.DedupEntry, bool, error) {
	return s.Store.Dedup(ctx, s.first+shard, mailbox, key, notBefore)
}

func (s shardsOf) Operations(ctx context.Context, shard uint32, mailbox string, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	return s.Store.Operations(ctx, s.first+shard, mailbox, after, upTo, limit, maxBytes)
}

func (s shardsOf) Conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, limit, maxBytes int) ([]persistence.Row, error) {
	return s.Store.Conversation(ctx, s.first+shard, mailbox, peer, before, limit, maxBytes)
}

func (s shardsOf) Marks(ctx context.Context, shard uint32) (persistence.Marks, error) {
	return s.Store.Marks(ctx, s.first+shard)
}

func TestStore(t *testing.T) {
	for _, durability := range []hbase.Durability{hbase.DurabilitySync, hbase.DurabilityFsync} {
		t.Run(durability.String(), func(t *testing.T) {
			persisttest.Store(t, func(t *testing.T) *persisttest.StoreInstance {
				o := optionsFor(t)
				o.Durability = durability
				return instanceOf(t, o, newShards(openStore(t, o)))
			})
		})
	}
}

// TestStoreInSmallRequests is the contract with batches and pages of a few
// rows, so that every call makes several requests.
func TestStoreInSmallRequests(t *testing.T) {
	persisttest.Store(t, func(t *testing.T) *persisttest.StoreInstance {
		o := optionsFor(t)
		o.BatchRows, o.BatchBytes, o.Requests, o.Loads = 7, 1<<10, 3, 1
		return instanceOf(t, o, newShards(openStore(t, o)))
	})
}

func instanceOf(t *testing.T, o hbase.Options, s shardsOf) *persisttest.StoreInstance {
	return &persisttest.StoreInstance{
		Store: s,
		Reopen: func() *persisttest.StoreInstance {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return instanceOf(t, o, shardsOf{openStore(t, o), s.first})
		},
	}
}

// keysOf is a key store's part for one test.
type keysOf struct {
	persistence.Keys
	name string
}

func (k keysOf) Create(ctx context.Context, mailboxes []string) ([]persistence.Key, error) {
	named := make([]string, len(mailboxes))
	for i, mailbox := range mailboxes {
		named[i] = k.name + mailbox
	}
	return k.Keys.Create(ctx, named)
}

func (k keysOf) Get(ctx context.Context, mailbox string) (persistence.Key, error) {
	return k.Keys.Get(ctx, k.name+mailbox)
}

func (k keysOf) Delete(ctx context.Context, mailbox string) error {
	return k.Keys.Delete(ctx, k.name+mailbox)
}

func TestKeys(t *testing.T) {
	persisttest.Keys(t, func(t *testing.T) *persisttest.KeysInstance {
		o := optionsFor(t)
		return keysInstanceOf(t, o, keysOf{openKeys(t, o), t.Name()})
	})
}

func keysInstanceOf(t *testing.T, o hbase.Options, k keysOf) *persisttest.KeysInstance {
	return &persisttest.KeysInstance{
		Keys: k,
		Reopen: func() *persisttest.KeysInstance {
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			return keysInstanceOf(t, o, keysOf{openKeys(t, o), k.name})
		},
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	o := optionsFor(t)
	before := goleak.IgnoreCurrent()
	s, k := openStore(t, o), openKeys(t, o)
	shards := newShards(s)
	err := shards.Write(t.Context(), 0, persistence.Batch{Highest: at(1), Mailboxes: []persistence.MailboxWrite{{Mailbox: "a", Position: at(1)}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Create(t.Context(), []string{t.Name()}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
}

func at(offset int64) persistence.Position {
	return persistence.Position{Generation: 1, Offset: offset}
}
