//go:build stores

package kafka_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/persistence/persisttest"
	"github.com/tegami-im/tegami/test/stack"
)

// reader fetches a partition again and again from its beginning.
type reader struct {
	broker           *sarama.Broker
	bytes, throttled atomic.Int64
}

func newReader(t *testing.T, o kafka.Options, clientID string) *reader {
	t.Helper()
	config, err := kafka.ClientConfig(o, clientID)
	if err != nil {
		t.Fatal(err)
	}
	config.Net.ReadTimeout = time.Minute // a request that is throttled is read late
	r := &reader{broker: sarama.NewBroker(o.Brokers[0])}
	if err := r.broker.Open(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.broker.Close() })
	return r
}

// fetch reads once, up to 256 KiB.
func (r *reader) fetch(t *testing.T, topic string) {
	t.Helper()
	request := &sarama.FetchRequest{Version: 11, MaxWaitTime: 100, MinBytes: 1, MaxBytes: 256 << 10, SessionEpoch: -1}
	request.AddBlock(topic, 0, 0, 256<<10, -1)
	response, err := r.broker.Fetch(request)
	if err != nil {
		t.Error(err)
		return
	}
	if response.ThrottleTime > 0 {
		r.throttled.Add(1)
	}
	block := response.Blocks[topic][0]
	if block == nil {
		return // an answer that is throttled may be empty
	}
	for _, records := range block.RecordsSet {
		for _, record := range records.RecordBatch.Records {
			r.bytes.Add(int64(len(record.Value)))
		}
	}
}

// A greedy reader with a quota is slowed down; another reader and appends to
// the journal go on.
func TestQuotaSlowsOneClientOnly(t *testing.T) {
	s := stack.Shared(t, stack.Kafka)
	for name, quota := range map[string]kafka.Quota{
		"bytes":   {Client: "greedy-bytes", FetchBytes: 64 << 10},
		"request": {Client: "greedy-request", RequestPercent: 0.1},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, s.Addr(stack.Kafka))
			j := open(t, o)
			record := string(make([]byte, 64<<10))
			for range 8 {
				mustAppend(t, j, 0, record)
			}
			if err := kafka.SetQuota(t.Context(), o, quota); err != nil {
				t.Fatal(err)
			}
			greedy, modest := newReader(t, o, quota.Client), newReader(t, o, "modest")
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					default:
						greedy.fetch(t, o.Topic)
					}
				}
			}()
			deadline := time.Now().Add(time.Minute)
			for greedy.throttled.Load() < 3 && time.Now().Before(deadline) {
				<-time.After(10 * time.Millisecond)
			}
			// While it waits, the others go on.
			before := greedy.bytes.Load()
			const rounds = 40
			for range rounds {
				modest.fetch(t, o.Topic)
				if _, err := persisttest.Append(t.Context(), j, 1, "x"); err != nil {
					t.Fatal(err)
				}
			}
			meanwhile := greedy.bytes.Load() - before
			close(stop)
			<-stopped
			t.Logf("greedy: %d answers were throttled, %d bytes meanwhile; modest: %d, %d bytes; %d appends",
				greedy.throttled.Load(), meanwhile, modest.throttled.Load(), modest.bytes.Load(), rounds)
			if greedy.throttled.Load() < 3 || modest.throttled.Load() > 0 {
				t.Errorf("throttled: %d of the greedy one, %d of the other", greedy.throttled.Load(), modest.throttled.Load())
			}
			if meanwhile*4 > modest.bytes.Load() {
				t.Errorf("the greedy one read %d bytes while the other read %d", meanwhile, modest.bytes.Load())
			}
		})
	}
}

// Quotas are set, listed, replaced and removed.
func TestQuotasAreListed(t *testing.T) {
	s := stack.Shared(t, stack.Kafka)
	o := options(t, s.Addr(stack.Kafka))
	list := func() []kafka.Quota {
		t.Helper()
		all, err := kafka.Quotas(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(all, func(q kafka.Quota) bool { return q.Client != "listed" && q.Client != kafka.DefaultClient })
	}
	for _, step := range []struct {
		set  kafka.Quota
		want []kafka.Quota
	}{
		{kafka.Quota{Client: "listed", FetchBytes: 1000, RequestPercent: 50}, []kafka.Quota{{Client: "listed", FetchBytes: 1000, RequestPercent: 50}}},
		{kafka.Quota{Client: "listed", ProduceBytes: 2000}, []kafka.Quota{{Client: "listed", ProduceBytes: 2000}}},
		{kafka.Quota{Client: "*", FetchBytes: 1e9}, []kafka.Quota{{Client: "*", FetchBytes: 1e9}, {Client: "listed", ProduceBytes: 2000}}},
		{kafka.Quota{Client: "*"}, []kafka.Quota{{Client: "listed", ProduceBytes: 2000}}},
		{kafka.Quota{Client: "listed"}, nil},
	} {
		if err := kafka.SetQuota(t.Context(), o, step.set); err != nil {
			t.Fatal(err)
		}
		// What was set is in the metadata log; the broker follows it.
		got, deadline := list(), time.Now().Add(time.Minute)
		for !slices.Equal(got, step.want) && time.Now().Before(deadline) {
			<-time.After(10 * time.Millisecond)
			got = list()
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("after %+v there are %+v", step.set, got)
		}
	}
	for name, q := range map[string]kafka.Quota{"no client": {FetchBytes: 1}, "a negative limit": {Client: "a", FetchBytes: -1}} {
		if kafka.SetQuota(t.Context(), o, q) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
