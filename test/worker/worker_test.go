// Package worker runs worker processes on a real Kafka, kills them under load,
// and counts what arrives at a receiver that fails, hangs and redirects.
package worker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/worker"
	"github.com/tegami-im/tegami/worker/analytics"
)

func TestMain(m *testing.M) { process.Main(m) }

const (
	// hangLimit is a limit against hanging: ten times what things take.
	hangLimit  = 2 * time.Minute
	partitions = 8
	users      = 200
	// absentEvery is how many messages there are for one that finds a device
	// absent.
	absentEvery = 10
)

var secret = []byte("a secret of the tests")

// system is a Kafka and what workers need.
type system struct {
	t      *testing.T
	kafka  kafka.Options
	binary string
	// config is the configuration, and file has it.
	config, file string
	receiver     *receiver
	producer     sarama.SyncProducer
	published    atomic.Int64
}

func start(t *testing.T) *system {
	t.Helper()
	servers := stack.Start(t, stack.Kafka)
	s := &system{
		t: t, binary: process.Build(t), receiver: newReceiver(t, 1),
		kafka: kafka.Options{Brokers: []string{servers.Addr(stack.Kafka)}, AllowOneBroker: true},
	}
	s.configure(servers.Addr(stack.Kafka), s.receiver.url)
	specs := append(worker.DefaultTopics.Specs(), analytics.Spec(analytics.DefaultTopic),
		worker.TopicSpec{Name: worker.DefaultTopics.Events, Partitions: partitions, Keep: time.Hour})
	if err := worker.ApplyTopics(t.Context(), s.kafka, specs...); err != nil {
		t.Fatal(err)
	}
	config, err := kafka.ClientConfig(s.kafka, "test-publisher")
	if err != nil {
		t.Fatal(err)
	}
	if s.producer, err = sarama.NewSyncProducer(s.kafka.Brokers, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.producer.Close() })
	return s
}

// publish writes n events of each user, the next ones in order.
func (s *system) publish(n int) {
	s.t.Helper()
	for range n {
		at := s.published.Load() / users
		batch := make([]*sarama.ProducerMessage, users)
		for u := range batch {
			batch[u] = s.message(fmt.Sprintf("user%d", u), at)
		}
		if err := s.producer.SendMessages(batch); err != nil {
			s.t.Error(err)
			return
		}
		s.published.Add(users)
	}
}

func (s *system) message(user string, at int64) *sarama.ProducerMessage {
	received := &eventsv1.MessageReceived{MessageId: fmt.Sprint(user, "/", at), From: "alice"}
	if at%absentEvery == 0 {
		received.AbsentDevices = []string{"phone"}
	}
	value, err := proto.Marshal(&eventsv1.Event{
		User: user, Shard: 1, Generation: 1, Offset: at, Time: time.Now().UnixMilli(),
		Kind: &eventsv1.Event_MessageReceived{MessageReceived: received},
	})
	if err != nil {
		s.t.Error(err)
	}
	return &sarama.ProducerMessage{Topic: worker.DefaultTopics.Events, Key: sarama.StringEncoder(user), Value: sarama.ByteEncoder(value)}
}

// await waits for a condition, with a limit against hanging.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(hangLimit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// taken waits until so many events more were taken.
func (s *system) taken(more int) {
	s.t.Helper()
	before, _, _ := s.receiver.counts()
	await(s.t, fmt.Sprintf("%d more are taken", more), func() bool {
		taken, _, _ := s.receiver.counts()
		return taken >= before+more
	})
}

// counted sums the analytics.
func (s *system) counted() int64 {
	s.t.Helper()
	log, err := worker.OpenLog(s.t.Context(), s.kafka, "test")
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	n, err := log.Partitions(analytics.DefaultTopic)
	if err != nil {
		s.t.Fatal(err)
	}
	newest := map[string]analytics.Count{}
	for partition := range n {
		err := log.ReadAll(s.t.Context(), analytics.DefaultTopic, partition, func(m *sarama.ConsumerMessage) {
			var count analytics.Count
			if err := json.Unmarshal(m.Value, &count); err != nil {
				s.t.Errorf("%s: %v", m.Value, err)
			}
			newest[string(m.Key)] = count
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	total := int64(0)
	for _, count := range newest {
		total += count.Messages
	}
	return total
}

// Workers are killed, stopped and started while events come and the receiver
// makes trouble: every event arrives, in the order of its user; each message
// counts once; after a stop in good order nothing comes again.
func TestWorkersKilledAndRebalanced(t *testing.T) {
	s := start(t)
	s.receiver.trouble = 10
	first, second := s.startWorker(), s.startWorker()
	enough, publishing := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(publishing)
		for {
			select {
			case <-enough:
				return
			default:
			}
			s.publish(1)
			taken, _, _ := s.receiver.counts()
			for s.published.Load()-int64(taken) > 10*users && t.Context().Err() == nil { // so that all goes on under load
				<-time.After(10 * time.Millisecond)
				taken, _, _ = s.receiver.counts()
			}
		}
	}()
	s.taken(1000)
	first.Kill()
	s.taken(1000)
	third, fourth := s.startWorker(), s.startWorker()
	s.taken(1000)
	await(t, "the new workers have partitions", func() bool {
		return third.Sum("tegami_task_events_total") > 0 && fourth.Sum("tegami_task_events_total") > 0
	})
	third.Kill()
	second.Stop()
	s.taken(1000)
	close(enough)
	<-publishing
	await(t, "every event is taken", func() bool {
		taken, _, _ := s.receiver.counts()
		return int64(taken) == s.published.Load()
	})
	s.receiver.set(func() { s.receiver.trouble = 0 })
	await(t, "every message is counted", func() bool { return s.counted() >= s.published.Load() })
	await(t, "there is no lag", func() bool {
		return fourth.Sum("tegami_task_lag_records")+fourth.Sum("tegami_task_lag_seconds")+fourth.Sum("tegami_task_in_flight") == 0
	})
	rounds := int(s.published.Load()) / users
	if got, want := s.receiver.notifications(), users*((rounds+absentEvery-1)/absentEvery); got != want {
		t.Errorf("%d messages were notified of, want %d", got, want)
	}
	if got := fourth.Sum(`tegami_task_events_total{outcome="dead"`); got > 0 {
		t.Errorf("%v events became dead letters", got)
	}
	fourth.Stop()
	if got := s.counted(); got != s.published.Load() {
		t.Errorf("%d messages were counted, want %d", got, s.published.Load())
	}

	_, again, refused := s.receiver.counts()
	last := s.startWorker()
	s.publish(1)
	s.taken(users)
	if _, now, _ := s.receiver.counts(); now != again {
		t.Errorf("%d events came again after a stop in good order", now-again)
	}
	last.Stop()
	t.Logf("%d events, 0 missing, 0 out of order, %d came again, %d requests refused", s.published.Load(), again, refused)
}

// What the receiver does not want ever is listed, handed back and dropped by
// command.
func TestDeadLettersByCommand(t *testing.T) {
	s := start(t)
	s.receiver.set(func() { s.receiver.gone["user1"], s.receiver.gone["user2"] = true, true })
	w := s.startWorker()
	s.publish(2)
	list := func(more ...string) []string {
		return slices.Collect(strings.Lines(s.run(append([]string{"tasks", "list", "--output", "json"}, more...)...)))
	}
	await(t, "four are given up", func() bool { return w.Sum("tegami_task_events_total") > 0 && len(list()) == 4 })
	first := list("--limit", "1")
	if len(first) != 1 {
		t.Fatalf("a page of 1 is %q", first)
	}
	id := field(t, first[0], "id")
	if rest := list("--after", id, "--task", "webhook"); len(rest) != 3 || !strings.Contains(rest[0], "410") {
		t.Errorf("after it there are %q", rest)
	}
	s.receiver.set(func() { clear(s.receiver.gone) })
	if printed := s.run("tasks", "drop", id); printed != "Dropped: 1.\n" {
		t.Error(printed)
	}
	dropped := field(t, first[0], "user")
	// Its second event would be out of order without the first.
	s.receiver.set(func() { s.receiver.next[dropped] = 1 })
	if printed := s.run("tasks", "retry", "--all", "--task", "webhook"); printed != "Handed back: 3.\n" {
		t.Error(printed)
	}
	await(t, "the others are taken", func() bool {
		taken, _, _ := s.receiver.counts()
		return taken == 2*users-1
	})
	if left := list(); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
	w.Stop()
}

func field(t *testing.T, line, name string) string {
	t.Helper()
	var values map[string]any
	if err := json.Unmarshal([]byte(line), &values); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(values[name])
}
