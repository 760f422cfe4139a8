//go:build stores

package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/writebehind"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/redis"
	"github.com/tegami-im/tegami/test/stack"
)

const (
	replayShards   = 64
	replayUsers    = 2000
	replayMessages = 100_000 // two operations each
)

// BenchmarkWriteBehindFromAFullJournal opens a node on a journal in Kafka of which
// the stores have nothing, and measures until HBase and Redis have it all: what
// an operator sees after an outage. Replayed records send their follow-ups
// again, which the journal gets and their targets ignore.
func BenchmarkWriteBehindFromAFullJournal(b *testing.B) {
	servers := stack.Start(b, stack.Kafka, stack.HBase, stack.Redis)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	inKafka := kafka.Options{
		Brokers: []string{servers.Addr(stack.Kafka)}, Topic: "full", Shards: replayShards, AllowOneBroker: true,
		Keep: time.Hour, Logger: log,
	}
	check(b, kafka.ApplySchema(b.Context(), inKafka))
	journal, err := kafka.Open(b.Context(), inKafka)
	check(b, err)
	defer func() { check(b, journal.Close()) }()
	keys := memory.NewKeys()
	fillJournal(b, Options{Journal: journal, Store: memory.NewStore(), Keys: keys, Shards: replayShards})

	for i := range b.N {
		b.StopTimer()
		inHBase := hbase.Options{
			ZooKeeper: servers.Addr(stack.HBase), Shards: replayShards, Regions: 4, TablePrefix: fmt.Sprintf("full%d_", i), Logger: log,
		}
		check(b, hbase.ApplySchema(b.Context(), inHBase))
		store, err := hbase.OpenStore(b.Context(), inHBase)
		check(b, err)
		cache, err := redis.Open(redis.Options{Addresses: []string{servers.Addr(stack.Redis)}, Prefix: fmt.Sprintf("full%d", i)})
		check(b, err)
		spent := cpuOf(b, servers)
		began := time.Now()
		b.StartTimer()
		n, err := Start(Options{Journal: journal, Store: store, Cache: cache, Keys: keys, Shards: replayShards, Logger: log})
		check(b, err)
		tick := time.NewTicker(5 * time.Millisecond)
		for !n.Ready() {
			<-tick.C
		}
		ready := time.Since(began)
		for {
			if d := n.Depths(); d.Unstored == 0 && d.Cache == (writebehind.Behind{}) {
				break
			}
			<-tick.C
		}
		tick.Stop()
		b.StopTimer()
		const operations = 2 * replayMessages
		b.ReportMetric(operations/time.Since(began).Seconds(), "operations/s")
		b.ReportMetric(ready.Seconds(), "ready-s")
		for name, after := range cpuOf(b, servers) {
			b.ReportMetric(float64((after-spent[name]).Microseconds())/operations, name+"-µs/op")
		}
		checkReplayed(b, n, store, cache)
		check(b, errors.Join(n.Close(), store.Close(), cache.Close()))
	}
}

// checkReplayed looks for the operations of every mailbox in both stores.
func checkReplayed(b *testing.B, n *Node, store *hbase.Store, cache *redis.Cache) {
	b.Helper()
	for i := range replayUsers {
		const want = 2 * replayMessages / replayUsers
		user := fmt.Sprintf("user%04d", i)
		shard := n.places.Shard(user)
		stored, err := store.Operations(b.Context(), shard, user, 0, want+1, want+1, 1<<20)
		check(b, err)
		cached, err := cache.Operations(b.Context(), shard, user, 0, 0, want+1, want+1, 1<<20)
		if !errors.Is(err, persistence.ErrNotFound) {
			check(b, err)
		}
		if len(stored) != want || len(cached) != want {
			b.Fatalf("%s: %d operations in HBase and %d in Redis, want %d", user, len(stored), len(cached), want)
		}
	}
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// fillJournal has a node on stores in memory send messages between random users.
func fillJournal(b *testing.B, options Options) {
	b.Helper()
	n, err := Start(options)
	check(b, err)
	for !n.Ready() {
		<-time.After(10 * time.Millisecond)
	}
	accounts := make([]talk.NewAccount, replayUsers)
	for i := range accounts {
		accounts[i].User = fmt.Sprintf("user%04d", i)
	}
	_, err = n.CreateAccounts(b.Context(), accounts)
	check(b, err)
	text := strings.Repeat("x", 100)
	var failed atomic.Int64
	var sending sync.WaitGroup
	window := make(chan struct{}, 512)
	for i := range replayMessages {
		window <- struct{}{}
		sending.Add(1)
		n.Send(b.Context(), talk.Send{
			From: accounts[i%replayUsers].User, FromDevice: "d", To: accounts[(i*7919+1)%replayUsers].User,
			ClientMessageID: fmt.Sprint(i), Body: talk.Body{Text: text},
			Answer: func(_ talk.Sent, err error) {
				if err != nil {
					failed.Add(1)
				}
				<-window
				sending.Done()
			},
		})
	}
	sending.Wait()
	if failed := failed.Load(); failed > 0 {
		b.Fatalf("%d sends failed", failed)
	}
	check(b, errors.Join(n.Drain(b.Context()), n.Close()))
}

// cpuOf returns the processor time that each process has spent.
func cpuOf(b *testing.B, servers *stack.Stack) map[string]time.Duration {
	b.Helper()
	spent := map[string]time.Duration{}
	for name, pid := range map[string]int{
		"tegami": os.Getpid(), stack.Kafka: servers.PID(b, stack.Kafka), stack.HBase: servers.PID(b, stack.HBase), stack.Redis: servers.PID(b, stack.Redis),
	} {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		check(b, err)
		text := string(stat)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // from the third on
		var user, system int64
		_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
		check(b, err)
		spent[name] = time.Duration(user+system) * time.Second / 100
	}
	return spent
}
