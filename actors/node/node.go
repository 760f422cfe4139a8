// Package node composes the talk tier of one process: the supervision tree,
// the workers, and what drives the store's checkpoints. It is what the API
// calls.
//
//	node ─┬─ talk ─────────── shard ─┬─ mailbox …
//	      │                          └─ writebehind
//	      ├─ connections ──── supervisor ─── connection …
//	      ├─ behaviours/USER: what their hosts (package behaviour) are told
//	      └─ peers (package link)
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/connection"
	"github.com/tegami-im/tegami/actors/link"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// Keyring hands out the keys that bodies are sealed with: a persistence.Keys,
// mostly behind a cache.
type Keyring interface {
	Get(ctx context.Context, mailbox string) (persistence.Key, error)
	Create(ctx context.Context, mailboxes []string) ([]persistence.Key, error)
}

// Options set a node up. Journal, Store and Keys are required, except of a node
// of a cluster that owns no shards, and stay the caller's to close, after the
// node.
type Options struct {
	Journal persistence.Journal
	Store   persistence.Store
	Keys    Keyring
	// Cache is in front of the store; nil for none. It stays the caller's to
	// close, too.
	Cache persistence.Cache
	// Publisher takes the events that other services read; nil for none. It
	// stays the caller's to close, too.
	Publisher persistence.Publisher
	// Shards is the number of shards, fixed when the data was made.
	Shards int
	// Cluster has the node be one of several; nil: it owns every shard.
	Cluster *Cluster
	// Limits bound each shard; the zero value means shard.DefaultLimits.
	Limits shard.Limits
	// Retention says how long operations are kept; the zero value means for
	// ever.
	Retention shard.Retention
	// ChatCopies is up to how many members the operations of chats that are made
	// here are copied to all of them, 1 to mailbox.MaxCopied. 0 means the latter.
	ChatCopies int
	// Commands bounds the commands in flight in the whole node. 0 means
	// 65,536.
	Commands int
	// ConnectionIdle is how long a connection actor stays without a poll. 0
	// means a minute.
	ConnectionIdle time.Duration
	// StoreWriters is how many shards are written to the store at a time. 0 means
	// 4, which is enough for a store that is near.
	StoreWriters int
	// CheckpointInterval is how often the store is synced and the journal
	// truncated below its checkpoints. 0 means a second.
	CheckpointInterval time.Duration
	// Behaviours run while their shards are here.
	Behaviours []Behaviour
	Observe    Observer
	Logger     *slog.Logger
}

// Observer is told how long things took. Nil functions are left out; all must
// be quick and safe for concurrent use.
type Observer struct {
	Stage func(stage shard.Stage, took time.Duration)
	// Written is told of batches for the store, Cached of those for the cache.
	Written, Cached func(records int, took time.Duration)
	Poll            func(talk.Reason)
	// Trace begins the trace of a message; nil traces none, and so does a nil
	// answer.
	Trace      func(context.Context) shard.Trace
	Behaviours BehaviourObserver
}

func (o *Options) setDefaults() {
	if o.Limits == (shard.Limits{}) {
		o.Limits = shard.DefaultLimits()
	}
	if o.Commands == 0 {
		o.Commands = 65_536
	}
	if o.ConnectionIdle == 0 {
		o.ConnectionIdle = time.Minute
	}
	if o.StoreWriters == 0 {
		o.StoreWriters = 4
	}
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = time.Second
	}
	if o.Observe.Stage == nil {
		o.Observe.Stage = func(shard.Stage, time.Duration) {}
	}
	if o.Observe.Written == nil {
		o.Observe.Written = func(int, time.Duration) {}
	}
	if o.Observe.Trace == nil {
		o.Observe.Trace = func(context.Context) shard.Trace { return nil }
	}
	if o.Observe.Poll == nil {
		o.Observe.Poll = func(talk.Reason) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Node is the talk tier of one process. Its methods are safe for concurrent
// use.
type Node struct {
	options    Options
	system     *actor.ActorSystem
	places     *cluster.Map
	workers    shard.Workers
	watchdog   *supervision.Watchdog
	dispatcher *supervision.Dispatcher
	keeper     *keeper
	lookups    *lookups
	ciphers    sealing.Ciphers // of chats
	hosts      hosts

	talk, connections *actor.PID
	shards            []*actor.PID // of this node, whether they run or not
	statuses          []atomic.Pointer[shard.Status]
	routes            atomic.Pointer[[]*actor.PID] // by shard
	supervisors       []*actor.PID
	spawned           uint64 // shards so far; of the talk actor alone

	// apply is the version of apply that the records made here are of: the newest
	// that every node knows.
	apply atomic.Uint32

	hub      *link.Hub // nil when the node is alone
	unfollow func()
	// newest is how the shards were placed last.
	newest  atomic.Pointer[place]
	fitness *fitness // nil when the node is alone, or has no journal

	polls    atomic.Uint64 // ids given
	fetches  atomic.Uint64 // tokens given
	commands atomic.Int64  // in flight
	loaded   atomic.Int64
	unstored atomic.Int64
	dropped  atomic.Int64
	// draining: it is to be stopped, and what is under way goes on as ever;
	// stopping: nothing is tried again.
	draining, stopping atomic.Bool
	keyFails           supervision.Seldom
	closing            sync.Once
	closed             error // by closing

	ended struct {
		sync.RWMutex
		listeners []func(talk.Session)
	}
}

// supervisorCount spreads connection actors over several parents, so that
// starting and stopping them has no single queue.
const supervisorCount = 64

// idleGoroutines wait for actors that are woken.
const idleGoroutines = 64

// Start starts a node. Its shards open in the background: Ready tells when
// they have.
func Start(options Options) (*Node, error) {
	options.setDefaults()
	places, err := cluster.NewMap(options.Shards, cluster.Snapshot{})
	if err != nil {
		return nil, err
	}
	n := &Node{
		options: options,
		system: actor.NewActorSystem(
			actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
				return options.Logger.With("library", "protoactor")
			}),
			// With one the library counts dead letters and shows none: what users
			// wrote is in them.
			actor.WithDeadLetterThrottleCount(1),
		),
		places: places,
		workers: shard.Workers{
			Journal: supervision.NewWorkers(8, 4096),
			Load:    supervision.NewWorkers(16, 16_384),
			Page:    supervision.NewElasticWorkers(4, 48, 1024),
			Write:   supervision.NewWorkers(options.StoreWriters, 4096),

			CacheLoad: supervision.NewWorkers(2*cacheWorkers(&options), 16_384),
			Cache:     supervision.NewWorkers(cacheWorkers(&options), 4096),
		},
		watchdog:   supervision.NewWatchdog(options.Logger),
		dispatcher: supervision.NewDispatcher(idleGoroutines),
		lookups:    newLookups(options.Shards),
	}
	n.fetches.Store(rand.Uint64() >> 1) //nolint:gosec // so that no other node counts alike; it guards nothing
	for _, step := range []func() error{n.join, n.startFitness, n.startTalk, n.startConnections, n.follow, n.startBehaviours} {
		if err := step(); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	n.keeper = startKeeper(n)
	return n, nil
}

// cacheWorkers returns how many goroutines write to the cache. Twice as many
// read mailboxes there.
func cacheWorkers(options *Options) int {
	if options.Cache == nil {
		return 0
	}
	return 4
}

// startTalk spawns the parent of the shards. Their addresses are known
// beforehand.
func (n *Node) startTalk() error {
	n.shards = make([]*actor.PID, n.options.Shards)
	n.statuses = make([]atomic.Pointer[shard.Status], n.options.Shards)
	for i := range n.shards {
		n.shards[i] = n.system.NewLocalPID("talk/" + shardName(uint32(i)))
	}
	// A shard sends to others as soon as it runs, which is before it is placed
	// where those are.
	routes := slices.Clone(n.shards)
	if n.hub != nil {
		routes = slices.Repeat([]*actor.PID{n.hub.Nowhere()}, n.options.Shards)
	}
	n.routes.Store(&routes)
	environment := &shard.Environment{
		Journal:      n.options.Journal,
		Store:        n.options.Store,
		Cache:        n.options.Cache,
		Publisher:    n.options.Publisher,
		Route:        n.route,
		ShardOf:      n.places.Shard,
		SessionEnded: n.sessionEnded,
		Changed:      func(id uint32) { n.system.Root.Send(n.talk, &changed{id}) },
		Limits:       n.options.Limits,
		Retention:    n.options.Retention,
		Workers:      n.workers,
		Dispatcher:   n.dispatcher,
		Loaded:       &n.loaded,
		Unstored:     &n.unstored,
		Dropped:      &n.dropped,
		Watchdog:     n.watchdog,
		Observe:      shard.Observer{Stage: n.options.Observe.Stage, Written: n.options.Observe.Written, Cached: n.options.Observe.Cached},
		Logger:       n.options.Logger,
	}
	if n.fitness != nil {
		environment.Clock, environment.Unfit, environment.Foreign = n.fitness.clock, n.fitness.refusal, n.foreign
	}
	props := actor.PropsFromProducer(func() actor.Actor {
		return &talkActor{node: n, environment: environment, places: n.places, shards: map[uint32]*ownShard{}}
	}, actor.WithSupervisor(supervision.Backoff(n.options.Logger, minRestart, maxRestart)), actor.WithDispatcher(n.dispatcher))
	var err error
	if n.talk, err = n.system.Root.SpawnNamed(props, "talk"); err != nil {
		return fmt.Errorf("spawn talk: %w", err)
	}
	return nil
}

func (n *Node) startConnections() error {
	environment := &connection.Environment{
		Route:      n.routeOf,
		Tokens:     &n.fetches,
		Idle:       n.options.ConnectionIdle,
		Answered:   n.options.Observe.Poll,
		Dispatcher: n.dispatcher,
		Watchdog:   n.watchdog,
		Logger:     n.options.Logger,
	}
	n.supervisors = make([]*actor.PID, supervisorCount)
	for i := range n.supervisors {
		n.supervisors[i] = n.system.NewLocalPID(fmt.Sprintf("connections/%02d", i))
	}
	var err error
	n.connections, err = n.spawnParent("connections", func(ctx actor.Context) error {
		for i := range n.supervisors {
			if _, err := ctx.SpawnNamed(connection.SupervisorProps(environment), fmt.Sprintf("%02d", i)); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

const (
	minRestart = 100 * time.Millisecond
	maxRestart = 5 * time.Second
)

// spawnParent spawns an actor whose only task is to have children and restart
// those that fail. It returns when the children are there: what is sent to an
// address that nobody has yet is lost.
func (n *Node) spawnParent(name string, start func(actor.Context) error) (*actor.PID, error) {
	started := make(chan error, 1)
	props := actor.PropsFromFunc(func(ctx actor.Context) {
		if _, ok := ctx.Message().(*actor.Started); ok {
			started <- start(ctx)
		}
	}, actor.WithSupervisor(supervision.Backoff(n.options.Logger, minRestart, maxRestart)))
	pid, err := n.system.Root.SpawnNamed(props, name)
	if err == nil {
		err = <-started
	}
	if err != nil {
		return nil, fmt.Errorf("spawn %s: %w", name, err)
	}
	return pid, nil
}

// Ready reports whether all shards have an owner, those of this node are open,
// and the node is not stopping.
func (n *Node) Ready() bool {
	if n.draining.Load() {
		return false
	}
	for i := range n.statuses {
		if status := n.status(i); (status == nil || !status.Open()) && !n.elsewhere(uint32(i)) {
			return false
		}
	}
	return true
}

// status returns that of a shard; nil when it has no actor here.
func (n *Node) status(shard int) *shard.Status { return n.statuses[shard].Load() }

// Halted returns, by shard, why shards wait for an operator.
func (n *Node) Halted() map[int]string {
	halted := map[int]string{}
	for i := range n.statuses {
		if status := n.status(i); status != nil && status.Halted() != "" {
			halted[i] = status.Halted()
		}
	}
	return halted
}

// DrainPolls answers every held poll with Draining, at random moments within
// over, and at once each that still comes. The node is not ready any more.
func (n *Node) DrainPolls(over time.Duration) {
	n.draining.Store(true)
	for _, pid := range n.supervisors {
		n.system.Root.Send(pid, &connection.Drain{Over: over})
	}
}

// Drain refuses new commands and polls, waits for what is in flight, and
// stores and syncs everything. What it does not manage before ctx ends is
// replayed from the journal at the next start. In a cluster, where the others
// were told that this node drains, it hands its shards over.
func (n *Node) Drain(ctx context.Context) error {
	n.stopping.Store(true)
	n.DrainPolls(0)
	n.stopBehaviours()
	if n.options.Cluster != nil {
		if err := n.withdraw(ctx); err != nil {
			return err
		}
		n.keeper.close()
		return n.keeper.keep(ctx)
	}
	// A shard that is drained may still get follow-ups of one that is not: so
	// in rounds, until a round finds nothing.
	for first := true; first || n.unstored.Load() > 0; first = false {
		if err := n.drainShards(ctx); err != nil {
			return err
		}
	}
	n.keeper.close()
	return n.keeper.keep(ctx)
}

func (n *Node) drainShards(ctx context.Context) error {
	var left atomic.Int64
	left.Store(int64(len(n.shards)))
	done := make(chan struct{})
	for _, pid := range n.shards {
		n.system.Root.Send(pid, &shard.Drain{Done: func() {
			if left.Add(-1) == 0 {
				close(done)
			}
		}})
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d shards are not drained: %w", left.Load(), ctx.Err())
	}
}

// Close stops the node's actors and workers. Commands without an answer are
// answered; call Drain first to have none.
func (n *Node) Close() error {
	n.closing.Do(func() {
		n.draining.Store(true)
		n.stopping.Store(true)
		n.stopBehaviours()
		n.lookups.close()
		if n.keeper != nil {
			n.keeper.close()
		}
		if n.fitness != nil {
			n.fitness.close()
		}
		if n.unfollow != nil {
			n.unfollow()
		}
		n.closed = errors.Join(n.stop(n.connections), n.stop(n.talk))
		if n.hub != nil {
			n.closed = errors.Join(n.closed, n.hub.Close())
		}
		n.workers.Journal.Close()
		n.workers.CacheLoad.Close()
		n.workers.Load.Close()
		n.workers.Page.Close()
		n.workers.Write.Close()
		n.workers.Cache.Close()
		n.watchdog.Close()
		n.system.Shutdown()
		n.dispatcher.Stop()
	})
	return n.closed
}

// stop ends an actor and its children, and waits for them.
func (n *Node) stop(pid *actor.PID) error {
	if pid == nil { // it was never started
		return nil
	}
	return n.system.Root.StopFuture(pid).Wait()
}
