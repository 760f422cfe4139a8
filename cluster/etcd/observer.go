package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tegami-im/tegami/cluster"
)

// Observer learns who the members are without being one. Its methods are safe
// for concurrent use.
type Observer struct {
	cluster.Feed
	options Options
	client  *clientv3.Client
	signers atomic.Pointer[map[string]signer] // by id; set by the first publish
	// changed is called when the members were published; nil for nobody.
	changed func(map[string]cluster.Member)

	context context.Context //nolint:containedctx // of the goroutines, until stop
	cancel  context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
	closed  error // by closing
}

// Observe returns once the members are known; ctx bounds the wait for that. The
// caller must Close the observer.
func Observe(ctx context.Context, options Options) (*Observer, error) {
	o, err := connect(options)
	if err != nil {
		return nil, fmt.Errorf("etcd: observe: %w", err)
	}
	if err := o.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("etcd: observe: %w", err), o.client.Close())
	}
	return o, nil
}

// connect returns an observer that does not watch yet.
func connect(options Options) (*Observer, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientConfig(options))
	if err != nil {
		return nil, err
	}
	return &Observer{options: options, client: client}, nil
}

// start lists the members and watches them from there.
func (o *Observer) start(ctx context.Context) error {
	revision, seen, err := o.list(ctx)
	if err != nil {
		return err
	}
	o.publish(revision, seen)
	o.context, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	o.running.Go(func() { o.watch(o.context, revision, seen) })
	return nil
}

// stop ends the goroutines.
func (o *Observer) stop() {
	o.cancel()
	o.running.Wait()
}

// Close ends the observer. Calls after the first do nothing.
func (o *Observer) Close() error {
	o.closing.Do(func() {
		o.stop()
		o.closed = o.client.Close()
	})
	return o.closed
}

// What keys begin with, behind the prefix of all. Under members/ is an entry for
// each id, under drains/ what operators drain, by name, under moves/ the id of a
// member for each shard that they moved to it, under signers/ the public keys of
// gateways.
const (
	membersKey = "members/"
	drainsKey  = "drains/"
	movesKey   = "moves/"
	signersKey = "signers/"
)

func (o *Observer) key(id string) string { return o.options.Prefix + membersKey + id }

// seen is what lies in etcd at one revision.
type seen struct {
	members map[string]cluster.Member
	drains  map[string]bool // by name
	moves   map[uint32]string
	signers map[string]signer // by id
}

// publish hands on who the members are.
func (o *Observer) publish(revision int64, seen *seen) {
	members := slices.Collect(maps.Values(seen.members))
	for i := range members {
		if m := &members[i]; m.Role == cluster.RoleTalk && m.State == cluster.StateActive && seen.drains[m.Name] {
			m.State = cluster.StateDraining
		}
	}
	snapshot, err := cluster.NewSnapshot(uint64(revision), members)
	if err != nil { // each was valid, and an id is a key
		o.options.Logger.Error("members do not go together", "error", err)
		return
	}
	snapshot.Moves = maps.Clone(seen.moves)
	signers := maps.Clone(seen.signers)
	o.signers.Store(&signers)
	o.Publish(snapshot)
	if o.changed != nil {
		o.changed(seen.members)
	}
}

// retryWatch is how long to wait before the members are listed again.
const retryWatch = 500 * time.Millisecond

// watch follows the members from a revision on. When etcd cannot go on from
// there, it lists them again.
func (o *Observer) watch(ctx context.Context, revision int64, seen *seen) {
	for {
		err := o.follow(ctx, revision, seen)
		for err != nil {
			if ctx.Err() != nil {
				return
			}
			o.options.Logger.Warn("etcd does not tell of members; they are listed again", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryWatch):
			}
			if revision, seen, err = o.list(ctx); err == nil {
				o.publish(revision, seen)
			}
		}
	}
}

// follow applies changes until the watch ends.
func (o *Observer) follow(ctx context.Context, revision int64, seen *seen) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := o.client.Watch(clientv3.WithRequireLeader(ctx), o.options.Prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	for change := range changes {
		if err := change.Err(); err != nil {
			return err
		}
		concerns := false
		for _, event := range change.Events {
			concerns = o.apply(event, seen) || concerns
		}
		if concerns {
			o.publish(change.Header.Revision, seen)
		}
	}
	return errors.New("the watch ended")
}

// apply takes a change into what is seen, and reports whether it concerns the
// members: others may keep keys beside theirs.
func (o *Observer) apply(event *clientv3.Event, seen *seen) (concerns bool) {
	key, there := strings.TrimPrefix(string(event.Kv.Key), o.options.Prefix), event.Type != clientv3.EventTypeDelete
	if id, ok := strings.CutPrefix(key, membersKey); ok {
		delete(seen.members, id)
		if there {
			member, err := cluster.DecodeMember(id, event.Kv.Value)
			if err != nil {
				o.options.Logger.Warn("what a member says of itself makes no sense; it is left out", "id", id, "error", err)
				return true
			}
			seen.members[id] = member
		}
		return true
	}
	if name, ok := strings.CutPrefix(key, drainsKey); ok {
		delete(seen.drains, name)
		if there {
			seen.drains[name] = true
		}
		return true
	}
	if text, ok := strings.CutPrefix(key, movesKey); ok {
		shard, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			o.options.Logger.Warn("a move names no shard; it is left out", "key", key)
			return false
		}
		delete(seen.moves, uint32(shard))
		if there {
			seen.moves[uint32(shard)] = string(event.Kv.Value)
		}
		return true
	}
	if id, ok := strings.CutPrefix(key, signersKey); ok {
		delete(seen.signers, id)
		if there {
			one, err := decodeSigner(event.Kv.Value)
			if err != nil {
				o.options.Logger.Warn("a public key makes no sense; it is left out", "id", id, "error", err)
				return false
			}
			one.revision = event.Kv.ModRevision
			seen.signers[id] = one
		}
		return true
	}
	return false
}

// list reads all there is, and the revision that it is from.
func (o *Observer) list(ctx context.Context) (revision int64, all *seen, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := o.client.Get(ctx, o.options.Prefix, clientv3.WithPrefix())
	if err != nil {
		return 0, nil, err
	}
	all = &seen{members: map[string]cluster.Member{}, drains: map[string]bool{}, moves: map[uint32]string{}, signers: map[string]signer{}}
	for _, kv := range answer.Kvs {
		o.apply(&clientv3.Event{Type: clientv3.EventTypePut, Kv: kv}, all)
	}
	return answer.Header.Revision, all, nil
}
