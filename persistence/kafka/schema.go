package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

// setting is one that a topic must have, and why.
type setting struct {
	name, value, why string
}

const (
	minInSync   = "min.insync.replicas"
	maxMessage  = "max.message.bytes"
	cleanup     = "cleanup.policy"
	stampType   = "message.timestamp.type"
	unclean     = "unclean.leader.election.enable"
	segmentSize = "segment.bytes"

	retentionTime = "retention.ms"
)

// recordSettings are those of the topic of the records.
var recordSettings = []setting{
	{stampType, "LogAppendTime", "log time must be the broker's"},
	{cleanup, "delete", "compaction would take records out of the log"},
	{retentionTime, "-1", "only Tegami knows what may go"},
	{"retention.bytes", "-1", "only Tegami knows what may go"},
	{unclean, "false", "a replica that was left behind would lose acknowledged records"},
}

// generationSettings are those of the topic of the generations.
var generationSettings = []setting{
	{cleanup, "compact", "it holds the newest value of each key, for ever"},
	{unclean, "false", "a replica that was left behind would lose generations"},
}

// ApplySchema makes the topics that are missing, and then checks both as Open
// does. What is there is never changed: an error says what does not fit and how
// to mend it.
func ApplySchema(ctx context.Context, options Options) error {
	j, err := start(ctx, options)
	if err != nil {
		return err
	}
	defer func() { _ = j.Close() }()
	if err := j.apply(ctx); err != nil {
		return fmt.Errorf("apply the schema of the journal: %w", Unanswered(ctx, err))
	}
	return nil
}

func (j *Journal) apply(ctx context.Context) error {
	t := j.routes.current.Load()
	missing := map[string]*sarama.TopicDetail{}
	if t.partitions == 0 {
		detail := newTopic(&j.options, int32(j.options.Shards), recordSettings)
		value, segment := strconv.Itoa(j.options.maxMessageBytes()), strconv.Itoa(max(64<<20, 2*j.options.maxMessageBytes()))
		detail.ConfigEntries[maxMessage] = &value
		// Space is freed by whole segments.
		detail.ConfigEntries[segmentSize] = &segment
		missing[j.options.Topic] = detail
	}
	if !t.generationsExists {
		missing[j.options.generationsTopic()] = newTopic(&j.options, 1, generationSettings)
	}
	if len(missing) > 0 {
		if err := createTopics(ctx, j.routes, j.config, missing); err != nil {
			return err
		}
	}
	if err := j.awaitTopics(ctx); err != nil {
		return err
	}
	if err := j.checkSettings(ctx); err != nil {
		return err
	}
	return j.adopt(ctx)
}

func newTopic(o *Options, partitions int32, settings []setting) *sarama.TopicDetail {
	// One replica may fail, where there are three.
	inSync := strconv.Itoa(max(min(2, o.Replicas), o.Replicas-1))
	detail := &sarama.TopicDetail{
		NumPartitions:     partitions,
		ReplicationFactor: int16(o.Replicas),
		ConfigEntries:     map[string]*string{minInSync: &inSync},
	}
	for _, s := range settings {
		detail.ConfigEntries[s.name] = &s.value
	}
	return detail
}

// advice says what to do about a refusal to make a topic.
func advice(refusal sarama.KError) string {
	if refusal == sarama.ErrInvalidReplicationFactor {
		return " Start as many brokers as kafka.replicas says; where one has to do, as for development, set kafka.allow_one_broker: true"
	}
	return ""
}

// schemaTimeout is how long a cluster has to make topics.
const schemaTimeout = 30 * time.Second

func createTopics(ctx context.Context, routes *routes, config *sarama.Config, topics map[string]*sarama.TopicDetail) error {
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	request := &sarama.CreateTopicsRequest{Version: 4, TopicDetails: topics, Timeout: schemaTimeout / 2}
	patient := *config
	patient.Net.ReadTimeout = schemaTimeout
	pool := newPool(&patient)
	defer pool.close()
	address, err := routes.await(ctx, func(t *table) string { return t.controller })
	if err != nil {
		return err
	}
	return pool.call(ctx, address, func(broker *sarama.Broker) error {
		response, err := broker.CreateTopics(request)
		if err != nil {
			return err
		}
		for name, result := range response.TopicErrors {
			// Two may apply the schema at a time.
			if result.Err != sarama.ErrNoError && result.Err != sarama.ErrTopicAlreadyExists {
				err = errors.Join(err, fmt.Errorf("create topic %s: %w%s", name, result, advice(result.Err)))
			}
		}
		return err
	})
}

// awaitTopics waits until every partition has a leader that knows that it is.
func (j *Journal) awaitTopics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	_, err := j.routes.await(ctx, func(t *table) string {
		if t.partitions == 0 || t.generations == "" {
			return ""
		}
		for shard := range min(len(t.shards), t.partitions) {
			if t.shards[shard] == "" {
				return ""
			}
		}
		return t.generations
	})
	if err != nil {
		return err
	}
	for shard := range min(j.options.Shards, j.routes.current.Load().partitions) {
		if _, _, err := j.bounds(ctx, uint32(shard)); err != nil {
			return fmt.Errorf("wait for the leader of shard %d: %w", shard, err)
		}
	}
	return nil
}

// check is what Open asks of the topics.
func (j *Journal) check(ctx context.Context) error {
	if err := j.checkSettings(ctx); err != nil {
		return err
	}
	limited, cancel := context.WithTimeoutCause(ctx, j.options.Timeout, errNoAnswer)
	defer cancel()
	if err := j.refreshGenerations(limited); err != nil {
		return fmt.Errorf("read the generations: %w", err)
	}
	return j.checkTopicID()
}

// checkTopicID refuses a topic that is not the one that the generations speak
// of: records that were acknowledged are gone with the old one.
func (j *Journal) checkTopicID() error {
	was, is := j.generations.load().topic, j.routes.current.Load().topic
	if was == "" {
		return fmt.Errorf("topic %s was not made by schema apply: run it", j.options.Topic)
	}
	if was != is {
		return fmt.Errorf("topic %s was deleted and made again (its id was %s and is %s), and records are lost: restore it, or accept the new one, which starts a new generation of every shard, with schema apply --accept-new-topic", j.options.Topic, was, is)
	}
	return nil
}

// adopt notes the topic's id with the generations. A new topic where there was
// another gets new generations first, if the operator accepts it.
func (j *Journal) adopt(ctx context.Context) error {
	limited, cancel := context.WithTimeoutCause(ctx, schemaTimeout, errNoAnswer)
	defer cancel()
	if err := j.refreshGenerations(limited); err != nil {
		return err
	}
	was, is := j.generations.load().topic, j.routes.current.Load().topic
	if was == is {
		return nil
	}
	if was != "" {
		if !j.options.AcceptNewTopic {
			return j.checkTopicID()
		}
		for shard := range uint32(j.options.Shards) {
			if err := j.startGeneration(limited, shard); err != nil {
				return fmt.Errorf("start a generation of shard %d: %w", shard, err)
			}
		}
	}
	return j.write(limited, topicKey, is)
}

// checkSettings refuses topics that do not keep what the journal promises. It
// names everything that does not fit at once.
func (j *Journal) checkSettings(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, j.options.Timeout, errNoAnswer)
	defer cancel()
	t, o := j.routes.current.Load(), &j.options
	switch {
	case t.partitions == 0:
		return fmt.Errorf("there is no topic %s: run tegami admin schema apply", o.Topic)
	case !t.generationsExists:
		return fmt.Errorf("there is no topic %s: run tegami admin schema apply", o.generationsTopic())
	case t.partitions != o.Shards:
		return fmt.Errorf("topic %s has %d partitions, for as many shards, and %d shards are configured: the number of shards never changes, since it decides which shard a user lies in; configure %d", o.Topic, t.partitions, o.Shards, t.partitions)
	}
	settings, err := j.describe(ctx)
	if err != nil {
		return fmt.Errorf("ask for the settings of the topics: %w", err)
	}
	return errors.Join(
		checkTopic(o, o.Topic, settings[o.Topic], recordSettings, t),
		checkTopic(o, o.generationsTopic(), settings[o.generationsTopic()], generationSettings, t),
		checkSize(o, settings[o.Topic]),
	)
}

func mend(topic, name, value string) string {
	return fmt.Sprintf("mend it with: kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config %s=%s", topic, name, value)
}

func checkTopic(o *Options, topic string, has map[string]string, wanted []setting, t *table) error {
	var wrong []error
	for _, s := range wanted {
		if has[s.name] != s.value {
			wrong = append(wrong, fmt.Errorf("topic %s has %s=%s, must be %s (%s); %s", topic, s.name, has[s.name], s.value, s.why, mend(topic, s.name, s.value)))
		}
	}
	inSync, err := strconv.Atoi(has[minInSync])
	switch {
	case err != nil:
		wrong = append(wrong, fmt.Errorf("topic %s has %s=%q", topic, minInSync, has[minInSync]))
	case inSync < 2 && len(t.brokers) > 1:
		wrong = append(wrong, fmt.Errorf("topic %s has %s=%d on %d brokers, must be at least 2: an append would be reported that one broker alone holds; %s", topic, minInSync, inSync, len(t.brokers), mend(topic, minInSync, "2")))
	case inSync < 2 && !o.AllowOneBroker:
		wrong = append(wrong, fmt.Errorf("topic %s has %s=%d on one broker: nothing is replicated; allow one broker in the configuration if that is meant", topic, minInSync, inSync))
	case inSync > t.replicas:
		wrong = append(wrong, fmt.Errorf("topic %s has %s=%d and %d replicas: no append would ever be accepted; %s", topic, minInSync, inSync, t.replicas, mend(topic, minInSync, strconv.Itoa(max(1, t.replicas-1)))))
	}
	return errors.Join(wrong...)
}

func checkSize(o *Options, has map[string]string) error {
	if size, err := strconv.Atoi(has[maxMessage]); err != nil || size < o.maxMessageBytes() {
		value := strconv.Itoa(o.maxMessageBytes())
		return fmt.Errorf("topic %s has %s=%s, must be at least %s for the largest append; %s", o.Topic, maxMessage, has[maxMessage], value, mend(o.Topic, maxMessage, value))
	}
	return nil
}

// describe asks for the settings of both topics.
func (j *Journal) describe(ctx context.Context) (settings map[string]map[string]string, err error) {
	err = j.ask(ctx, func(t *table) string { return t.controller }, func(broker *sarama.Broker) (err error) {
		settings, err = describeTopics(broker, j.options.Topic, j.options.generationsTopic())
		return err
	})
	return settings, err
}

// describeTopics returns the settings of topics, by topic.
func describeTopics(broker *sarama.Broker, topics ...string) (map[string]map[string]string, error) {
	request := &sarama.DescribeConfigsRequest{Version: 1}
	for _, topic := range topics {
		request.Resources = append(request.Resources, &sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	}
	response, err := broker.DescribeConfigs(request)
	if err != nil {
		return nil, err
	}
	settings := map[string]map[string]string{}
	for _, resource := range response.Resources {
		if err := refusal(sarama.KError(resource.ErrorCode)); err != nil {
			return nil, fmt.Errorf("topic %s: %w", resource.Name, err)
		}
		values := map[string]string{}
		for _, entry := range resource.Configs {
			values[entry.Name] = entry.Value
		}
		settings[resource.Name] = values
	}
	return settings, nil
}
