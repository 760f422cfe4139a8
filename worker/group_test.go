package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/worker"
)

// fake returns a fake cluster with the topics of the processor.
func fake(t testing.TB, partitions int32) kafka.Options {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	o := kafka.Options{Brokers: cluster.ListenAddrs(), AllowOneBroker: true}
	applyTopics(t, o, worker.DefaultTopics, partitions)
	return o
}

func applyTopics(t testing.TB, o kafka.Options, topics worker.Topics, partitions int32) {
	t.Helper()
	specs := append(topics.Specs(), worker.TopicSpec{Name: topics.Events, Partitions: partitions, Keep: time.Hour})
	for range 2 { // it may be repeated
		if err := worker.ApplyTopics(t.Context(), o, specs...); err != nil {
			t.Fatal(err)
		}
	}
}

// publish writes n events of each user, in turns.
func publish(t testing.TB, o kafka.Options, topic string, users, n int) {
	t.Helper()
	config, err := kafka.ClientConfig(o, "test")
	if err != nil {
		t.Fatal(err)
	}
	producer, err := sarama.NewSyncProducer(o.Brokers, config)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	for i := range n {
		batch := make([]*sarama.ProducerMessage, users)
		for u := range batch {
			value, err := proto.Marshal(&eventsv1.Event{
				User: user(u), Shard: uint32(u), Generation: 1, Offset: int64(i), Time: time.Now().UnixMilli(),
				Kind: &eventsv1.Event_MessageReceived{MessageReceived: &eventsv1.MessageReceived{From: "alice"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			batch[u] = &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(user(u)), Value: sarama.ByteEncoder(value)}
		}
		if err := producer.SendMessages(batch); err != nil {
			t.Fatal(err)
		}
	}
}

func user(u int) string { return fmt.Sprintf("user%d", u) }

// history is a task that notes what it handled.
type history struct {
	mu     sync.Mutex // guards the following
	byUser map[string][]int64
	fail   func(*worker.Event) error
}

func (h *history) Handle(_ context.Context, e *worker.Event) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		if err := h.fail(e); err != nil {
			return err
		}
	}
	if h.byUser == nil {
		h.byUser = map[string][]int64{}
	}
	if !slices.Contains(h.byUser[e.User], e.GetOffset()) {
		h.byUser[e.User] = append(h.byUser[e.User], e.GetOffset())
	}
	return nil
}

func (h *history) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, handled := range h.byUser {
		n += len(handled)
	}
	return n
}

// wantInOrder checks that every event of each user was first handled in order.
func (h *history) wantInOrder(t *testing.T, users, n int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for u := range users {
		handled := h.byUser[user(u)]
		if len(handled) != n || !slices.IsSorted(handled) {
			t.Errorf("%s: %d events of %d, in the order %v", user(u), len(handled), n, handled)
		}
	}
}

// await waits for a condition, with a limit against hanging.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func startGroup(t testing.TB, o kafka.Options, task worker.Task, options worker.Options) *worker.Group {
	t.Helper()
	options.Name = "test"
	g, err := worker.Start(t.Context(), task, o, options)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func closeGroup(t testing.TB, g *worker.Group) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// Workers join and leave while events come; each is first handled in order.
func TestGroupOnFakeCluster(t *testing.T) {
	o := fake(t, 4)
	const users, n = 10, 60
	h := &history{}
	h.fail = func(e *worker.Event) error {
		if e.Attempt == 1 && e.GetOffset()%7 == 0 {
			return errors.New("not yet")
		}
		return nil
	}
	options := worker.Options{Backoff: time.Millisecond, CommitInterval: 20 * time.Millisecond, SessionTimeout: 6 * time.Second}
	first := startGroup(t, o, h, options)
	publish(t, o, worker.DefaultTopics.Events, users, n/3)
	await(t, "some are handled", func() bool { return h.count() > users })
	second := startGroup(t, o, h, options)
	publish(t, o, worker.DefaultTopics.Events, users, n/3*2) // the first third again: it is skipped or handled twice
	await(t, "both have partitions", func() bool { return len(second.Stats().Lag) > 0 && len(first.Stats().Lag) > 0 })
	closeGroup(t, first)
	publish(t, o, worker.DefaultTopics.Events, users, n)
	await(t, "all are handled", func() bool { return h.count() == users*n })
	await(t, "there is no lag", func() bool {
		stats := second.Stats()
		for _, lag := range stats.Lag {
			if lag.Records > 0 || lag.Age > 0 {
				return false
			}
		}
		return len(stats.Lag) == 4+8 && stats.InFlight == 0
	})
	if !second.Joined() || first.Joined() {
		t.Errorf("joined: %v; the one that left: %v", second.Joined(), first.Joined())
	}
	closeGroup(t, second)
	h.wantInOrder(t, users, n)
}

// What was given up is listed, handed back to its task alone, or dropped.
func TestLettersAreListedRetriedAndDropped(t *testing.T) {
	o := fake(t, 2)
	var mu sync.Mutex
	var retried []string
	h := &history{fail: func(e *worker.Event) error {
		if e.Retried {
			mu.Lock()
			defer mu.Unlock()
			retried = append(retried, e.User)
			if e.User == user(2) {
				return worker.Permanent(errors.New("never"))
			}
			return nil
		}
		return worker.Permanent(fmt.Errorf("%s is gone", e.User))
	}}
	g := startGroup(t, o, h, worker.Options{Backoff: time.Millisecond})
	defer closeGroup(t, g)
	publish(t, o, worker.DefaultTopics.Events, 4, 1)

	log, err := worker.OpenLog(t.Context(), o, worker.ClientID)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	letters := worker.NewLetters(log, worker.DefaultTopics)
	list := func(task string) []worker.Letter {
		t.Helper()
		all, err := letters.All(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	await(t, "four are given up", func() bool { return len(list("test")) == 4 })
	if all := list("another"); len(all) > 0 {
		t.Errorf("another task has %d", len(all))
	}
	for _, letter := range list("") {
		if letter.GetReason() != string(letter.GetKey())+" is gone" || letter.GetAttempts() != 1 || letter.GetFirstTime() == 0 ||
			!strings.HasPrefix(letter.ID, "test/tegami.events.v1/") {
			t.Errorf("letter %+v", letter)
		}
		act := letters.Retry
		if string(letter.GetKey()) == user(3) {
			act = letters.Drop
		}
		if err := act(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "one is given up again", func() bool {
		all := list("")
		return len(all) == 1 && all[0].GetReason() == "never" && all[0].GetTopic() == worker.DefaultTopics.Retries
	})
	await(t, "the others are handled", func() bool { return h.count() == 2 })
	mu.Lock()
	defer mu.Unlock()
	if slices.Sort(retried); fmt.Sprint(retried) != "[user0 user1 user2]" {
		t.Errorf("retried %v", retried)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]worker.Options{
		"no name":           {},
		"a name with space": {Name: "a b"},
		"a bound below 1":   {Name: "a", Window: -1},
		"a slow drain":      {Name: "a", DrainTimeout: time.Minute},
		"a back-off":        {Name: "a", Backoff: time.Hour},
		"a timeout":         {Name: "a", Timeout: -1},
	} {
		if _, err := worker.Start(t.Context(), &history{}, kafka.Options{Brokers: []string{"127.0.0.1:1"}}, o); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := worker.Permanent(nil); err != nil {
		t.Error("a permanent nil is an error")
	}
	if err := worker.RetryAfter(nil, time.Second); err != nil {
		t.Error("a delayed nil is an error")
	}
}
