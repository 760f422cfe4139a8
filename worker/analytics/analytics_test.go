package analytics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/IBM/sarama"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/worker"
)

// memory is a topic of one partition. Some appends fail in the middle.
type memory struct {
	random  *rand.Rand
	records []*sarama.ConsumerMessage
}

func (*memory) Partitions(string) (int32, error) { return 1, nil }

func (m *memory) Append(_ context.Context, records ...*sarama.ProducerMessage) error {
	for _, r := range records {
		if m.random.IntN(4) == 0 {
			return errors.New("no broker")
		}
		key, _ := r.Key.Encode()
		value, _ := r.Value.Encode()
		m.records = append(m.records, &sarama.ConsumerMessage{Key: key, Value: value})
	}
	return nil
}

func (m *memory) ReadAll(_ context.Context, _ string, _ int32, take func(*sarama.ConsumerMessage)) error {
	for _, r := range m.records {
		take(r)
	}
	return nil
}

// totals sums the newest counts by minute.
func (m *memory) totals(t *testing.T) map[int64]int64 {
	t.Helper()
	newest := map[string]Count{}
	for _, r := range m.records {
		var count Count
		if err := json.Unmarshal(r.Value, &count); err != nil {
			t.Fatal(err)
		}
		if count.Messages > 0 { // else it is a place
			newest[string(r.Key)] = count
		}
	}
	totals := map[int64]int64{}
	for _, count := range newest {
		totals[count.Minute] += count.Messages
	}
	return totals
}

// publish makes a topic of messages of some users over six minutes, of which the
// publisher published some again, and counts them by minute.
func publish(random *rand.Rand) (events []*eventsv1.Event, want map[int64]int64) {
	const start, messages = 1_700_000_040, 300
	want = map[int64]int64{}
	for i := range messages {
		minute := start + 60*int64(i/50+random.IntN(2))
		want[minute]++
		events = append(events, &eventsv1.Event{
			User: fmt.Sprint("user", random.IntN(5)), Generation: 1, Offset: int64(i), Time: minute * 1000,
			Kind: &eventsv1.Event_MessageReceived{MessageReceived: &eventsv1.MessageReceived{}},
		})
		if random.IntN(30) == 0 {
			events = append(events, events[max(0, len(events)-random.IntN(60)):]...)
		}
	}
	return events, want
}

// Owners come and go at random, with a crash anywhere between flush and commit:
// each message counts once.
func TestEachMessageCountsOnce(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			log := &memory{random: random}
			source := worker.Source{Topic: "events", Partition: 3}
			published, want := publish(random)
			events, total := int64(len(published)), int64(0)
			for _, n := range want {
				total += n
			}
			committed := int64(0)
			for committed < events {
				counted := int64(0)
				task := New(log, "counts", func(n int64) { counted += n })
				if err := task.Assigned(t.Context(), source); err != nil {
					t.Fatal(err)
				}
				for next := committed; next < events && random.IntN(8) > 0; {
					upTo := min(events, next+int64(random.IntN(20)))
					ahead := min(events, upTo+int64(random.IntN(10))) // handled above the lowest unfinished one
					for offset := next; offset < ahead; offset++ {
						mustHandle(t, task, source, offset, published[offset])
					}
					next = upTo
					if task.Flush(t.Context(), source, next) != nil || random.IntN(5) == 0 {
						break // it crashes before the commit
					}
					committed = next
				}
				task.Revoked(source)
				if handle(t, task, source, 0, published[0]) == nil {
					t.Error("a call that outlived the assignment is a success")
				}
				if counted > total {
					t.Errorf("%d were counted", counted)
				}
			}
			if got := log.totals(t); !maps.Equal(got, want) {
				t.Errorf("counted %v, want %v", got, want)
			}
		})
	}
}

func mustHandle(t *testing.T, task *Task, source worker.Source, offset int64, event *eventsv1.Event) {
	t.Helper()
	if err := handle(t, task, source, offset, event); err != nil {
		t.Fatal(err)
	}
}

func handle(t *testing.T, task *Task, source worker.Source, offset int64, event *eventsv1.Event) error {
	t.Helper()
	return task.Handle(t.Context(), &worker.Event{Event: event, Source: source, Offset: offset})
}

// Only messages count, and what the topic has forgotten is forgotten.
func TestWhatIsKept(t *testing.T) {
	log := &memory{random: rand.New(rand.NewPCG(1, 0))}
	source := worker.Source{Topic: "events"}
	task := New(log, "counts", func(int64) {})
	if err := task.Assigned(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	sent := &eventsv1.Event{Kind: &eventsv1.Event_MessageSent{MessageSent: &eventsv1.MessageSent{}}}
	if err := task.Handle(t.Context(), &worker.Event{Event: sent, Source: source, Offset: 0}); err != nil {
		t.Fatal(err)
	}
	const first = 1_700_000_040
	minutes := []int64{first, first + 60, first + int64(Keep/time.Second) + 60}
	for i, minute := range minutes {
		mustHandle(t, task, source, int64(i+1), &eventsv1.Event{
			User: fmt.Sprint("user", i), Offset: int64(i), Time: minute*1000 + 59_999,
			Kind: &eventsv1.Event_MessageReceived{MessageReceived: &eventsv1.MessageReceived{}},
		})
	}
	for task.Flush(t.Context(), source, 4) != nil {
	}
	if kept := task.sources[source]; len(kept.minutes) != 2 || len(kept.places) != 1 {
		t.Errorf("kept %v", kept)
	}
	if got := log.totals(t); len(got) != 3 {
		t.Errorf("counted %v", got)
	}
}
