package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/tegami-im/tegami/persistence/kafka"
)

// Group runs one task in a consumer group.
type Group struct {
	options   Options
	processor *processor
	group     sarama.ConsumerGroup
	log       *Log

	running sync.WaitGroup
	stop    context.CancelFunc
	joined  atomic.Bool

	mu         sync.Mutex // guards the following
	partitions map[Source]claimed
}

// claimed is a partition that this process works on, and where its log ends.
type claimed struct {
	partition *partition
	claim     sarama.ConsumerGroupClaim
}

// Start has a task handle events until Close. Brokers and topics must be there;
// what fails later is logged and tried again.
func Start(ctx context.Context, task Task, o kafka.Options, options Options) (*Group, error) {
	if err := options.complete(); err != nil {
		return nil, fmt.Errorf("task %s: %w", options.Name, err)
	}
	config, err := groupConfig(o, options)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", options.Name, err)
	}
	options.Logger = options.Logger.With("task", options.Name)
	g := &Group{options: options, partitions: map[Source]claimed{}}
	if g.log, err = OpenLog(ctx, o, options.clientID()); err != nil {
		return nil, fmt.Errorf("task %s: %w", options.Name, err)
	}
	for _, topic := range []string{options.Topics.Events, options.Topics.Retries, options.Topics.Letters} {
		if _, err := g.log.Partitions(topic); err != nil {
			return nil, errors.Join(fmt.Errorf("task %s: %w", options.Name, err), g.log.Close())
		}
	}
	letters := Letters{log: g.log, topics: options.Topics}
	g.processor = newProcessor(task, options, func(ctx context.Context, l letter) error { return letters.add(ctx, options.Name, l) })
	if g.group, err = sarama.NewConsumerGroup(o.Brokers, options.Group, config); err != nil {
		return nil, errors.Join(fmt.Errorf("task %s: join the group: %w", options.Name, err), g.log.Close())
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	g.stop = stop
	g.running.Go(func() { g.consume(running) })
	return g, nil
}

// ClientID begins the client ids of the processor's connections to Kafka.
const ClientID = "tegami-worker"

func (o *Options) clientID() string { return ClientID + "-" + o.Name }

// fetchBytes is how much of a partition is read at a time: what may wait beside
// the window while the partition is paused.
const fetchBytes = 256 << 10

// groupConfig are the settings of the group's consumer.
func groupConfig(o kafka.Options, options Options) (*sarama.Config, error) {
	config, err := kafka.ClientConfig(o, options.clientID())
	if err != nil {
		return nil, err
	}
	// A partition that stays where it is is not interrupted by a rebalance.
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	config.Consumer.Group.Rebalance.Timeout = 3 * options.SessionTimeout
	config.Consumer.Group.Session.Timeout = options.SessionTimeout
	config.Consumer.Group.Heartbeat.Interval = options.SessionTimeout / 5
	// An answer to a join comes when all have joined.
	config.Net.ReadTimeout = config.Consumer.Group.Rebalance.Timeout + 10*time.Second
	// A group that is new begins with what there is: to begin at the end would
	// lose what comes before the first commit.
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Interval = options.CommitInterval
	config.Consumer.Fetch.Default = fetchBytes
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return config, nil
}

// rejoinDelay is the pause after a session that failed.
const rejoinDelay = time.Second

func (g *Group) consume(ctx context.Context) {
	topics := []string{g.options.Topics.Events, g.options.Topics.Retries}
	for ctx.Err() == nil {
		err := g.group.Consume(ctx, topics, handler{g})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			g.options.Logger.Error("the group's session failed", "error", err)
		}
		wait(ctx, rejoinDelay)
	}
}

// Close lets the partitions go, as when they are taken away, leaves the group
// and returns when no handling goes on. It takes little longer than
// Options.DrainTimeout.
func (g *Group) Close() error {
	g.stop()
	g.running.Wait()
	return errors.Join(g.group.Close(), g.log.Close())
}

// Lag is how far the handling of a source is behind.
type Lag struct {
	Source Source
	// Records between what is handled without a gap and the end of the log, as it
	// was when the source was last read.
	Records int64
	// Age of the oldest event that is not handled; 0 when there is none.
	Age time.Duration
}

// Stats are the state of a group in this process.
type Stats struct {
	// InFlight is the number of events that the task is handling.
	InFlight int
	// Lag of each source that this process has.
	Lag []Lag
}

// Joined reports whether this process is a member of the group: it may still
// have no source, when there are more members than sources.
func (g *Group) Joined() bool { return g.joined.Load() }

// Name returns the task's name.
func (g *Group) Name() string { return g.options.Name }

// Stats returns the state now.
func (g *Group) Stats() Stats {
	s := Stats{InFlight: len(g.processor.slots)}
	g.mu.Lock()
	defer g.mu.Unlock()
	for source, c := range g.partitions {
		lag := Lag{Source: source}
		next, oldest, busy := c.partition.progress()
		if next >= 0 {
			lag.Records = max(0, c.claim.HighWaterMarkOffset()-next)
		}
		if busy {
			lag.Age = max(0, time.Since(oldest))
		}
		s.Lag = append(s.Lag, lag)
	}
	return s
}

// handler is what package sarama calls.
type handler struct{ *Group }

// Setup implements sarama.ConsumerGroupHandler.
func (h handler) Setup(sarama.ConsumerGroupSession) error {
	h.joined.Store(true)
	return nil
}

// Cleanup implements sarama.ConsumerGroupHandler.
func (h handler) Cleanup(sarama.ConsumerGroupSession) error {
	h.joined.Store(false)
	return nil
}

// ConsumeClaim implements sarama.ConsumerGroupHandler.
func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	source := Source{claim.Topic(), claim.Partition()}
	f := claimFlow{h.group, session, source}
	f.Resume() // it may have been paused when this process had it before
	defer f.Resume()
	p := newPartition(h.processor, source, source.Topic == h.options.Topics.Retries, f)
	p.window.next = max(-1, claim.InitialOffset())
	h.mu.Lock()
	h.partitions[source] = claimed{p, claim}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.partitions, source)
	}()
	h.options.Logger.Info("assigned", "source", source, "from", claim.InitialOffset())
	err := p.run(session.Context(), claim.Messages())
	h.options.Logger.Info("revoked", "source", source, "next", p.committed)
	if err != nil {
		h.options.Logger.Error("the source cannot be worked on", "source", source, "error", err)
	}
	return err
}

// claimFlow is the flow of a claim.
type claimFlow struct {
	group   sarama.ConsumerGroup
	session sarama.ConsumerGroupSession
	source  Source
}

// Mark implements flow.
func (f claimFlow) Mark(next int64) {
	f.session.MarkOffset(f.source.Topic, f.source.Partition, next, "")
}

func (f claimFlow) partitions() map[string][]int32 {
	return map[string][]int32{f.source.Topic: {f.source.Partition}}
}

// Pause implements flow.
func (f claimFlow) Pause() { f.group.Pause(f.partitions()) }

// Resume implements flow.
func (f claimFlow) Resume() { f.group.Resume(f.partitions()) }
