package cluster

import (
	"cmp"
	"fmt"
	"slices"
)

// A Role says which parts of Tegami a member runs.
type Role string

// The roles.
const (
	// RoleTalk owns shards.
	RoleTalk Role = "talk"
	// RoleGateway holds the connections of clients.
	RoleGateway Role = "gateway"
	// RoleWorker processes what need not be in the path of a send.
	RoleWorker Role = "worker"
)

// A State says what a member is about.
type State string

// The states, in the order in which a member has them.
const (
	// StateJoining: it is there, and takes no shards yet.
	StateJoining State = "joining"
	// StateActive: it takes shards.
	StateActive State = "active"
	// StateDraining: it gives its shards away and is about to leave.
	StateDraining State = "draining"
)

// DefaultWeight is the weight of a usual member.
const DefaultWeight = 100

// MaxWeight bounds weights.
const MaxWeight = 10_000

// Member is one node of a cluster.
type Member struct {
	// ID names the member for one run: a member that returns has a new one.
	ID string
	// Name is the same in all its runs, and its own: for people.
	Name string
	// Address is where other members reach it, as host:port.
	Address string
	// Admin is where operators reach it, as host:port; empty: it does not say.
	Admin string
	Role  Role
	State State
	// Weight is its share of the shards relative to other members, 1 to
	// MaxWeight.
	Weight int
	// Version is that of its program.
	Version string
	// Apply is the newest version of apply that it knows.
	Apply uint32
	// Unfit says, in a word, why the member cannot take shards though it is
	// active. Empty: it can.
	Unfit string
	// Serves are the shards that it says it serves.
	Serves ShardSet
	// Region is where it is; empty when that does not matter.
	Region string
	// URL is where clients reach it; empty: they do not.
	URL string
	// Load is which part of its connections of clients is in use, 0 to 1.
	Load float64
}

// Validate returns what is wrong with a member.
func (m Member) Validate() error {
	switch {
	case m.ID == "":
		return fmt.Errorf("member %q: no id", m.Name)
	case m.Address == "":
		return fmt.Errorf("member %q: no address", m.ID)
	case !slices.Contains([]Role{RoleTalk, RoleGateway, RoleWorker}, m.Role):
		return fmt.Errorf("member %q: role %q: must be talk, gateway or worker", m.ID, m.Role)
	case !slices.Contains([]State{StateJoining, StateActive, StateDraining}, m.State):
		return fmt.Errorf("member %q: state %q: must be joining, active or draining", m.ID, m.State)
	case len(m.Serves) > MaxShards/8:
		return fmt.Errorf("member %q: it says that it serves more than %d shards", m.ID, MaxShards)
	case m.Weight < 1 || m.Weight > MaxWeight:
		return fmt.Errorf("member %q: weight %d: must be 1 to %d", m.ID, m.Weight, MaxWeight)
	default:
		return nil
	}
}

// Snapshot is who the members were at one revision of the membership. It is
// immutable.
type Snapshot struct {
	// Revision grows with every change.
	Revision uint64
	// Members are in the order of their ids, no two with the same.
	Members []Member
	// Moves has, by shard, the id of the member that an operator moved it to.
	Moves map[uint32]string
}

// NewSnapshot returns a snapshot of valid members with different ids, in any
// order.
func NewSnapshot(revision uint64, members []Member) (Snapshot, error) {
	s := Snapshot{Revision: revision, Members: slices.Clone(members)}
	slices.SortFunc(s.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	for i, m := range s.Members {
		if err := m.Validate(); err != nil {
			return Snapshot{}, err
		}
		if i > 0 && s.Members[i-1].ID == m.ID {
			return Snapshot{}, fmt.Errorf("member %q: twice", m.ID)
		}
	}
	return s, nil
}

// Apply returns the newest version of apply that all members know which own
// shards or hold clients: what those of a newer version make, the others could
// not apply or show. It is at least 1.
func (s Snapshot) Apply() uint32 {
	var all []uint32
	for _, m := range s.Members {
		if m.Role != RoleWorker {
			all = append(all, m.Apply)
		}
	}
	if len(all) == 0 {
		return 1
	}
	return max(slices.Min(all), 1)
}

// Member returns the member with an id.
func (s Snapshot) Member(id string) (Member, bool) {
	i, found := slices.BinarySearchFunc(s.Members, id, func(m Member, id string) int { return cmp.Compare(m.ID, id) })
	if !found {
		return Member{}, false
	}
	return s.Members[i], true
}
