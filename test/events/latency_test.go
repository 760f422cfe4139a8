package events

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
)

// BenchmarkEvents measures how long an event takes to a consumer, from the log
// time of its record, at 300 messages a second: run it with -benchtime=1x. Log
// time is the broker's and has milliseconds: a record is applied later than that,
// never earlier.
func BenchmarkEvents(b *testing.B) {
	const (
		rate   = 300.0
		warmUp = 5 * time.Second
		lasts  = 20 * time.Second
		people = 100
	)
	servers := stack.Start(b, stack.HBase, stack.Kafka)
	binary, config := process.Build(b), configuration(servers)
	applySchema(b, binary, config)
	server := process.Start(b, process.Options{Binary: binary, Config: config})
	var names []string
	for i := range people {
		names = append(names, fmt.Sprintf("user%03d", i))
	}
	server.CreateUsers(names...)
	clients := make([]*process.Client, people)
	for i, name := range names {
		clients[i] = server.Device(name, "phone")
	}
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), warmUp+lasts)
		c := consumer{b: b, from: time.Now().Add(warmUp)}
		var running sync.WaitGroup
		running.Go(func() { c.run(ctx, servers.Addr(stack.Kafka)) })
		sendAt(ctx, b, rate, clients, names)
		running.Wait()
		cancel()
		slices.Sort(c.took)
		if want := int(2 * rate * lasts.Seconds() * 0.9); len(c.took) < want {
			b.Fatalf("%d events were consumed, want %d", len(c.took), want)
		}
		b.ReportMetric(float64(c.took[len(c.took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(c.took[len(c.took)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(len(c.took)), "events")
	}
}

// sendAt sends at random moments, so many a second on average.
func sendAt(ctx context.Context, b *testing.B, rate float64, clients []*process.Client, names []string) {
	random := rand.New(rand.NewPCG(1, 0))
	var sending sync.WaitGroup
	defer sending.Wait()
	for due, n := time.Now(), 0; ; n++ {
		due = due.Add(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		from, to := random.IntN(len(names)), random.IntN(len(names))
		sending.Go(func() {
			request := &tegamiv1.SendMessageRequest{
				To: names[to], ClientMessageId: fmt.Sprint(n), Body: &tegamiv1.SendMessageRequest_Text{Text: "hello"},
			}
			if err := clients[from].Call(context.WithoutCancel(ctx), "TalkService/SendMessage", request, new(tegamiv1.SendMessageResponse)); err != nil {
				b.Error(err)
			}
		})
	}
}

// consumer notes how long events of messages took.
type consumer struct {
	b    *testing.B
	from time.Time // those of earlier records do not count
	took []time.Duration
}

func (c *consumer) run(ctx context.Context, broker string) {
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		c.b.Error(err)
		return
	}
	defer client.Close()
	for ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			e := new(eventsv1.Event)
			if err := proto.Unmarshal(r.Value, e); err != nil {
				c.b.Error(err)
				return
			}
			applied := time.UnixMilli(e.Time)
			if _, ok := fromEvent(e); ok && applied.After(c.from) {
				c.took = append(c.took, time.Since(applied))
			}
		})
	}
}
