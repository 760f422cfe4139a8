//go:build stores

package kafka_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/test/stack"
)

// cpu returns the processor time that this process took, in microseconds.
func cpu(b *testing.B) float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return float64(usage.Utime.Sec+usage.Stime.Sec)*1e6 + float64(usage.Utime.Usec+usage.Stime.Usec)
}

// brokerCPU returns the processor time that Kafka took, in microseconds.
func brokerCPU(b *testing.B, s *stack.Stack) float64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID(b, stack.Kafka)))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) * 1e4 // in hundredths of a second
}

// BenchmarkAppend has each shard append one record after another, as the shard
// actors do, while all shards are tailed, and reports this process's processor
// time for an append.
func BenchmarkAppend(b *testing.B) {
	s := stack.Shared(b, stack.Kafka)
	for _, shards := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			o := options(b, s.Addr(stack.Kafka))
			o.Shards, o.Logger = shards, nil
			j := open(b, o)
			for shard := range uint32(shards) {
				b.Cleanup(j.Tail(shard, func(int64) {}))
			}
			record := [][]byte{make([]byte, 300)}
			var all sync.WaitGroup
			before := cpu(b)
			for b.Loop() {
				// One append of each shard: b.N counts rounds.
				all.Add(shards)
				for shard := range uint32(shards) {
					j.Append(shard, record, func(_ persistence.Appended, err error) {
						if err != nil {
							b.Error(err)
						}
						all.Done()
					})
				}
				all.Wait()
			}
			appends := float64(b.N) * float64(shards)
			b.ReportMetric((cpu(b)-before)/appends, "µs-cpu/append")
			b.ReportMetric(appends/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

// BenchmarkPaced appends a number of records a second over 256 shards, evenly
// spread in time, with and without spacing.
func BenchmarkPaced(b *testing.B) {
	for _, rate := range []float64{300, 4000} {
		for _, spacing := range []time.Duration{-1, time.Millisecond, 2 * time.Millisecond} {
			b.Run(fmt.Sprintf("rate=%v/spacing=%v", rate, max(spacing, 0)), func(b *testing.B) { paced(b, rate, spacing) })
		}
	}
}

func paced(b *testing.B, rate float64, spacing time.Duration) {
	s := stack.Shared(b, stack.Kafka)
	const shards = 256
	o := options(b, s.Addr(stack.Kafka))
	o.Topic = "paced"
	o.Shards, o.Logger, o.Spacing = shards, nil, spacing
	j := open(b, o)
	for shard := range uint32(shards) {
		b.Cleanup(j.Tail(shard, func(int64) {}))
	}
	record := [][]byte{make([]byte, 300)}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		total time.Duration
	)
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	before, broker, began, n := cpu(b), brokerCPU(b, s), time.Now(), 0
	for b.Loop() {
		now := <-ticker.C // b.N counts milliseconds
		for ; float64(n) < now.Sub(began).Seconds()*rate; n++ {
			all.Add(1)
			sent := time.Now()
			j.Append(uint32(n*97%shards), record, func(_ persistence.Appended, err error) {
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				total += time.Since(sent)
				mu.Unlock()
				all.Done()
			})
		}
	}
	all.Wait()
	b.ReportMetric((cpu(b)-before)/float64(n), "µs-cpu/append")
	b.ReportMetric((brokerCPU(b, s)-broker)/float64(n), "broker-µs-cpu/append")
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "appends/s")
	b.ReportMetric(float64(total.Microseconds())/float64(n), "µs/append")
}

// BenchmarkTailIdle tails 256 shards to which nobody appends: b.N counts tenths
// of a second.
func BenchmarkTailIdle(b *testing.B) {
	s := stack.Shared(b, stack.Kafka)
	o := options(b, s.Addr(stack.Kafka))
	o.Shards, o.Logger = 256, nil
	j := open(b, o)
	for shard := range uint32(o.Shards) {
		b.Cleanup(j.Tail(shard, func(int64) {}))
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	before, began := cpu(b), time.Now()
	for b.Loop() {
		<-ticker.C
	}
	b.ReportMetric((cpu(b)-before)/time.Since(began).Seconds()/1000, "ms-cpu/s")
}
