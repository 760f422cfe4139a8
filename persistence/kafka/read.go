package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/persistence"
)

// ask makes a call to the broker that a table names, until it is answered other
// than by "ask another", or the context ends.
func (j *Journal) ask(ctx context.Context, of func(*table) string, call func(*sarama.Broker) error) error {
	return ask(ctx, j.routes, j.readers, of, call)
}

func ask(ctx context.Context, routes *routes, links *pool, of func(*table) string, call func(*sarama.Broker) error) error {
	for {
		address, err := routes.await(ctx, of)
		if err != nil {
			return err
		}
		if err = links.call(ctx, address, call); err == nil {
			return nil
		}
		var no refused
		if errors.As(err, &no) && !isElsewhere(no.err) {
			return err
		}
		if ctx.Err() == nil {
			routes.refresh()
		}
		if !pause(ctx, refreshPause/2) {
			return withCause(context.Cause(ctx), err)
		}
	}
}

// withCause names why a call ended, and what it met last.
func withCause(cause, last error) error {
	if errors.Is(last, cause) {
		return last
	}
	return fmt.Errorf("%w; last: %w", cause, last)
}

// isElsewhere tells the refusals that end by asking another broker, or the same
// one later.
func isElsewhere(err sarama.KError) bool {
	switch err {
	case sarama.ErrNotLeaderForPartition, sarama.ErrLeaderNotAvailable, sarama.ErrReplicaNotAvailable,
		sarama.ErrUnknownTopicOrPartition, sarama.ErrBrokerNotAvailable, sarama.ErrNotController,
		sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch, sarama.ErrOffsetNotAvailable,
		sarama.ErrKafkaStorageError, sarama.ErrRequestTimedOut, sarama.ErrNetworkException:
		return true
	default:
		return false
	}
}

// leaderOf names the broker that leads a shard's partition.
func leaderOf(shard uint32) func(*table) string {
	return func(t *table) string { return t.shards[shard] }
}

// Bounds implements persistence.Journal.
func (j *Journal) Bounds(ctx context.Context, shard uint32) (persistence.Bounds, error) {
	ctx, leave, err := j.enter(ctx, shard)
	if err != nil {
		return persistence.Bounds{}, err
	}
	defer leave()
	if err := j.refreshGenerations(ctx); err != nil {
		return persistence.Bounds{}, fmt.Errorf("read the generations: %w", err)
	}
	first, next, err := j.bounds(ctx, shard)
	if err != nil {
		return persistence.Bounds{}, fmt.Errorf("ask for the bounds of shard %d: %w", shard, err)
	}
	return persistence.Bounds{First: first, Next: next, Generation: j.generations.last(shard)}, nil
}

// bounds asks for the limits of a shard's log, the lower one first: what is
// truncated in between only makes it too low.
func (j *Journal) bounds(ctx context.Context, shard uint32) (first, next int64, err error) {
	err = j.ask(ctx, leaderOf(shard), func(broker *sarama.Broker) (err error) {
		if first, err = j.offset(broker, shard, sarama.OffsetOldest); err != nil {
			return err
		}
		next, err = j.offset(broker, shard, sarama.OffsetNewest)
		return err
	})
	return first, next, err
}

// offsetsVersion is the first version in which a new leader that does not know
// yet how far its log goes says so.
const offsetsVersion = 5

// offset asks for one limit of a shard's log.
func (j *Journal) offset(broker *sarama.Broker, shard uint32, limit int64) (int64, error) {
	request := &sarama.OffsetRequest{Version: offsetsVersion}
	request.AddBlock(j.options.Topic, int32(shard), limit, 1)
	response, err := broker.GetAvailableOffsets(request)
	if err != nil {
		return 0, err
	}
	block := response.GetBlock(j.options.Topic, int32(shard))
	if block == nil {
		return 0, errIncomplete
	}
	return block.Offset, refusal(block.Err)
}

// errIncomplete is an answer that says nothing of what was asked.
var errIncomplete = errors.New("the broker's answer is incomplete")

// fetchVersion is the last version before the flexible ones.
const fetchVersion = 11

// Read implements persistence.Journal.
func (j *Journal) Read(ctx context.Context, shard uint32, offset int64, maxBytes int) ([]persistence.Entry, error) {
	ctx, leave, err := j.enter(ctx, shard)
	if err != nil {
		return nil, err
	}
	defer leave()
	entries, err := j.read(ctx, shard, offset, maxBytes)
	if err != nil && !errors.Is(err, persistence.ErrTruncated) {
		err = fmt.Errorf("read journal of shard %d from offset %d: %w", shard, offset, err)
	}
	return entries, err
}

func (j *Journal) read(ctx context.Context, shard uint32, offset int64, maxBytes int) ([]persistence.Entry, error) {
	var block *sarama.FetchResponseBlock
	err := j.ask(ctx, leaderOf(shard), func(broker *sarama.Broker) (err error) {
		block, err = fetch(broker, j.options.Topic, int32(shard), offset, maxBytes)
		return err
	})
	if errors.Is(err, sarama.ErrOffsetOutOfRange) {
		return nil, j.outOfRange(ctx, shard, offset)
	}
	if err != nil {
		return nil, err
	}
	return j.entries(shard, offset, maxBytes, block)
}

// fetch fetches from one partition without waiting for more, at least one batch
// if there is one.
func fetch(broker *sarama.Broker, topic string, partition int32, offset int64, maxBytes int) (*sarama.FetchResponseBlock, error) {
	limit := int32(min(max(maxBytes, 0)+batchOverhead, 64<<20))
	request := &sarama.FetchRequest{Version: fetchVersion, MaxBytes: limit, SessionEpoch: -1}
	request.AddBlock(topic, partition, offset, limit, -1)
	response, err := broker.Fetch(request)
	if err != nil {
		return nil, err
	}
	if err := refusal(sarama.KError(response.ErrorCode)); err != nil {
		return nil, err
	}
	block := response.GetBlock(topic, partition)
	if block == nil {
		return nil, errIncomplete
	}
	return block, refusal(block.Err)
}

// outOfRange tells on which side of its log a shard's offset lies.
func (j *Journal) outOfRange(ctx context.Context, shard uint32, offset int64) error {
	first, _, err := j.bounds(ctx, shard)
	if err != nil {
		return err
	}
	if offset < first {
		return persistence.ErrTruncated
	}
	return nil
}

// entries takes the records out of a fetch, those from offset on: Kafka sends
// whole batches.
func (j *Journal) entries(shard uint32, offset int64, maxBytes int, block *sarama.FetchResponseBlock) ([]persistence.Entry, error) {
	var entries []persistence.Entry
	size := 0
	for _, set := range block.RecordsSet {
		batch := set.RecordBatch
		if batch == nil {
			return nil, fmt.Errorf("%w: the topic holds messages in a format older than Kafka 0.11", persistence.ErrDamaged)
		}
		if batch.PartialTrailingRecord {
			break
		}
		if batch.Control || batch.IsTransactional {
			return nil, fmt.Errorf("%w: somebody writes transactions to the topic", persistence.ErrDamaged)
		}
		for _, record := range batch.Records {
			at := batch.FirstOffset + record.OffsetDelta
			if at < offset {
				continue
			}
			if at > offset {
				return nil, fmt.Errorf("%w: offset %d is missing, though the log goes on at %d", persistence.ErrDamaged, offset, at)
			}
			if size += len(record.Value); len(entries) > 0 && size > maxBytes {
				return entries, nil
			}
			entries = append(entries, persistence.Entry{
				Position: persistence.Position{Generation: j.generations.of(shard, at), Offset: at},
				Time:     stamp(batch, record),
				Data:     record.Value,
			})
			offset++
		}
	}
	if len(entries) == 0 && offset < block.HighWaterMarkOffset {
		return nil, fmt.Errorf("the broker sends nothing, though its log goes on to %d", block.HighWaterMarkOffset)
	}
	return entries, nil
}

// stamp is the log time of a record in milliseconds: the broker's, which is one
// for the batch. Where the topic was set to keep the sender's for a while, it is
// that, for every owner alike.
func stamp(batch *sarama.RecordBatch, record *sarama.Record) int64 {
	if batch.LogAppendTime {
		return batch.MaxTimestamp.UnixMilli()
	}
	return batch.FirstTimestamp.Add(record.TimestampDelta).UnixMilli()
}
