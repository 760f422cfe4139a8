package kubernetes

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tegami-im/tegami/cluster"
)

// renew keeps the lease until it is gone, and removes those of members that do not
// keep theirs.
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
		err := m.renewOnce(ctx, max(every, time.Second))
		switch {
		case ctx.Err() != nil || errors.Is(err, cluster.ErrEvicted):
			return
		case err == nil:
			m.dispel()
			if failing {
				m.options.Logger.Info("the API server renews the lease again")
			}
		case m.replaced(time.Now()):
			m.gone("others had its shards, and the API server did not answer")
			return
		case !failing:
			m.options.Logger.Warn("the API server does not renew the lease; the members stay what they were", "error", err)
		}
		failing = err != nil
		m.reap(ctx, failing)
	}
}

// renewOnce renews the lease within a limit: one call that hangs must not cost it.
func (m *Membership) renewOnce(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case m.writing <- struct{}{}:
		defer func() { <-m.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.write(ctx, "")
}

// reap removes the leases of those that have not written theirs for its length. It
// counts only the time in which this member could write its own: when the API server
// takes no writes, nobody can be blamed for making none.
func (m *Membership) reap(ctx context.Context, failing bool) {
	now := time.Now()
	switch {
	case failing:
		m.steady = time.Time{}
		return
	case m.steady.IsZero():
		m.steady = now
	}
	if now.Sub(m.steady) < m.options.Lease {
		return
	}
	for _, l := range m.overdue(now.Add(-m.options.Lease)) {
		if l.Metadata.Name == m.Self().ID {
			continue // its renewals were taken; they are on their way here
		}
		// As it was seen last: one that was written meanwhile stays.
		err := m.api.remove(ctx, l)
		switch {
		case err == nil:
			m.options.Logger.Warn("a member has not renewed its lease, and is one no more", "member", l.Spec.HolderIdentity)
		case isStatus(err, http.StatusNotFound), isStatus(err, http.StatusConflict):
		default:
			m.options.Logger.Warn("a lease that is over cannot be removed", "member", l.Spec.HolderIdentity, "error", err)
		}
	}
}

// Tell implements cluster.Teller.
func (m *Membership) Tell(serves cluster.ShardSet, unfit string) {
	m.mu.Lock()
	m.serves, m.unfit = serves, unfit
	m.mu.Unlock()
	select {
	case m.toTell <- struct{}{}:
	default:
	}
}

const (
	// tellPause is the least time from one thing told to the next: a node that takes
	// many shards over does not write for each.
	tellPause = 100 * time.Millisecond
	tellAgain = 500 * time.Millisecond
)

// tell tells the newest of what is to be told, until the membership ends.
func (m *Membership) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.evicted:
			return
		case <-m.toTell:
		}
		for told := false; !told; {
			err := m.tellOnce(ctx)
			if errors.Is(err, cluster.ErrEvicted) {
				return
			}
			pause := tellPause
			if told = err == nil; !told {
				pause = tellAgain
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

func (m *Membership) tellOnce(ctx context.Context) error {
	m.mu.Lock()
	serves, unfit, same := m.serves, m.unfit, m.serves == m.self.Serves && m.unfit == m.self.Unfit
	m.mu.Unlock()
	if same {
		return nil
	}
	return m.change(ctx, func(self *cluster.Member) { self.Serves, self.Unfit = serves, unfit })
}

// Doubt implements cluster.Doubter. While the API server renews the lease there is
// nothing to doubt: the other one is wrong.
func (m *Membership) Doubt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubts.Add(time.Now(), m.options.Lease)
}

// dispel forgets the doubts: the API server knows this member.
func (m *Membership) dispel() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubts = cluster.Doubts{}
}

// replaced reports whether the doubts, which all came since the lease was renewed
// last, are enough.
func (m *Membership) replaced(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doubts.Enough(now, m.options.Lease)
}
