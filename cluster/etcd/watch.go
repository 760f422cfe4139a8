package etcd

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tegami-im/tegami/cluster"
)

// renew keeps the lease until etcd says that it is gone.
func (m *Membership) renew(ctx context.Context) {
	every := m.options.Lease / 4
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.evicted:
			return
		case <-tick.C:
		}
		trying, cancel := context.WithTimeout(ctx, max(every, time.Second))
		_, err := m.client.KeepAliveOnce(trying, m.lease)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			m.gone("its lease was renewed")
			return
		case err != nil && !failing:
			m.options.Logger.Warn("etcd does not renew the lease; the members stay what they were", "error", err)
		case err == nil && failing:
			m.options.Logger.Info("etcd renews the lease again")
		}
		failing = err != nil
	}
}

// retryWatch is how long to wait before the members are listed again.
const retryWatch = 500 * time.Millisecond

// watch follows the members from a revision on. When etcd cannot go on from
// there, it lists them again.
func (m *Membership) watch(ctx context.Context, revision int64, members map[string]cluster.Member) {
	for {
		err := m.follow(ctx, revision, members)
		for err != nil {
			if ctx.Err() != nil {
				return
			}
			m.options.Logger.Warn("etcd does not tell of members; they are listed again", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryWatch):
			}
			if revision, members, err = m.list(ctx); err == nil {
				m.publish(revision, members)
				m.missed(members)
			}
		}
	}
}

// follow applies changes until the watch ends.
func (m *Membership) follow(ctx context.Context, revision int64, members map[string]cluster.Member) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := m.client.Watch(clientv3.WithRequireLeader(ctx), m.prefix(), clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	for change := range changes {
		if err := change.Err(); err != nil {
			return err
		}
		for _, event := range change.Events {
			m.apply(event, members)
		}
		if len(change.Events) > 0 {
			m.publish(change.Header.Revision, members)
			m.missed(members)
		}
	}
	return errors.New("the watch ended")
}

func (m *Membership) apply(event *clientv3.Event, members map[string]cluster.Member) {
	id := m.id(event.Kv)
	if event.Type == clientv3.EventTypeDelete {
		delete(members, id)
		return
	}
	member, err := m.decode(event.Kv)
	if err != nil {
		m.options.Logger.Warn("what a member says of itself makes no sense; it is left out", "id", id, "error", err)
		delete(members, id)
		return
	}
	members[id] = member
}

// missed evicts this member when it is not among the members.
func (m *Membership) missed(members map[string]cluster.Member) {
	if _, ok := members[m.Self().ID]; !ok {
		m.gone("the members changed")
	}
}

// list reads all members, and the revision that they are from.
func (m *Membership) list(ctx context.Context) (revision int64, members map[string]cluster.Member, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := m.client.Get(ctx, m.prefix(), clientv3.WithPrefix())
	if err != nil {
		return 0, nil, err
	}
	members = make(map[string]cluster.Member, len(answer.Kvs))
	for _, kv := range answer.Kvs {
		m.apply(&clientv3.Event{Type: clientv3.EventTypePut, Kv: kv}, members)
	}
	return answer.Header.Revision, members, nil
}
