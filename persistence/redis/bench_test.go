//go:build stores

package redis_test

import (
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/redis"
)

const (
	benchRecords   = 512
	benchMailboxes = 300
	benchState     = 300 // bytes
)

// traffic makes batches of 100-byte messages, each for the next mailbox.
type traffic struct {
	offset    int64
	revisions [benchMailboxes]int64
	serial    int
}

func (g *traffic) batch() []persistence.MailboxWrite {
	writes := make([]persistence.MailboxWrite, benchMailboxes)
	for i := range writes {
		writes[i] = persistence.MailboxWrite{Mailbox: fmt.Sprintf("user%d", i), State: make([]byte, benchState)}
	}
	for i := range benchRecords {
		g.offset++
		g.serial++
		m := &writes[i%benchMailboxes]
		g.revisions[i%benchMailboxes]++
		revision := g.revisions[i%benchMailboxes]
		m.Position = at(g.offset)
		m.Rows = append(m.Rows, persistence.Row{Revision: revision, Peer: "somebody", Data: make([]byte, 100)})
		e := persistence.DedupEntry{Time: 1_700_000_000_000, Revision: revision, Position: at(g.offset)}
		copy(e.Key[:], fmt.Sprintf("%010d", g.serial))
		m.Dedup = append(m.Dedup, e)
		if i%4 == 0 {
			m.Sources = append(m.Sources, persistence.Source{Mailbox: "somebody", Position: at(g.offset)})
		}
	}
	return writes
}

// filled is a cache with copies of the mailboxes and some batches written.
func filled(b *testing.B, batches int, settings ...string) (c *redis.Cache, admin *goredis.Client, g *traffic, mark persistence.CacheMark) {
	b.Helper()
	s := startServer(b, settings...)
	c, g = open(b, redis.Options{}, s), &traffic{}
	ctx := b.Context()
	mark, err := c.Begin(ctx, 0, at(0))
	check(b, err)
	for i := range benchMailboxes {
		check(b, c.Fill(ctx, 0, mark, fmt.Sprintf("user%d", i), nil))
	}
	for range batches {
		writes := g.batch()
		mark, err = c.Write(ctx, 0, mark, at(g.offset), writes)
		check(b, err)
	}
	return c, s.admin(), g, mark
}

// BenchmarkWrite writes 512 records over 300 mailboxes. server-ms is how long
// the server does nothing else.
func BenchmarkWrite(b *testing.B) {
	c, admin, g, mark := filled(b, 20)
	ctx := b.Context()
	check(b, admin.Do(ctx, "CONFIG", "RESETSTAT").Err())
	var err error
	var spent time.Duration
	for b.Loop() {
		writes := g.batch()
		start := time.Now()
		mark, err = c.Write(ctx, 0, mark, at(g.offset), writes)
		spent += time.Since(start)
		check(b, err)
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(b.N)/1000, "ms/batch")
	b.ReportMetric(float64(b.N)*benchRecords/spent.Seconds(), "records/s")
	reportServer(b, admin)
}

// reportServer reports the mean time of a script at the server.
func reportServer(b *testing.B, admin *goredis.Client) {
	b.Helper()
	info, err := admin.InfoMap(b.Context(), "commandstats").Result()
	check(b, err)
	var calls, total, each float64
	if _, err := fmt.Sscanf(info["Commandstats"]["cmdstat_evalsha"], "calls=%f,usec=%f,usec_per_call=%f", &calls, &total, &each); err == nil {
		b.ReportMetric(each/1000, "server-ms")
	}
}

func BenchmarkLoad(b *testing.B) {
	c, admin, g, _ := filled(b, 30)
	check(b, admin.Do(b.Context(), "CONFIG", "RESETSTAT").Err())
	for i := 0; b.Loop(); i++ {
		m, err := c.Load(b.Context(), 0, fmt.Sprintf("user%d", i%benchMailboxes), 4096, at(g.offset))
		if err != nil || len(m.Dedup) < 30 {
			b.Fatal(len(m.Dedup), err)
		}
	}
	reportServer(b, admin)
}

func BenchmarkOperations(b *testing.B) {
	c, admin, _, _ := filled(b, 100)
	check(b, admin.Do(b.Context(), "CONFIG", "RESETSTAT").Err())
	for i := 0; b.Loop(); i++ {
		rows, err := c.Operations(b.Context(), 0, fmt.Sprintf("user%d", i%benchMailboxes), 0, 0, 100, 100, 1<<20)
		if err != nil || len(rows) != 100 {
			b.Fatal(len(rows), err)
		}
	}
	reportServer(b, admin)
}

// BenchmarkMemory reports what a mailbox takes, by its keys: a copy of 300
// bytes of state and one source, and for each message a row and a dedup entry.
func BenchmarkMemory(b *testing.B) {
	for _, messages := range []int64{2, 50, 500} {
		for _, nodeBytes := range []string{"4096", "1024"} {
			b.Run(fmt.Sprintf("messages=%d/node=%s", messages, nodeBytes), func(b *testing.B) {
				for b.Loop() {
					reportMemory(b, messages, "--stream-node-max-bytes", nodeBytes)
				}
			})
		}
	}
}

func reportMemory(b *testing.B, messages int64, settings ...string) {
	b.Helper()
	c, admin, g, mark := filled(b, 0, settings...)
	ctx := b.Context()
	var err error
	for g.revisions[0] < messages {
		writes := g.batch()
		mark, err = c.Write(ctx, 0, mark, at(g.offset), writes)
		check(b, err)
	}
	all := float64(0)
	for kind, name := range map[string]string{"c": "copy", "d": "dedup", "r": "rows"} {
		size, err := admin.MemoryUsage(ctx, "tegami:{0000}:"+mark.Fill+":"+kind+":user0", 0).Result()
		check(b, err)
		b.ReportMetric(float64(size), name+"-bytes")
		all += float64(size)
	}
	b.ReportMetric(all, "mailbox-bytes")
}
