package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

// eventSettings are those that the topic of events must have.
func eventSettings(retention time.Duration) []setting {
	return []setting{
		{cleanup, "delete", "compaction would take events out"},
		{retentionTime, strconv.FormatInt(retention.Milliseconds(), 10), "it is what events.retention says"},
		{unclean, "false", "a replica that was left behind would lose published events"},
	}
}

// ApplyEventsSchema makes the topic of events if it is missing, and checks it.
// What is there is never changed: an error says what does not fit and how to
// mend it.
func ApplyEventsSchema(ctx context.Context, options EventsOptions) error {
	e, err := startEvents(ctx, &options)
	if err == nil {
		err = errors.Join(e.apply(ctx, eventSettings(options.Retention)), e.Close())
	}
	if err != nil {
		return fmt.Errorf("apply the schema of the events: %w", Unanswered(ctx, err))
	}
	return nil
}

func (e *Events) apply(ctx context.Context, settings []setting) error {
	ctx, cancel := context.WithTimeoutCause(ctx, schemaTimeout, errNoAnswer)
	defer cancel()
	if e.routes.current.Load().partitions == 0 {
		detail := newTopic(&e.options, int32(e.options.Shards), settings)
		// The largest batch is a round and the publication that came first.
		stamps, size := "LogAppendTime", strconv.Itoa(2*roundBytes+batchOverhead)
		detail.ConfigEntries[stampType], detail.ConfigEntries[maxMessage] = &stamps, &size
		if err := createTopics(ctx, e.routes, e.config, map[string]*sarama.TopicDetail{e.options.Topic: detail}); err != nil {
			return err
		}
	}
	if _, err := e.routes.await(ctx, allLed); err != nil {
		return err
	}
	if err := e.checkPartitions(); err != nil {
		return err
	}
	var has map[string]map[string]string
	err := ask(ctx, e.routes, e.links, func(t *table) string { return t.controller }, func(broker *sarama.Broker) (err error) {
		has, err = describeTopics(broker, e.options.Topic)
		return err
	})
	if err != nil {
		return fmt.Errorf("ask for the settings of the topic: %w", err)
	}
	return checkTopic(&e.options, e.options.Topic, has[e.options.Topic], settings, e.routes.current.Load())
}

// allLed returns the leader of the first partition once every partition that
// there is has one.
func allLed(t *table) string {
	for partition := range min(len(t.shards), t.partitions) {
		if t.shards[partition] == "" {
			return ""
		}
	}
	return t.shards[0]
}

func (e *Events) checkPartitions() error {
	topic, has, wanted := e.options.Topic, e.routes.current.Load().partitions, e.options.Shards
	switch has {
	case wanted:
		return nil
	case 0:
		return fmt.Errorf("there is no topic %s: run tegami admin schema apply", topic)
	default:
		return fmt.Errorf("topic %s has %d partitions, and %d are configured: with another number a user's events would go to another partition, and their order would be lost; configure %d, or a new topic that consumers move to", topic, has, wanted, has)
	}
}
