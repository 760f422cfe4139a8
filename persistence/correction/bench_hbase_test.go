//go:build stores

package correction_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/correction"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/transfer"
	"github.com/tegami-im/tegami/test/stack"
)

func TestMain(m *testing.M) { stack.Main(m) }

// BenchmarkMillionOnHBase imports a million operations into HBase, and compares
// them.
func BenchmarkMillionOnHBase(b *testing.B) {
	folder := b.TempDir()
	data := openLarge(b, filepath.Join(folder, "data"))
	populate(b, data.Store, data.Keys)
	file, err := os.Create(filepath.Join(folder, "export"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	source := transfer.Source{Journal: data.Journal, Store: data.Store, Keys: data.Keys, Shards: largeShards}
	if _, err := transfer.Export(b.Context(), source, transfer.Selection{UpTo: largeShards}, file, nil); err != nil {
		b.Fatal(err)
	}
	o := hbase.Options{
		ZooKeeper: stack.Shared(b, stack.HBase).Addr(stack.HBase), Shards: largeShards, Regions: 2, RequestTimeout: 20 * time.Second,
		Logger: slog.New(slog.DiscardHandler),
	}
	if err := hbase.ApplySchema(b.Context(), o); err != nil {
		b.Fatal(err)
	}
	store, err := hbase.OpenStore(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	keys, err := hbase.OpenKeys(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = keys.Close() }()
	journal := memory.NewJournal(persistence.DurabilityFsync)
	defer func() { _ = journal.Close() }()
	b.Run("import", func(b *testing.B) {
		for b.Loop() { // more than once it finds everything there
			importLarge(b, file, transfer.Target{Journal: journal, Store: store, Keys: keys})
		}
	})
	b.Run("correct", func(b *testing.B) {
		for b.Loop() {
			correctLarge(b, correction.Options{Journal: journal, Store: store, Keys: keys, Shards: largeShards})
		}
	})
}
