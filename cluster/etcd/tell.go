package etcd

import (
	"context"
	"errors"
	"time"

	"github.com/tegami-im/tegami/cluster"
)

// Tell implements cluster.Teller: the newest is told as soon as can be, and what
// comes quickly one after the other is told together.
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
	// tellPause is the least time from one thing told to the next: a node that
	// takes many shards over does not write for each.
	tellPause = 20 * time.Millisecond
	tellAgain = 500 * time.Millisecond
	tellLimit = 2 * time.Second
)

// tell tells the others what is to be told, until the membership ends.
func (m *Membership) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.evicted:
			return
		case <-m.toTell:
		}
		for pause := tellPause; ; pause = tellAgain {
			err := m.tellOnce(ctx)
			if errors.Is(err, cluster.ErrEvicted) {
				return
			}
			if err == nil {
				pause = tellPause
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			if err == nil {
				break
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
	ctx, cancel := context.WithTimeout(ctx, tellLimit)
	defer cancel()
	return m.change(ctx, func(self *cluster.Member) { self.Serves, self.Unfit = serves, unfit })
}

// Doubt implements cluster.Doubter. While etcd renews the lease there is nothing
// to doubt: the other one is wrong. But a member that etcd does not answer for
// longer than its lease, while the signs go on for as long, was replaced: it is
// cut off alone.
func (m *Membership) Doubt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubts.Add(time.Now(), m.options.Lease)
}

// dispel forgets the doubts: etcd knows this member.
func (m *Membership) dispel() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubts = cluster.Doubts{}
}

// replaced reports whether the doubts, which all came since etcd answered last,
// are enough.
func (m *Membership) replaced(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.doubts.Enough(now, m.options.Lease)
}
