//go:build stores

package hbase_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// BenchmarkWriteBehind writes batches as write-behind does, several shards at a
// time: each operation has its row, its place in a conversation and its dedup
// entry, and each mailbox of a batch its state.
func BenchmarkWriteBehind(b *testing.B) {
	for _, size := range []struct{ mailboxes, operations, writers int }{{500, 1, 4}, {100, 5, 4}, {500, 2, 8}} {
		b.Run(fmt.Sprintf("mailboxes=%d/operations=%d/writers=%d", size.mailboxes, size.operations, size.writers), func(b *testing.B) {
			s := openStore(b, optionsWith(b, 256))
			first := uint32(benchmarks.Add(1) % 32)
			var next atomic.Int64
			var writers sync.WaitGroup
			b.ResetTimer()
			for w := range size.writers {
				writers.Go(func() {
					for round := int64(0); next.Add(1) <= int64(b.N); round++ {
						if err := s.Write(b.Context(), (first+uint32(w)*32)%256, workBatch(round, size.mailboxes, size.operations)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			writers.Wait()
			operations := float64(b.N * size.mailboxes * size.operations)
			b.ReportMetric(operations/b.Elapsed().Seconds(), "operations/s")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)*float64(size.writers)/1000, "ms/batch")
		})
	}
}

// benchmarks makes each run use shards of its own: one that repeats what is
// stored has nothing to write.
var benchmarks atomic.Int64

func workBatch(round int64, mailboxes, operations int) persistence.Batch {
	batch := persistence.Batch{Mailboxes: make([]persistence.MailboxWrite, mailboxes)}
	data := make([]byte, 200)
	for i := range batch.Mailboxes {
		offset := round*int64(mailboxes*operations) + int64((i+1)*operations)
		m := persistence.MailboxWrite{Mailbox: fmt.Sprintf("user%d", i), Position: at(offset), State: make([]byte, 300)}
		for k := range int64(operations) {
			revision := round*int64(operations) + k + 1
			m.Rows = append(m.Rows, persistence.Row{Revision: revision, Peer: fmt.Sprintf("user%d", (i+1)%mailboxes), Data: data})
			entry := persistence.DedupEntry{Time: 1_700_000_000_000 + round, Revision: revision, Position: at(offset)}
			copy(entry.Key[:], fmt.Sprintf("%010d", revision))
			m.Dedup = append(m.Dedup, entry)
		}
		m.Sources = []persistence.Source{{Mailbox: fmt.Sprintf("user%d", (i+1)%mailboxes), Position: at(offset)}}
		batch.Mailboxes[i] = m
		batch.Highest = at(offset)
	}
	batch.Checkpoint = batch.Highest
	return batch
}

// latencies reports the middle and the high ones of what was measured.
func latencies(b *testing.B, all []time.Duration) {
	slices.Sort(all)
	for _, q := range []struct {
		name string
		of   float64
	}{{"p50-ms", 0.5}, {"p99-ms", 0.99}} {
		b.ReportMetric(float64(all[int(q.of*float64(len(all)-1))].Microseconds())/1000, q.name)
	}
}

// BenchmarkRead measures loads, look-ups and pages of a mailbox with 10,000
// operations among others, one after another and 100 at a time.
func BenchmarkRead(b *testing.B) {
	s := newShards(openStore(b, optionsFor(b)))
	const perBatch = 500
	for round := range int64(20) {
		if err := s.Write(b.Context(), 0, workBatch(round, 4, perBatch)); err != nil {
			b.Fatal(err)
		}
	}
	calls := []struct {
		name string
		call func(ctx context.Context, i int) error
	}{
		{"load", func(ctx context.Context, i int) error {
			_, err := s.Load(ctx, 0, fmt.Sprintf("user%d", i%4), 1000)
			return err
		}},
		{"dedup", func(ctx context.Context, i int) error {
			_, _, err := s.Dedup(ctx, 0, fmt.Sprintf("user%d", i%4), [persistence.DedupKeySize]byte{}, 1_700_000_000_000)
			return err
		}},
		{"operations=1000", func(ctx context.Context, i int) error {
			rows, err := s.Operations(ctx, 0, fmt.Sprintf("user%d", i%4), int64(i*997%9000), persistence.MaxRevision, 1000, 4<<20)
			if err == nil && len(rows) != 1000 {
				err = fmt.Errorf("%d rows", len(rows))
			}
			return err
		}},
		{"conversation=50", func(ctx context.Context, i int) error {
			rows, err := s.Conversation(ctx, 0, fmt.Sprintf("user%d", i%4), fmt.Sprintf("user%d", (i+1)%4), 100+int64(i*997%9000), 50, 1<<20)
			if err == nil && len(rows) != 50 {
				err = fmt.Errorf("%d rows", len(rows))
			}
			return err
		}},
	}
	for _, c := range calls {
		for _, readers := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/readers=%d", c.name, readers), func(b *testing.B) {
				all := make([]time.Duration, b.N)
				var next atomic.Int64
				var working sync.WaitGroup
				b.ResetTimer()
				for range readers {
					working.Go(func() {
						for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
							start := time.Now()
							if err := c.call(b.Context(), i); err != nil {
								b.Error(err)
								return
							}
							all[i] = time.Since(start)
						}
					})
				}
				working.Wait()
				latencies(b, all)
			})
		}
	}
}

// BenchmarkSync syncs after a write to each of 256 shards.
func BenchmarkSync(b *testing.B) {
	s := openStore(b, optionsWith(b, 256))
	all := make([]time.Duration, b.N)
	for i := range all {
		for shard := range uint32(256) {
			if err := s.Write(b.Context(), shard, persistence.Batch{Highest: at(1<<30 + int64(i))}); err != nil {
				b.Fatal(err)
			}
		}
		start := time.Now()
		if err := s.Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
		all[i] = time.Since(start)
	}
	latencies(b, all)
}

// BenchmarkCreateKeys makes keys, 100 in a call.
func BenchmarkCreateKeys(b *testing.B) {
	k := openKeys(b, optionsWith(b, 256))
	for i := range b.N {
		mailboxes := make([]string, 100)
		for n := range mailboxes {
			mailboxes[n] = fmt.Sprintf("%s/%d/%d", b.Name(), b.N, i*len(mailboxes)+n)
		}
		if _, err := k.Create(b.Context(), mailboxes); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "keys/s")
}
