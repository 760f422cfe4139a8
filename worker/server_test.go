//go:build stores

package worker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/worker"
)

func TestMain(m *testing.M) { stack.Main(m) }

// waiting is a task of a millisecond of waiting, which checks the order.
type waiting struct {
	t       testing.TB
	handled atomic.Int64
	mu      sync.Mutex       // guards next
	next    map[string]int64 // the journal offset of the next event of each user
}

func (w *waiting) Handle(_ context.Context, e *worker.Event) error {
	<-time.After(time.Millisecond)
	w.mu.Lock()
	if e.GetOffset() != w.next[e.User] {
		w.t.Errorf("event %d of %s comes when %d should", e.GetOffset(), e.User, w.next[e.User])
	}
	w.next[e.User]++
	w.mu.Unlock()
	w.handled.Add(1)
	return nil
}

// BenchmarkTasks handles events of 1,000 users, a millisecond of waiting each,
// from a real Kafka, in the order of each user. b.N counts events.
func BenchmarkTasks(b *testing.B) {
	s := stack.Shared(b, stack.Kafka)
	o := kafka.Options{Brokers: []string{s.Addr(stack.Kafka)}, AllowOneBroker: true}
	const users = 1000
	for run, inFlight := range []int{16, 64, 256} {
		b.Run(fmt.Sprintf("inFlight=%d", inFlight), func(b *testing.B) {
			topics := worker.Topics{
				Events:  fmt.Sprintf("events-%d-%d", run, b.N),
				Retries: fmt.Sprintf("retries-%d-%d", run, b.N), Letters: fmt.Sprintf("letters-%d-%d", run, b.N),
			}
			applyTopics(b, o, topics, 16)
			rounds := (b.N + users - 1) / users
			publish(b, o, topics.Events, users, rounds)
			task := &waiting{t: b, next: map[string]int64{}}
			b.ResetTimer()
			g := startGroup(b, o, task, worker.Options{Group: topics.Events, Topics: topics, InFlight: inFlight})
			await(b, "all are handled", func() bool { return task.handled.Load() == int64(rounds*users) })
			b.StopTimer()
			b.ReportMetric(float64(rounds*users)/b.Elapsed().Seconds(), "events/s")
			closeGroup(b, g)
		})
	}
}
