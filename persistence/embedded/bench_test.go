package embedded_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
)

func openBench(b *testing.B, durability persistence.Durability) *embedded.Storage {
	b.Helper()
	s, err := embedded.Open(embedded.Options{Dir: b.TempDir(), Durability: durability})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// cpuTime is what the process has used, user and system. It says more than the
// time that passed where others use the machine too.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// reportCPU reports the processor time of each operation since start.
func reportCPU(b *testing.B, start time.Duration, operations int) {
	b.ReportMetric(float64((cpuTime()-start).Nanoseconds())/1000/float64(operations), "cpu-µs/op")
}

// BenchmarkAppend appends records of 400 bytes, each when one of those in
// flight was answered.
func BenchmarkAppend(b *testing.B) {
	for _, durability := range []persistence.Durability{persistence.DurabilityFsync, persistence.DurabilityOS} {
		for _, inFlight := range []int{1, 16, 256, 2000} {
			for _, shards := range []int{1, 256} {
				b.Run(fmt.Sprintf("%v/inflight=%d/shards=%d", durability, inFlight, shards), func(b *testing.B) {
					s := openBench(b, durability)
					start := cpuTime()
					appendMany(b, s.Journal, b.N, inFlight, shards)
					b.StopTimer()
					reportCPU(b, start, b.N)
					stats := s.Stats()
					b.ReportMetric(float64(stats.Journal.Fsyncs)/float64(b.N), "fsyncs/op")
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
				})
			}
		}
	}
}

func appendMany(b *testing.B, j persistence.Journal, n, inFlight, shards int) {
	record := make([]byte, 400)
	slots := make(chan struct{}, inFlight)
	var all sync.WaitGroup
	all.Add(n)
	b.ResetTimer()
	for i := range n {
		slots <- struct{}{}
		j.Append(uint32(i%shards), [][]byte{record}, func(_ persistence.Appended, err error) {
			if err != nil {
				b.Error(err)
			}
			<-slots
			all.Done()
		})
	}
	all.Wait()
}

// BenchmarkReplay reads 1,000,000 records of 300 bytes, of 256 shards, as a
// start after a kill does.
func BenchmarkReplay(b *testing.B) {
	const records = 1_000_000
	dir := b.TempDir()
	options := embedded.Options{Dir: dir, Durability: persistence.DurabilityOS}
	s, err := embedded.Open(options)
	if err != nil {
		b.Fatal(err)
	}
	var all sync.WaitGroup
	slots := make(chan struct{}, 1000)
	batch := make([][]byte, 10)
	for i := range batch {
		batch[i] = make([]byte, 300)
	}
	for i := range records / 10 {
		slots <- struct{}{}
		all.Add(1)
		s.Journal.Append(uint32(i%256), batch, func(persistence.Appended, error) { <-slots; all.Done() })
	}
	all.Wait()
	start := cpuTime()
	for b.Loop() {
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if s, err = embedded.Open(options); err != nil {
			b.Fatal(err)
		}
		read := 0
		for shard := range uint32(256) {
			for offset := int64(0); ; {
				entries, err := s.Journal.Read(b.Context(), shard, offset, 1<<20)
				if err != nil {
					b.Fatal(err)
				}
				if len(entries) == 0 {
					break
				}
				offset += int64(len(entries))
				read += len(entries)
			}
		}
		if read != records {
			b.Fatalf("read %d", read)
		}
	}
	b.ReportMetric(records*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	reportCPU(b, start, records*b.N)
	_ = s.Close()
}

func mailboxWrite(i, offset int) persistence.MailboxWrite {
	m := persistence.MailboxWrite{
		Mailbox:  fmt.Sprintf("user%d", i),
		Position: persistence.Position{Generation: 1, Offset: int64(offset)},
		State:    make([]byte, 200),
		Rows:     []persistence.Row{{Revision: int64(offset) + 1, Peer: fmt.Sprintf("user%d", i/2), Data: make([]byte, 250)}},
		Sources:  []persistence.Source{{Mailbox: fmt.Sprintf("user%d", i/2), Position: persistence.Position{Generation: 1, Offset: int64(offset)}}},
		Dedup:    []persistence.DedupEntry{{Time: 20_000 * 86_400_000, Revision: int64(offset) + 1, Position: persistence.Position{Generation: 1, Offset: int64(offset)}}},
	}
	copy(m.Dedup[0].Key[:], fmt.Sprintf("%010d", offset))
	return m
}

// BenchmarkWrite writes batches; one operation is one mailbox of a batch.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("mailboxes=%d", size), func(b *testing.B) {
			s := openBench(b, persistence.DurabilityFsync)
			offset, start := 0, cpuTime()
			b.ResetTimer()
			for n := 0; n < b.N; n += size {
				var batch persistence.Batch
				for range size {
					batch.Mailboxes = append(batch.Mailboxes, mailboxWrite(offset%10_000, offset))
					offset++
				}
				batch.Highest = persistence.Position{Generation: 1, Offset: int64(offset)}
				if err := s.Store.Write(b.Context(), uint32(n/size%256), batch); err != nil {
					b.Fatal(err)
				}
			}
			reportCPU(b, start, b.N)
		})
	}
}

// BenchmarkLoad loads mailboxes out of 100,000.
func BenchmarkLoad(b *testing.B) {
	const mailboxes = 100_000
	s := openBench(b, persistence.DurabilityFsync)
	for first := 0; first < mailboxes; first += 1000 {
		var batch persistence.Batch
		for i := range 1000 {
			batch.Mailboxes = append(batch.Mailboxes, mailboxWrite(first+i, 1))
		}
		if err := s.Store.Write(b.Context(), 0, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("there", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Store.Load(b.Context(), 0, fmt.Sprintf("user%d", i*7919%mailboxes), 1000); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unknown", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Store.Load(b.Context(), 0, fmt.Sprintf("nobody%d", i*7919%mailboxes), 1000); err == nil {
				b.Fatal("found")
			}
		}
	})
}

func BenchmarkKeys(b *testing.B) {
	s := openBench(b, persistence.DurabilityFsync)
	b.Run("create=5000", func(b *testing.B) {
		n := 0
		for b.Loop() {
			names := make([]string, 5000)
			for i := range names {
				names[i] = fmt.Sprintf("user%d", n)
				n++
			}
			if _, err := s.Keys.Create(b.Context(), names); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Keys.Get(b.Context(), fmt.Sprintf("user%d", i*7919%5000)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
