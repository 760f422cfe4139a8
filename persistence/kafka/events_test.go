package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/kafka"
)

const eventPartitions = 5

func eventsOptions(connection kafka.Options) kafka.EventsOptions {
	return kafka.EventsOptions{
		Connection: connection, Topic: fmt.Sprintf("events-%d", topics.Add(1)), Partitions: eventPartitions, Retention: time.Hour,
	}
}

// openEvents makes the topic and opens the publisher, which the test closes.
func openEvents(t testing.TB, o kafka.EventsOptions) *kafka.Events {
	t.Helper()
	if err := kafka.ApplyEventsSchema(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	e, err := kafka.OpenEvents(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// publishAll publishes events, each as "user: text", and waits.
func publishAll(t testing.TB, e *kafka.Events, lines ...string) error {
	t.Helper()
	var events []persistence.Event
	for _, line := range lines {
		user, text, _ := strings.Cut(line, ": ")
		events = append(events, persistence.Event{User: user, Data: []byte(text)})
	}
	outcome := make(chan error, 1)
	e.Publish(events, func(err error) { outcome <- err })
	select {
	case err := <-outcome:
		return err
	case <-time.After(time.Minute):
		t.Fatal("a publication was not answered")
		return nil
	}
}

// consume reads so many records of a topic by another client, and returns them
// by key, and the partitions that they lay in.
func consume(t testing.TB, o kafka.EventsOptions, count int) (values map[string][]string, partitions map[string]int32) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Connection.Brokers...), kgo.ConsumeTopics(o.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	values, partitions = map[string][]string{}, map[string]int32{}
	for count > 0 {
		fetched := client.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatal(err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			key := string(r.Key)
			if before, ok := partitions[key]; ok && before != r.Partition {
				t.Errorf("%s lies in partitions %d and %d", key, before, r.Partition)
			}
			values[key], partitions[key] = append(values[key], string(r.Value)), r.Partition
			count--
		})
	}
	return values, partitions
}

func TestEventsOfAUserKeepTheirOrder(t *testing.T) {
	_, connection := fake(t, 3)
	o := eventsOptions(connection)
	e := openEvents(t, o)
	const users, each = 20, 15
	var publishing sync.WaitGroup
	for user := range users {
		publishing.Go(func() {
			for i := range each {
				line := fmt.Sprintf("user%d: %d", user, i)
				if err := publishAll(t, e, line, line+"'"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	values, partitions := consume(t, o, users*each*2)
	used := map[int32]bool{}
	for user := range users {
		name := fmt.Sprintf("user%d", user)
		var want []string
		for i := range each {
			want = append(want, fmt.Sprint(i), fmt.Sprint(i, "'"))
		}
		if got := strings.Join(values[name], " "); got != strings.Join(want, " ") {
			t.Errorf("%s: %s", name, got)
		}
		used[partitions[name]] = true
	}
	if len(used) != eventPartitions {
		t.Errorf("%d partitions are used of %d", len(used), eventPartitions)
	}
}

// Kafka's own clients, this one of Go among them, find a user's events where
// they would have put them.
func TestPartitionsAreThoseOfOtherClients(t *testing.T) {
	_, connection := fake(t, 1)
	o := eventsOptions(connection)
	e := openEvents(t, o)
	other, err := kgo.NewClient(kgo.SeedBrokers(o.Connection.Brokers...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	const users = 50
	for user := range users {
		name := fmt.Sprintf("user%d", user)
		if err := publishAll(t, e, name+": ours"); err != nil {
			t.Fatal(err)
		}
		if err := other.ProduceSync(t.Context(), &kgo.Record{Topic: o.Topic, Key: []byte(name), Value: []byte("theirs")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	consume(t, o, 2*users) // it compares the partitions
}

func TestAPublicationFailsAsAWhole(t *testing.T) {
	cluster, connection := fake(t, 1)
	o := eventsOptions(connection)
	e := openEvents(t, o)
	produce(cluster, kerr.NotLeaderForPartition)
	if err := publishAll(t, e, "alice: 1", "bob: 1"); err == nil {
		t.Fatal("what the broker refused counts as published")
	}
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
	published := 0
	for published == 0 { // it is sent again on another connection, or fails
		if err := publishAll(t, e, "alice: 1", "bob: 1"); err == nil {
			published++
		}
	}
	values, _ := consume(t, o, 2*published)
	if len(values["alice"]) != published || len(values["bob"]) != published {
		t.Errorf("consumed %v", values)
	}
}

func TestEventsSchemaIsAppliedOnce(t *testing.T) {
	cluster, connection := fake(t, 3)
	o := eventsOptions(connection)
	if _, err := kafka.OpenEvents(t.Context(), o); err == nil || !strings.Contains(err.Error(), "schema apply") {
		t.Fatalf("opening without a topic returns %v", err)
	}
	for range 2 {
		if err := kafka.ApplyEventsSchema(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	more := o
	more.Partitions++
	for name, err := range map[string]error{
		"schema apply": kafka.ApplyEventsSchema(t.Context(), more),
		"open": func() error {
			_, err := kafka.OpenEvents(t.Context(), more)
			return err
		}(),
	} {
		if err == nil || !strings.Contains(err.Error(), "5 partitions") {
			t.Errorf("%s accepts another number of partitions: %v", name, err)
		}
	}
	for setting, value := range map[string]string{"cleanup.policy": "compact", "retention.ms": "1000", "unclean.leader.election.enable": "true"} {
		wrong := eventsOptions(connection)
		configs := map[string]string{
			"cleanup.policy": "delete", "retention.ms": "3600000", "unclean.leader.election.enable": "false", "min.insync.replicas": "2",
		}
		configs[setting] = value
		if err := cluster.CreateTopic(wrong.Topic, eventPartitions, configs); err != nil {
			t.Fatal(err)
		}
		if err := kafka.ApplyEventsSchema(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), setting+"="+value) {
			t.Errorf("%s=%s: schema apply returns %v", setting, value, err)
		}
	}
}

func TestEventsOptionsAreChecked(t *testing.T) {
	_, connection := fake(t, 1)
	for name, change := range map[string]func(*kafka.EventsOptions){
		"no topic":      func(o *kafka.EventsOptions) { o.Topic = "" },
		"no partitions": func(o *kafka.EventsOptions) { o.Partitions = 0 },
		"no retention":  func(o *kafka.EventsOptions) { o.Retention = 0 },
		"no brokers":    func(o *kafka.EventsOptions) { o.Connection.Brokers = nil },
	} {
		o := eventsOptions(connection)
		change(&o)
		if err := kafka.ApplyEventsSchema(t.Context(), o); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestClosedEventsAnswer(t *testing.T) {
	before := goleak.IgnoreCurrent()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2))
	if err != nil {
		t.Fatal(err)
	}
	connection := options(t, "")
	connection.Brokers, connection.AllowOneBroker, connection.Replicas = cluster.ListenAddrs(), false, 2
	o := eventsOptions(connection)
	e := openEvents(t, o)
	if err := publishAll(t, e, "alice: 1"); err != nil {
		t.Fatal(err)
	}
	cluster.Close()
	outcome := make(chan error, 2)
	for range 2 { // one under way, one that waits
		e.Publish([]persistence.Event{{User: "alice", Data: []byte("2")}}, func(err error) { outcome <- err })
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-outcome; err == nil {
			t.Error("published without a cluster")
		}
	}
	if err := publishAll(t, e, "alice: 3"); !errors.Is(err, persistence.ErrClosed) {
		t.Errorf("after Close it answers %v", err)
	}
	goleak.VerifyNone(t, before)
}
