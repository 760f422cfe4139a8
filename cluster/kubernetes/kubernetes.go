// Package kubernetes keeps the membership of a cluster in Kubernetes, as Leases
// (coordination.k8s.io/v1) of the namespace that its pods run in. It speaks to the
// API server over HTTPS, as the pod's service account.
//
// A member is a Lease that it writes anew four times in the Lease's length. Kubernetes
// does not remove a Lease that is over; the other members do, when they have not seen
// it written for that long, by their own clocks. They remove it as they saw it last:
// one that was written meanwhile stays.
//
// Only what the API server says counts. A member is evicted when it is told that its
// Lease is gone, or finds out: it cannot reach the API server while there are signs,
// for as long, that others have what was its own. While the API server is away, or takes no writes, nobody can remove
// one, and everyone goes on with the members that there were; when it is back, each
// Lease gets its whole length once more.
//
// The tests run against an API server of the package's own, which keeps the rules
// that this relies on: optimistic concurrency, preconditions, watches from a revision.
package kubernetes

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tegami-im/tegami/cluster"
)

// Where a pod finds what it needs.
const (
	accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount/"
	hostVariable  = "KUBERNETES_SERVICE_HOST"
	portVariable  = "KUBERNETES_SERVICE_PORT"
)

// What a Lease of a member has: a label with the name of the cluster, so that only
// those are watched, and what the member says of itself.
const (
	label      = "tegami.im/cluster"
	annotation = "tegami.im/member"
)

// Options say where the API server is and how to be a member. In a pod the zero
// Options are enough.
type Options struct {
	// Server is the API server's URL; empty: that of the pod's environment.
	Server string
	// Namespace has the Leases; empty: the pod's.
	Namespace string
	// Cluster tells clusters of one namespace apart; empty: "tegami".
	Cluster string
	// TokenFile and CAFile are the service account's; empty: the pod's, unless Client
	// is set.
	TokenFile, CAFile string
	// Lease is how long a member that does not renew stays one. 0 means 3 s.
	Lease time.Duration
	// Client makes the calls, instead of one of the package's own.
	Client *http.Client
	// Logger takes what goes wrong. Nil means nothing is said.
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.Cluster == "" {
		o.Cluster = "tegami"
	}
	if o.Lease == 0 {
		o.Lease = 3 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Lease < 0 {
		return o, fmt.Errorf("a lease of %v: must be positive", o.Lease)
	}
	if o.Server == "" {
		host, port := os.Getenv(hostVariable), os.Getenv(portVariable)
		if host == "" || port == "" {
			return o, errors.New("this is no pod of Kubernetes: say where its API server is")
		}
		o.Server = "https://" + net.JoinHostPort(host, port)
	}
	if o.Client == nil {
		if o.TokenFile == "" {
			o.TokenFile = accountFolder + "token"
		}
		if o.CAFile == "" {
			o.CAFile = accountFolder + "ca.crt"
		}
	}
	if o.Namespace == "" {
		content, err := os.ReadFile(accountFolder + "namespace")
		if err != nil {
			return o, fmt.Errorf("no namespace: %w", err)
		}
		o.Namespace = strings.TrimSpace(string(content))
	}
	return o, nil
}

// Membership is one run of a member. It implements cluster.Membership,
// cluster.Teller and cluster.Doubter.
type Membership struct {
	*Observer

	// writing is held over a write of the lease, one at a time; own is the lease as
	// it was last written or read.
	writing chan struct{}
	own     lease         // guarded by writing
	toTell  chan struct{} // holds at most one token: there is something to tell
	// steady is since when every renewal has succeeded; zero: the last one failed. Of
	// the goroutine that renews alone.
	steady time.Time

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

// Join makes this process a member and gives it an id of its own. It returns once
// the members are known, this one among them; ctx bounds the wait for that. The
// caller must Leave.
func Join(ctx context.Context, options Options, member cluster.Member) (_ *Membership, err error) {
	member.ID = newID(member.Name)
	if err := member.Validate(); err != nil {
		return nil, fmt.Errorf("kubernetes: join: %w", err)
	}
	observer, err := newObserver(options)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: join: %w", err)
	}
	m := &Membership{
		Observer: observer, self: member, serves: member.Serves, unfit: member.Unfit, steady: time.Now(),
		writing: make(chan struct{}, 1), toTell: make(chan struct{}, 1), evicted: make(chan struct{}),
	}
	observer.changed = m.missed
	content, err := cluster.EncodeMember(member)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: join: %w", err)
	}
	if m.own, err = m.api.create(ctx, m.newLease(string(content))); err != nil {
		return nil, fmt.Errorf("kubernetes: join: %w", err)
	}
	if err := observer.start(ctx); err != nil {
		err = errors.Join(err, m.api.remove(context.WithoutCancel(ctx), m.own))
		return nil, fmt.Errorf("kubernetes: join: %w", err)
	}
	observer.running.Go(func() { m.renew(observer.context) })
	observer.running.Go(func() { m.tell(observer.context) })
	return m, nil
}

// newID names one run of a member. It is the Lease's name too, which has no
// capitals.
func newID(name string) string {
	run := make([]byte, 8)
	_, _ = rand.Read(run) // crypto/rand never fails: it ends the program instead
	return strings.ToLower(name) + "." + hex.EncodeToString(run)
}

func (m *Membership) newLease(content string) lease {
	return lease{
		APIVersion: "coordination.k8s.io/v1", Kind: "Lease",
		Metadata: metadata{
			Name: m.self.ID, Labels: map[string]string{label: m.options.Cluster}, Annotations: map[string]string{annotation: content},
		},
		Spec: leaseSpec{
			HolderIdentity: m.self.ID, LeaseDurationSeconds: max(1, int((m.options.Lease+time.Second-1)/time.Second)), RenewTime: microTime(time.Now()),
		},
	}
}

// microTime is how Kubernetes writes the time of a renewal: for people to see, since
// clocks differ.
func microTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

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
		return fmt.Errorf("kubernetes: tell of the member: %w", ctx.Err())
	}
	next := m.Self()
	change(&next)
	if err := next.Validate(); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	content, err := cluster.EncodeMember(next)
	if err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	if err := m.write(ctx, string(content)); err != nil {
		return fmt.Errorf("kubernetes: tell of the member: %w", err)
	}
	m.mu.Lock()
	m.self = next
	m.mu.Unlock()
	return nil
}

// write renews the lease, with what the member says of itself unless that is empty.
// One that another wrote to is read again first. Error: ErrEvicted, or that the API
// server did not take it. The caller holds writing.
func (m *Membership) write(ctx context.Context, content string) error {
	for attempt := 0; ; attempt++ {
		next := m.own
		next.Spec.RenewTime = microTime(time.Now())
		if content != "" {
			next.Metadata.Annotations = map[string]string{annotation: content}
		}
		made, err := m.api.update(ctx, next)
		switch {
		case err == nil:
			m.own = made
			return nil
		case isStatus(err, http.StatusNotFound):
			m.gone("it wrote its lease")
			return cluster.ErrEvicted
		case !isStatus(err, http.StatusConflict) || attempt == 3:
			return err
		}
		// Mostly a write of its own whose answer was lost.
		now, err := m.api.get(ctx, m.own.Metadata.Name)
		switch {
		case isStatus(err, http.StatusNotFound) || err == nil && now.Metadata.UID != m.own.Metadata.UID:
			m.gone("it read its lease")
			return cluster.ErrEvicted
		case err != nil:
			return err
		}
		m.own = now
	}
}

// Evicted implements cluster.Membership.
func (m *Membership) Evicted() <-chan struct{} { return m.evicted }

// gone takes note that Kubernetes does not know the member any more.
func (m *Membership) gone(when string) {
	m.evict.Do(func() {
		m.options.Logger.Warn("evicted from the cluster", "member", m.Self().ID, "told_when", when)
		close(m.evicted)
	})
}

// missed evicts this member when its lease is not among the leases.
func (m *Membership) missed(leases map[string]lease) {
	if _, ok := leases[m.Self().ID]; !ok {
		m.gone("the members changed")
	}
}

// Leave implements cluster.Membership.
func (m *Membership) Leave(ctx context.Context) error {
	m.leaving.Do(func() {
		m.stop()
		select {
		case m.writing <- struct{}{}:
			defer func() { <-m.writing }()
		case <-ctx.Done():
			m.left = fmt.Errorf("kubernetes: leave: %w", ctx.Err())
			return
		}
		err := m.api.remove(ctx, lease{Metadata: metadata{Name: m.own.Metadata.Name, UID: m.own.Metadata.UID}})
		// A conflict: it is the lease of another by now.
		if err != nil && !isStatus(err, http.StatusNotFound) && !isStatus(err, http.StatusConflict) {
			m.left = fmt.Errorf("kubernetes: leave: %w", err)
		}
	})
	return m.left
}
