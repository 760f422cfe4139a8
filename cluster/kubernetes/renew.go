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
	tick := time.NewTicker(m.options.Lease / 4)
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
		m.writing <- struct{}{}
		err := m.write(ctx, "")
		<-m.writing
		switch {
		case ctx.Err() != nil || errors.Is(err, cluster.ErrEvicted):
			return
		case err != nil && !failing:
			m.options.Logger.Warn("the API server does not renew the lease; the members stay what they were", "error", err)
		case err == nil && failing:
			m.options.Logger.Info("the API server renews the lease again")
		}
		failing = err != nil
		m.reap(ctx, failing)
	}
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

// tellAgain is how long to wait before what could not be told is told again.
const tellAgain = 200 * time.Millisecond

// tell tells the newest of what is to be told, as often as it takes.
func (m *Membership) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.evicted:
			return
		case <-m.toTell:
		}
		m.mu.Lock()
		serves, unfit, told := m.serves, m.unfit, m.self
		m.mu.Unlock()
		if serves == told.Serves && unfit == told.Unfit {
			continue
		}
		err := m.change(ctx, func(self *cluster.Member) { self.Serves, self.Unfit = serves, unfit })
		if err == nil || errors.Is(err, cluster.ErrEvicted) {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tellAgain):
		}
		select {
		case m.toTell <- struct{}{}:
		default:
		}
	}
}
