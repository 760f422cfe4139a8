package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/persistence/kafka"
)

// Topics are the names of those that the processor uses.
type Topics struct {
	// Events holds the events, one partition after another for a user.
	Events string
	// Retries holds dead letters that were handed back to their tasks.
	Retries string
	// Letters holds the dead letters: compacted, in one partition.
	Letters string
}

// DefaultTopics are the topics that are used unless told otherwise.
var DefaultTopics = Topics{
	Events:  "tegami.events.v1",
	Retries: "tegami.tasks.retry",
	Letters: "tegami.tasks.dead",
}

// TopicSpec is how a topic is made.
type TopicSpec struct {
	Name       string
	Partitions int32
	// Compact keeps the newest value of each key; Keep, if above 0, bounds how
	// long anything is kept.
	Compact bool
	Keep    time.Duration
}

const (
	retryPartitions = 8
	// keepRetries is how long a task may be away before what it was handed back
	// is lost: as long as Kafka keeps the progress of a group that is away.
	keepRetries = 7 * 24 * time.Hour
	// maxLetterBytes is more than the largest event and what a letter adds to it.
	maxLetterBytes = 2 << 20
)

// Specs returns how the topics for retries and dead letters are made. That of
// the events belongs to their publisher.
func (t Topics) Specs() []TopicSpec {
	return []TopicSpec{
		{Name: t.Retries, Partitions: retryPartitions, Keep: keepRetries},
		{Name: t.Letters, Partitions: 1, Compact: true},
	}
}

// ApplyTopics makes the topics that are missing. What is there stays as it is,
// unless its cleanup policy would lose what must stay: that is an error.
func ApplyTopics(ctx context.Context, o kafka.Options, specs ...TopicSpec) error {
	config, err := kafka.ClientConfig(o, ClientID)
	if err != nil {
		return err
	}
	config.Net.ReadTimeout = applyTimeout
	config.Admin.Timeout = applyTimeout / 2
	err = within(ctx, func() error {
		admin, err := sarama.NewClusterAdmin(o.Brokers, config)
		if err != nil {
			return err
		}
		defer func() { _ = admin.Close() }() // nothing is lost with it
		var wrong error
		for _, spec := range specs {
			wrong = errors.Join(wrong, spec.apply(admin, o))
		}
		return wrong
	})
	return kafka.Unanswered(ctx, err)
}

// applyTimeout is how long a cluster has to make a topic.
const applyTimeout = 30 * time.Second

func (s TopicSpec) policy() string {
	switch {
	case s.Compact && s.Keep > 0:
		return "compact,delete"
	case s.Compact:
		return "compact"
	default:
		return "delete"
	}
}

func (s TopicSpec) apply(admin sarama.ClusterAdmin, o kafka.Options) error {
	replicas := o.Replicas
	if replicas == 0 {
		replicas = map[bool]int{true: 1, false: 3}[o.AllowOneBroker]
	}
	value := func(v string) *string { return &v }
	detail := &sarama.TopicDetail{
		NumPartitions: s.Partitions, ReplicationFactor: int16(replicas),
		ConfigEntries: map[string]*string{
			"cleanup.policy":                 value(s.policy()),
			"max.message.bytes":              value(strconv.Itoa(maxLetterBytes)),
			"min.insync.replicas":            value(strconv.Itoa(max(1, min(2, replicas-1)))),
			"unclean.leader.election.enable": value("false"),
			"retention.ms":                   value("-1"),
		},
	}
	if s.Keep > 0 {
		detail.ConfigEntries["retention.ms"] = value(strconv.FormatInt(s.Keep.Milliseconds(), 10))
	}
	err := admin.CreateTopic(s.Name, detail, false)
	if !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		if err != nil {
			return fmt.Errorf("create topic %s: %w", s.Name, err)
		}
		return nil
	}
	return s.check(admin)
}

func (s TopicSpec) check(admin sarama.ClusterAdmin) error {
	const policy = "cleanup.policy"
	resource := &sarama.ConfigResource{Type: sarama.TopicResource, Name: s.Name, ConfigNames: []string{policy}}
	described, err := admin.DescribeConfigs([]*sarama.ConfigResource{resource}, sarama.DescribeConfigsOptions{})
	if err != nil {
		return fmt.Errorf("ask for the settings of topic %s: %w", s.Name, err)
	}
	for _, result := range described {
		for _, entry := range result.Configs {
			if entry.Name == policy && entry.Value != s.policy() {
				return fmt.Errorf("topic %s has %s=%s, must be %s; mend it with: kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config %s=[%s]",
					s.Name, policy, entry.Value, s.policy(), s.Name, policy, s.policy())
			}
		}
	}
	return nil
}

// within runs a call that knows no context, and leaves it behind when the
// context ends: the call has a limit of its own.
func within(ctx context.Context, call func() error) error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
