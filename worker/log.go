package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/persistence/kafka"
)

// Log writes to topics and reads them from end to end: for tasks that keep their
// state in Kafka. It may be used by any number of goroutines. Its calls wrap
// kafka.ErrUnavailable when no broker answers.
type Log struct {
	client   sarama.Client
	producer sarama.SyncProducer
}

// OpenLog connects under a client id. The Log must be closed.
func OpenLog(ctx context.Context, o kafka.Options, clientID string) (*Log, error) {
	config, err := kafka.ClientConfig(o, clientID)
	if err != nil {
		return nil, err
	}
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.MaxMessageBytes = maxLetterBytes
	l := new(Log)
	err = within(ctx, func() error { return l.open(o.Brokers, config) })
	if err != nil {
		return nil, kafka.Unanswered(ctx, err)
	}
	return l, nil
}

func (l *Log) open(brokers []string, config *sarama.Config) (err error) {
	if l.client, err = sarama.NewClient(brokers, config); err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	if l.producer, err = sarama.NewSyncProducerFromClient(l.client); err != nil {
		return errors.Join(fmt.Errorf("connect to Kafka: %w", err), l.Close())
	}
	return nil
}

// Close ends the connections.
func (l *Log) Close() error {
	var err error
	if l.producer != nil {
		err = l.producer.Close()
	}
	return errors.Join(err, l.client.Close())
}

// Partitions returns how many a topic has.
func (l *Log) Partitions(topic string) (int32, error) {
	partitions, err := l.client.Partitions(topic)
	if err != nil {
		return 0, topicError(topic, err)
	}
	return int32(len(partitions)), nil
}

func topicError(topic string, err error) error {
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return fmt.Errorf("there is no topic %s: run tegami admin schema apply", topic)
	}
	return fmt.Errorf("topic %s: %w", topic, err)
}

// Append returns nil when all in-sync replicas have all the records. After an
// error any of them may be there.
func (l *Log) Append(ctx context.Context, records ...*sarama.ProducerMessage) error {
	if len(records) == 0 {
		return nil
	}
	if err := within(ctx, func() error { return l.producer.SendMessages(records) }); err != nil {
		return fmt.Errorf("append to topic %s: %w", records[0].Topic, kafka.Unanswered(ctx, err))
	}
	return nil
}

// ReadAll hands over every record of a partition up to its end at the time of
// the call.
func (l *Log) ReadAll(ctx context.Context, topic string, partition int32, take func(*sarama.ConsumerMessage)) error {
	fail := func(err error) error { return fmt.Errorf("read: %w", topicError(topic, kafka.Unanswered(ctx, err))) }
	first, err := l.client.GetOffset(topic, partition, sarama.OffsetOldest)
	if err != nil {
		return fail(err)
	}
	end, err := l.client.GetOffset(topic, partition, sarama.OffsetNewest)
	if err != nil {
		return fail(err)
	}
	if first >= end {
		return nil
	}
	// One of its own: a consumer reads a partition once at a time.
	consumer, err := sarama.NewConsumerFromClient(l.client)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = consumer.Close() }() // it has nothing left to tell
	reading, err := consumer.ConsumePartition(topic, partition, first)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = reading.Close() }() // it has given all
	for {
		select {
		case m, more := <-reading.Messages():
			if !more {
				return fail(errors.New("it ended early"))
			}
			take(m)
			// The last record is never compacted away.
			if m.Offset >= end-1 {
				return nil
			}
		case <-ctx.Done():
			return fail(context.Cause(ctx))
		}
	}
}
