package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Membership has this process be a member and tells who the others are. Its
// methods are safe for concurrent use.
type Membership interface {
	// Self returns this member, in the state that it was last given.
	Self() Member
	// Snapshot returns the newest that is known. It stays what it is while the
	// members cannot be learned.
	Snapshot() Snapshot
	// Subscribe has a function called with the newest snapshot, at once, and
	// with each one that follows, in order, until the function that it returns
	// was called. It must not block.
	Subscribe(func(Snapshot)) (unsubscribe func())
	// SetState tells the others what this member is about. Error: ErrEvicted,
	// or that it could not be told.
	SetState(ctx context.Context, state State) error
	// Evicted is closed when the member was told that it is none any more. It
	// must stop what it owns, leave, and join again under a new id.
	Evicted() <-chan struct{}
	// Leave ends the membership; the others are told unless ctx ends first.
	// Calls after the first do nothing.
	Leave(ctx context.Context) error
}

// Teller is a membership that has its members tell more of themselves than their
// state. It is safe for concurrent use.
type Teller interface {
	// Tell has the others learn which shards this member serves, and why it is
	// unfit, or that it is fit (""). It does not block: only the newest is told,
	// and as soon as can be.
	Tell(serves ShardSet, unfit string)
}

// Doubter is a membership of which a member may be replaced without being told.
// It is safe for concurrent use.
type Doubter interface {
	// Doubt says that there are signs that another member has the shards of this
	// one. It does not block. Evicted is closed when they prove true.
	Doubt()
}

// ErrEvicted is returned to a member that is none any more.
var ErrEvicted = errors.New("no member of the cluster any more")

// Feed keeps the newest snapshot for whoever subscribes to it. The zero Feed is
// ready. It is safe for concurrent use.
type Feed struct {
	mu          sync.Mutex // guards the following, and is held while subscribers are called
	newest      Snapshot
	subscribers []*func(Snapshot)
}

// Publish hands a snapshot to all subscribers.
func (f *Feed) Publish(s Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest = s
	for _, subscriber := range f.subscribers {
		(*subscriber)(s)
	}
}

// Snapshot returns the newest, an empty one before the first.
func (f *Feed) Snapshot() Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newest
}

// Subscribe implements the method of Membership.
func (f *Feed) Subscribe(subscriber func(Snapshot)) (unsubscribe func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subscribers = append(f.subscribers, &subscriber)
	subscriber(f.newest)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.subscribers = slices.DeleteFunc(f.subscribers, func(s *func(Snapshot)) bool { return s == &subscriber })
	}
}

// Static is a membership of members that are written down: for fleets that do
// not change, and for tests. Nobody is ever evicted from it, and a state that
// a member sets is known to itself alone.
type Static struct {
	Feed
	id string
}

// NewStatic returns the membership of the member with an id, which must be one
// of the members.
func NewStatic(id string, members []Member) (*Static, error) {
	s := &Static{id: id}
	return s, s.Update(members)
}

// Update replaces the members, this one among them.
func (s *Static) Update(members []Member) error {
	next, err := NewSnapshot(s.Snapshot().Revision+1, members)
	if err != nil {
		return err
	}
	if _, ok := next.Member(s.id); !ok {
		return fmt.Errorf("member %q: not among the members", s.id)
	}
	s.Publish(next)
	return nil
}

// Self implements Membership.
func (s *Static) Self() Member {
	self, _ := s.Snapshot().Member(s.id)
	return self
}

// SetState implements Membership.
func (s *Static) SetState(_ context.Context, state State) error {
	members := slices.Clone(s.Snapshot().Members)
	for i := range members {
		if members[i].ID == s.id {
			members[i].State = state
		}
	}
	return s.Update(members)
}

// Evicted implements Membership. It is never closed.
func (*Static) Evicted() <-chan struct{} { return nil }

// Leave implements Membership. There is nobody to tell.
func (*Static) Leave(context.Context) error { return nil }
