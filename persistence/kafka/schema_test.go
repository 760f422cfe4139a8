package kafka_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

func TestSchemaIsAppliedOnce(t *testing.T) {
	_, o := fake(t, 3)
	if _, err := kafka.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "schema apply") {
		t.Fatalf("opening without topics returns %v", err)
	}
	j := open(t, o)
	if _, err := persisttest.Append(t.Context(), j, 0, "x"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := kafka.ApplySchema(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := persisttest.ReadAll(t.Context(), j, 0, 0); err != nil || len(entries) != 1 {
		t.Fatalf("read %v, %v", entries, err)
	}
	if _, err := persisttest.Append(t.Context(), j, 0, strings.Repeat("x", 7<<20)); err != nil {
		t.Errorf("the topic does not take the largest append: %v", err)
	}
}

// Each setting that does not keep the journal's promises is named.
func TestSettingsAreChecked(t *testing.T) {
	good := map[string]string{
		"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1",
		"unclean.leader.election.enable": "false", "min.insync.replicas": "2", "max.message.bytes": "16777216",
	}
	for _, test := range []struct{ name, value string }{
		{"message.timestamp.type", "CreateTime"},
		{"cleanup.policy", "compact"},
		{"retention.ms", "604800000"},
		{"retention.bytes", "1073741824"},
		{"unclean.leader.election.enable", "true"},
		{"min.insync.replicas", "1"},
		{"min.insync.replicas", "4"},
		{"max.message.bytes", "1048588"},
	} {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			cluster, o := fake(t, 3)
			configs := maps.Clone(good)
			configs[test.name] = test.value
			if err := cluster.CreateTopic(o.Topic, persisttest.Shards, configs); err != nil {
				t.Fatal(err)
			}
			err := kafka.ApplySchema(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), test.name+"="+test.value) || !strings.Contains(err.Error(), "mend it with") {
				t.Fatalf("schema apply returns %v", err)
			}
			if _, err := kafka.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), test.name+"="+test.value) {
				t.Fatalf("open returns %v", err)
			}
		})
	}
}

func TestOneBrokerMustBeAllowed(t *testing.T) {
	_, o := fake(t, 1)
	o.AllowOneBroker, o.Replicas = false, 1
	if err := kafka.ApplySchema(t.Context(), o); err == nil || !strings.Contains(err.Error(), "allow one broker") {
		t.Fatalf("schema apply returns %v", err)
	}
	o.AllowOneBroker = true
	open(t, o)
}

func TestOneReplicaOnSeveralBrokersIsRefused(t *testing.T) {
	_, o := fake(t, 3)
	o.AllowOneBroker, o.Replicas = true, 1
	if err := kafka.ApplySchema(t.Context(), o); err == nil || !strings.Contains(err.Error(), "min.insync.replicas=1 on 3 brokers") {
		t.Fatalf("schema apply returns %v", err)
	}
}

func TestNumberOfShardsNeverChanges(t *testing.T) {
	_, o := fake(t, 3)
	open(t, o)
	o.Shards *= 2
	for name, err := range map[string]error{"schema apply": kafka.ApplySchema(t.Context(), o), "open": openError(t, o)} {
		if err == nil || !strings.Contains(err.Error(), "the number of shards never changes") {
			t.Errorf("%s returns %v", name, err)
		}
	}
}

func openError(t *testing.T, o kafka.Options) error {
	j, err := kafka.Open(t.Context(), o)
	if err == nil {
		_ = j.Close()
	}
	return err
}

// A topic that was lost and made again is noticed, and accepted by an operator
// only: its records then lie above everything that was.
func TestLostTopicIsNoticed(t *testing.T) {
	cluster, o := fake(t, 3)
	j := open(t, o)
	if _, err := persisttest.Append(t.Context(), j, 0, "lost"); err != nil {
		t.Fatal(err)
	}
	if err := j.StartGeneration(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	_ = j.Close()
	lose(t, cluster, o.Topic)
	for name, err := range map[string]error{"open": openError(t, o), "schema apply": kafka.ApplySchema(t.Context(), o), "open again": openError(t, o)} {
		if err == nil {
			t.Fatalf("%s: the loss is not noticed", name)
		}
	}
	o.AcceptNewTopic = true
	if err := kafka.ApplySchema(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.AcceptNewTopic = false
	j = reopen(t, o)
	for shard, want := range []uint32{3, 2} {
		bounds, err := j.Bounds(t.Context(), uint32(shard))
		if err != nil || bounds != (persistence.Bounds{Generation: want}) {
			t.Errorf("bounds of shard %d are %+v, %v; want generation %d", shard, bounds, err, want)
		}
		appended, err := persisttest.Append(t.Context(), j, uint32(shard), "new")
		if err != nil || appended.First != (persistence.Position{Generation: want}) {
			t.Errorf("the first append of shard %d landed at %+v, %v", shard, appended.First, err)
		}
	}
}

func lose(t *testing.T, cluster *kfake.Cluster, topic string) {
	t.Helper()
	if err := cluster.DeleteTopic(topic); err != nil {
		t.Fatal(err)
	}
}
