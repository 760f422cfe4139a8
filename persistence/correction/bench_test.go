package correction_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/correction"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/sealing"
	"github.com/tegami-im/tegami/persistence/transfer"
)

// A large store: mailboxes with so many operations each, a million in all.
const (
	largeShards    = 64
	largeMailboxes = 10_000
	largeEach      = 100
)

func largeName(n int) string { return fmt.Sprintf("user%05d", n) }

func largeShard(name string) uint32 {
	n := uint32(0)
	for _, c := range []byte(name) {
		n = n*31 + uint32(c)
	}
	return n % largeShards
}

// populate writes a large store in which nothing is wrong. All messages were
// received, half an hour ago.
func populate(b *testing.B, store persistence.Store, keys persistence.Keys) {
	b.Helper()
	at := time.Now().Add(-30 * time.Minute).UnixMilli()
	batches := make([]persistence.Batch, largeShards)
	write := func(shard uint32) {
		batch := &batches[shard]
		if err := store.Write(b.Context(), shard, *batch); err != nil {
			b.Fatal(err)
		}
		batch.Mailboxes = nil
	}
	names := make([]string, largeMailboxes)
	for n := range names {
		names[n] = largeName(n)
	}
	made, err := keys.Create(b.Context(), names)
	if err != nil {
		b.Fatal(err)
	}
	for n, name := range names {
		shard := largeShard(name)
		batch := &batches[shard]
		w := persistence.MailboxWrite{Mailbox: name}
		for i := range int64(largeEach) {
			batch.Highest = persistence.Position{Generation: 1, Offset: batch.Highest.Offset + 1}
			id := make([]byte, persistence.MessageIDSize)
			binary.BigEndian.PutUint64(id, uint64(n))
			binary.BigEndian.PutUint64(id[8:], uint64(i))
			from := largeName((n + int(i)) % largeMailboxes)
			op := &record.Operation{Revision: i + 1, Time: at + i, Kind: &record.Operation_ReceiveMessage{ReceiveMessage: &record.Message{
				MessageId: id, From: from, To: name, ClientMessageId: fmt.Sprint(i), Time: at + i, SealedBody: sealing.Seal(made[n], name, id, make([]byte, 72)),
			}}}
			data, err := proto.Marshal(op)
			if err != nil {
				b.Fatal(err)
			}
			w.Rows = append(w.Rows, persistence.Row{Revision: i + 1, Peer: from, Data: data})
			w.Dedup = append(w.Dedup, persistence.DedupEntry{
				Key: [persistence.DedupKeySize]byte(id[6:]), MessageID: [persistence.MessageIDSize]byte(id),
				Time: at + i, Revision: i + 1, Position: batch.Highest,
			})
		}
		w.Position, batch.Checkpoint = batch.Highest, batch.Highest
		state, err := proto.Marshal(&record.State{ApplyVersion: 1, Time: at + largeEach, Head: largeEach, First: 1, Account: &record.Account{}, NextEpoch: 1})
		if err != nil {
			b.Fatal(err)
		}
		w.State = state
		if batch.Mailboxes = append(batch.Mailboxes, w); len(batch.Mailboxes) == 50 {
			write(shard)
		}
	}
	for shard := range uint32(largeShards) {
		write(shard)
	}
	if err := store.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// peak samples the memory that Go has taken from the system, while f runs.
func peak(f func()) (bytes uint64) {
	runtime.GC()
	done, sampled := make(chan struct{}), make(chan uint64)
	go func() {
		highest, tick := uint64(0), time.NewTicker(10*time.Millisecond)
		defer tick.Stop()
		for {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			highest = max(highest, stats.HeapInuse+stats.StackInuse)
			select {
			case <-tick.C:
			case <-done:
				sampled <- highest
				return
			}
		}
	}()
	f()
	close(done)
	return <-sampled
}

func openLarge(b *testing.B, dir string) *embedded.Storage {
	b.Helper()
	data, err := embedded.Open(embedded.Options{Dir: dir, Shards: largeShards})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = data.Close() })
	// The journal of a store that was written without one is a generation ahead.
	for shard := range uint32(largeShards) {
		if err := data.Journal.StartGeneration(b.Context(), shard); err != nil {
			b.Fatal(err)
		}
	}
	return data
}

func correctLarge(b *testing.B, o correction.Options) {
	b.Helper()
	began := time.Now()
	highest := peak(func() {
		report, err := correction.Run(b.Context(), o, 0, largeShards)
		if err != nil || report.Operations != largeMailboxes*largeEach || len(report.Found) > 0 {
			b.Fatalf("%+v, %v", report, err)
		}
	})
	b.ReportMetric(time.Since(began).Seconds(), "s/million")
	b.ReportMetric(float64(highest)/1e6, "MB")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkMillion compares, exports and imports a million operations.
func BenchmarkMillion(b *testing.B) {
	folder := b.TempDir()
	data := openLarge(b, filepath.Join(folder, "data"))
	populate(b, data.Store, data.Keys)
	b.Run("correct", func(b *testing.B) {
		for b.Loop() {
			correctLarge(b, correction.Options{Journal: data.Journal, Store: data.Store, Keys: data.Keys, Shards: largeShards})
		}
	})
	file, err := os.Create(filepath.Join(folder, "export"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	b.Run("export", func(b *testing.B) {
		for b.Loop() {
			began := time.Now()
			if _, err := file.Seek(0, 0); err != nil {
				b.Fatal(err)
			}
			source := transfer.Source{Journal: data.Journal, Store: data.Store, Keys: data.Keys, Shards: largeShards}
			if _, err := transfer.Export(b.Context(), source, transfer.Selection{UpTo: largeShards}, file, nil); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(began).Seconds(), "s/million")
			b.ReportMetric(0, "ns/op")
		}
	})
	b.Run("import", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			to := openLarge(b, filepath.Join(folder, fmt.Sprint("to", n)))
			importLarge(b, file, transfer.Target{Journal: to.Journal, Store: to.Store, Keys: to.Keys})
		}
	})
}

func importLarge(b *testing.B, file *os.File, target transfer.Target) {
	b.Helper()
	target.Shards, target.ShardOf = largeShards, largeShard
	if _, err := file.Seek(0, 0); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	highest := peak(func() {
		counts, _, err := transfer.Import(b.Context(), target, file, nil)
		if err != nil || counts.Rows != largeMailboxes*largeEach {
			b.Fatalf("%+v, %v", counts, err)
		}
	})
	b.ReportMetric(time.Since(began).Seconds(), "s/million")
	b.ReportMetric(float64(highest)/1e6, "MB")
	b.ReportMetric(0, "ns/op")
}
