// Package kafka keeps the journal in a topic of Kafka, one partition a shard.
//
// An append is one record batch, so that its records are contiguous and share
// one log time, or part of one. It asks for all in-sync replicas (acks=all),
// and is never sent twice: the outcome is what the broker answered, or unknown
// when no answer came within Options.Timeout, when the connection was lost, and
// after errors that a broker reports of records that it may have written
// already (a leader that lost its office says NOT_LEADER_OR_FOLLOWER of what it
// has in its log). The owner of the shard appends again with the same record
// ids, and apply knows the second copy.
//
// Log time is Kafka's LogAppendTime, the clock of the partition's leader. It
// goes back when that clock is set back, and may when another broker becomes
// leader whose clock is behind. What decides is in the log, so that all owners
// see the same times, and a mailbox never lets its own time go back.
//
// Connections that append, those that read, and the ones that tail are apart
// from each other: a reader far behind never stands before an append.
//
// Positions have generations, which are a function of the offset that all
// owners compute alike: a small compacted topic holds, for each shard, where
// each of its generations starts.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/persistence"
)

// Journal is the persistence.Journal in a topic of Kafka.
type Journal struct {
	options     Options
	config      *sarama.Config
	routes      *routes
	queue       *queue
	tails       *tails
	readers     *pool
	generations generations
	truncations truncations

	// running ends when the journal closes, and with it every wait.
	running    context.Context //nolint:containedctx // the journal's life
	end        context.CancelCauseFunc
	goroutines sync.WaitGroup

	mu     sync.Mutex // guards closed
	closed bool
	calls  sync.WaitGroup
	ended  chan struct{} // closed when Close is through
}

var _ persistence.Journal = (*Journal)(nil)

// ErrUnavailable is wrapped by Open, and what else asks brokers once, when none
// answers, as against brokers, or their certificates and settings, that are
// refused or refuse.
var ErrUnavailable = errors.New("kafka does not answer")

// Open opens the journal in a topic that ApplySchema made. It fails when no
// broker answers within Options.Timeout (ErrUnavailable), and when a setting of
// the topic does not keep what the journal promises; the error names the
// setting.
func Open(ctx context.Context, options Options) (*Journal, error) {
	j, err := start(ctx, options)
	if err != nil {
		return nil, err
	}
	if err := j.check(ctx); err != nil {
		_ = j.Close()
		return nil, fmt.Errorf("open journal: %w", Unanswered(ctx, err))
	}
	return j, nil
}

// start connects without looking at the topic.
func start(ctx context.Context, options Options) (*Journal, error) {
	if err := options.complete(); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	config, err := options.config(options.ClientID + "-journal")
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	reading := *config
	reading.ClientID = options.ClientID + "-read"
	saramaLog.logger.Store(options.Logger)
	j := &Journal{options: options, config: config, readers: newPool(&reading), ended: make(chan struct{})}
	j.generations.reading = make(chan struct{}, 1)
	j.running, j.end = context.WithCancelCause(context.WithoutCancel(ctx))
	j.queue = newQueue(j)
	j.tails = newTails(j)
	j.routes = newRoutes(&j.options, config, []string{options.Topic, options.generationsTopic()}, func() {
		j.queue.reroute()
		j.tails.wake()
	})
	if err := j.routes.fetch(ctx); err != nil {
		j.end(err)
		return nil, fmt.Errorf("open journal: %w", Unanswered(ctx, err))
	}
	j.goroutines.Go(func() { j.routes.run(j.running) })
	j.goroutines.Go(func() { j.queue.expire(j.running) })
	return j, nil
}

// enter checks a call and returns the context that it obeys: the caller's, with
// the journal's timeout, and ended by Close. leave must be called.
func (j *Journal) enter(ctx context.Context, shard uint32) (limited context.Context, leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, nil, persistence.ErrClosed
	}
	if err := j.checkShard(shard); err != nil {
		return nil, nil, err
	}
	j.calls.Add(1)
	limited, cancel := context.WithTimeoutCause(ctx, j.options.Timeout, errNoAnswer)
	limited, cancelCause := context.WithCancelCause(limited)
	stop := context.AfterFunc(j.running, func() { cancelCause(persistence.ErrClosed) })
	return limited, func() {
		stop()
		cancelCause(nil)
		cancel()
		j.calls.Done()
	}, nil
}

// errNoAnswer is why a call ended that nobody cancelled.
var errNoAnswer = errors.New("no answer in time")

// Unanswered wraps ErrUnavailable around an error that says that there was no
// answer, or that the broker has yet to start or to find its leader. A broker's
// alert is one in TLS's sense: a certificate that it does not take. It is for
// what a client of ClientConfig was asked, too.
func Unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	if code, ok := errors.AsType[sarama.KError](err); ok && !isElsewhere(code) || errors.Is(err, sarama.ErrSASLAuthenticationFailed) {
		return err
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return err
	}
	_, network := errors.AsType[net.Error](err)
	_, elsewhere := errors.AsType[sarama.KError](err)
	if network || elsewhere || errors.Is(err, sarama.ErrOutOfBrokers) || errors.Is(err, errNoAnswer) || errors.Is(err, errKilled) || errors.Is(err, io.EOF) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

func (j *Journal) checkShard(shard uint32) error {
	if int64(shard) >= int64(j.options.Shards) {
		return fmt.Errorf("shard %d: there are %d", shard, j.options.Shards)
	}
	return nil
}

// Sync implements persistence.Journal: what was reported is on all in-sync
// replicas, and there is no way to ask Kafka for more. flush.messages=1 on the
// topic has each append synced before it is reported.
func (j *Journal) Sync(ctx context.Context) error {
	_, leave, err := j.enter(ctx, 0)
	if err != nil {
		return err
	}
	leave()
	return nil
}

// Close implements persistence.Journal. It waits for the outcome of appends for
// Options.CloseTimeout; the outcome of those that have none by then is unknown.
func (j *Journal) Close() error {
	j.mu.Lock()
	first := !j.closed
	j.closed = true
	j.mu.Unlock()
	if !first {
		<-j.ended
		return nil
	}
	settled := j.queue.close(min(j.options.CloseTimeout, j.options.Timeout))
	j.mu.Lock() // goWith starts nothing from here on
	j.end(persistence.ErrClosed)
	j.mu.Unlock()
	if !settled {
		j.queue.abandon()
	}
	j.calls.Wait()
	j.goroutines.Wait()
	j.readers.close()
	close(j.ended)
	return nil
}

// goWith runs f until it returns; Close waits for it. It reports false when the
// journal is closed already.
func (j *Journal) goWith(f func()) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.running.Err() != nil {
		return false
	}
	j.goroutines.Go(f)
	return true
}
