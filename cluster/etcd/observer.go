package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tegami-im/tegami/cluster"
)

// Observer learns who the members are without being one. Its methods are safe
// for concurrent use.
type Observer struct {
	cluster.Feed
	options Options
	client  *clientv3.Client
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
	revision, members, err := o.list(ctx)
	if err != nil {
		return err
	}
	o.publish(revision, members)
	o.context, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	o.running.Go(func() { o.watch(o.context, revision, members) })
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

func (o *Observer) prefix() string       { return o.options.Prefix + "members/" }
func (o *Observer) key(id string) string { return o.prefix() + id }

func (o *Observer) decode(kv *mvccpb.KeyValue) (cluster.Member, error) {
	var e entry
	if err := json.Unmarshal(kv.Value, &e); err != nil {
		return cluster.Member{}, err
	}
	member := cluster.Member{
		ID: o.id(kv), Name: e.Name, Address: e.Address, Admin: e.Admin, Role: e.Role, State: e.State,
		Weight: e.Weight, Version: e.Version, Apply: e.Apply,
	}
	return member, member.Validate()
}

func (o *Observer) id(kv *mvccpb.KeyValue) string {
	return strings.TrimPrefix(string(kv.Key), o.prefix())
}

// publish hands on who the members are.
func (o *Observer) publish(revision int64, members map[string]cluster.Member) {
	snapshot, err := cluster.NewSnapshot(uint64(revision), slices.Collect(maps.Values(members)))
	if err != nil { // each was valid, and an id is a key
		o.options.Logger.Error("members do not go together", "error", err)
		return
	}
	o.Publish(snapshot)
	if o.changed != nil {
		o.changed(members)
	}
}

// retryWatch is how long to wait before the members are listed again.
const retryWatch = 500 * time.Millisecond

// watch follows the members from a revision on. When etcd cannot go on from
// there, it lists them again.
func (o *Observer) watch(ctx context.Context, revision int64, members map[string]cluster.Member) {
	for {
		err := o.follow(ctx, revision, members)
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
			if revision, members, err = o.list(ctx); err == nil {
				o.publish(revision, members)
			}
		}
	}
}

// follow applies changes until the watch ends.
func (o *Observer) follow(ctx context.Context, revision int64, members map[string]cluster.Member) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := o.client.Watch(clientv3.WithRequireLeader(ctx), o.prefix(), clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	for change := range changes {
		if err := change.Err(); err != nil {
			return err
		}
		for _, event := range change.Events {
			o.apply(event, members)
		}
		if len(change.Events) > 0 {
			o.publish(change.Header.Revision, members)
		}
	}
	return errors.New("the watch ended")
}

func (o *Observer) apply(event *clientv3.Event, members map[string]cluster.Member) {
	id := o.id(event.Kv)
	if event.Type == clientv3.EventTypeDelete {
		delete(members, id)
		return
	}
	member, err := o.decode(event.Kv)
	if err != nil {
		o.options.Logger.Warn("what a member says of itself makes no sense; it is left out", "id", id, "error", err)
		delete(members, id)
		return
	}
	members[id] = member
}

// list reads all members, and the revision that they are from.
func (o *Observer) list(ctx context.Context) (revision int64, members map[string]cluster.Member, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := o.client.Get(ctx, o.prefix(), clientv3.WithPrefix())
	if err != nil {
		return 0, nil, err
	}
	members = make(map[string]cluster.Member, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		o.apply(&clientv3.Event{Type: clientv3.EventTypePut, Kv: kv}, members)
	}
	return answer.Header.Revision, members, nil
}
