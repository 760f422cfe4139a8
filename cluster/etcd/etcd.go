// Package etcd keeps the membership of a cluster in etcd.
//
// A member is a key under a lease that the member renews. When the lease ends,
// because the process died, hung or was cut off for longer than that, etcd
// removes the key and the others go on without it.
//
// Only what etcd says counts. A member is evicted when etcd tells it that its
// lease is gone, never because etcd did not answer: while etcd is away everyone
// goes on with the members that there were, and etcd, when it starts again,
// gives every lease its whole time once more.
package etcd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/tegami-im/tegami/cluster"
)

// Options say where etcd is and how to be a member. Endpoints are required.
type Options struct {
	// Endpoints are addresses of etcd servers, as host:port.
	Endpoints []string
	// Prefix begins all keys. Empty means "tegami/".
	Prefix string
	// Lease is how long a member that does not renew stays one: whole seconds,
	// at least 2, since etcd knows no shorter one. 0 means 3 s.
	Lease time.Duration
	// TLS is nil for cleartext.
	TLS            *tls.Config
	User, Password string
	// Logger takes what goes wrong. Nil means nothing is said.
	Logger *slog.Logger
}

// The lengths of a lease.
const (
	defaultLease = 3 * time.Second
	minLease     = 2 * time.Second
)

func (o Options) withDefaults() (Options, error) {
	if o.Prefix == "" {
		o.Prefix = "tegami/"
	}
	if o.Lease == 0 {
		o.Lease = defaultLease
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Endpoints) == 0 {
		return o, errors.New("etcd: no endpoints")
	}
	if o.Lease < minLease || o.Lease%time.Second != 0 {
		return o, fmt.Errorf("etcd: a lease of %v: must be whole seconds, at least %v", o.Lease, minLease)
	}
	return o, nil
}

// Membership is one run of a member. It implements cluster.Membership.
type Membership struct {
	*Observer
	lease clientv3.LeaseID

	// writing is held over a write of the member's key, one at a time.
	writing chan struct{}
	toTell  chan struct{} // holds at most one token: there is something to tell

	mu     sync.Mutex // guards the following
	self   cluster.Member
	serves cluster.ShardSet // to be told
	unfit  string           // to be told
	doubts cluster.Doubts

	evicted chan struct{}
	evict   sync.Once

	leaving sync.Once
	left    error // by leaving
}

// Join makes this process a member and gives it an id of its own. It returns
// once the members are known, this one among them; ctx bounds the wait for
// that. The caller must Leave.
func Join(ctx context.Context, options Options, member cluster.Member) (_ *Membership, err error) {
	member.ID = newID(member.Name)
	if err := member.Validate(); err != nil {
		return nil, fmt.Errorf("etcd: join: %w", err)
	}
	observer, err := connect(options)
	if err != nil {
		return nil, fmt.Errorf("etcd: join: %w", err)
	}
	m := &Membership{
		Observer: observer, self: member, serves: member.Serves, unfit: member.Unfit,
		writing: make(chan struct{}, 1), toTell: make(chan struct{}, 1), evicted: make(chan struct{}),
	}
	observer.changed = m.missed
	if err := m.register(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("etcd: join: %w", err), observer.client.Close())
	}
	if err := observer.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("etcd: join: %w", err), observer.client.Close())
	}
	observer.running.Go(func() { m.renew(observer.context) })
	observer.running.Go(func() { m.tell(observer.context) })
	return m, nil
}

// clientConfig has the client try often: by default it would wait up to two
// minutes before it looks again for an etcd that was away, and every lease
// would have ended by then.
func clientConfig(o Options) clientv3.Config {
	return clientv3.Config{
		Endpoints:            o.Endpoints,
		TLS:                  o.TLS,
		Username:             o.User,
		Password:             o.Password,
		DialTimeout:          time.Second,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: time.Second,
		})},
		Logger: zap.NewNop(),
	}
}

// newID names one run of a member.
func newID(name string) string {
	run := make([]byte, 8)
	_, _ = rand.Read(run) // crypto/rand never fails: it ends the program instead
	return name + "." + hex.EncodeToString(run)
}

// register takes a lease and puts the member under it.
func (m *Membership) register(ctx context.Context) error {
	lease, err := m.client.Grant(ctx, int64(m.options.Lease/time.Second))
	if err != nil {
		return err
	}
	m.lease = lease.ID
	value, err := cluster.EncodeMember(m.self)
	if err != nil {
		return err
	}
	_, err = m.client.Put(ctx, m.key(m.self.ID), string(value), clientv3.WithLease(m.lease))
	return err
}

// Self implements cluster.Membership.
func (m *Membership) Self() cluster.Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self
}

// SetState implements cluster.Membership.
func (m *Membership) SetState(ctx context.Context, state cluster.State) error {
	return m.change(ctx, func(self *cluster.Member) { self.State = state })
}

// SetLoad tells the others, and clients, which part of its connections this
// member uses. Errors as of SetState.
func (m *Membership) SetLoad(ctx context.Context, load float64) error {
	return m.change(ctx, func(self *cluster.Member) { self.Load = load })
}

// change tells the others what changed about this member.
func (m *Membership) change(ctx context.Context, change func(*cluster.Member)) error {
	select {
	case m.writing <- struct{}{}:
		defer func() { <-m.writing }()
	case <-ctx.Done():
		return fmt.Errorf("etcd: tell of the member: %w", ctx.Err())
	}
	next := m.Self()
	change(&next)
	if err := next.Validate(); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	value, err := cluster.EncodeMember(next)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	// A key that is gone must not come back: whoever is evicted has to know.
	key := m.key(next.ID)
	answer, err := m.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), ">", 0)).
		Then(clientv3.OpPut(key, string(value), clientv3.WithLease(m.lease))).
		Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound), err == nil && !answer.Succeeded:
		m.gone("it told of itself")
		return fmt.Errorf("etcd: %w", cluster.ErrEvicted)
	case err != nil:
		return fmt.Errorf("etcd: tell of the member: %w", err)
	}
	m.mu.Lock()
	m.self = next
	m.mu.Unlock()
	return nil
}

// Evicted implements cluster.Membership.
func (m *Membership) Evicted() <-chan struct{} { return m.evicted }

// gone takes note that etcd does not know the member any more.
func (m *Membership) gone(when string) {
	m.evict.Do(func() {
		m.options.Logger.Warn("evicted from the cluster", "member", m.Self().ID, "told_when", when)
		close(m.evicted)
	})
}

// Leave implements cluster.Membership.
func (m *Membership) Leave(ctx context.Context) error {
	m.leaving.Do(func() {
		m.stop()
		_, err := m.client.Revoke(ctx, m.lease)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			err = nil
		}
		if err = errors.Join(err, m.client.Close()); err != nil {
			m.left = fmt.Errorf("etcd: leave: %w", err)
		}
	})
	return m.left
}

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
		case err == nil:
			m.dispel()
			if failing {
				m.options.Logger.Info("etcd renews the lease again")
			}
		case m.replaced(time.Now()):
			m.gone("others had its shards, and etcd did not answer")
			return
		case !failing:
			m.options.Logger.Warn("etcd does not renew the lease; the members stay what they were", "error", err)
		}
		failing = err != nil
	}
}

// missed evicts this member when it is not among the members.
func (m *Membership) missed(members map[string]cluster.Member) {
	if _, ok := members[m.Self().ID]; !ok {
		m.gone("the members changed")
	}
}
