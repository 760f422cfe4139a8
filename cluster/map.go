// Package cluster says who is in a cluster, which shard a mailbox belongs to,
// and which member owns each shard.
//
// A cluster has a fixed number of shards. A mailbox belongs to the shard that
// the hash of its name picks, for ever. A shard belongs to the member that
// weighted rendezvous hashing picks among those of one membership revision
// (Thaler and Ravishankar, 1998; weights as by Schindelhauer and Schomaker,
// 2005), where no member takes more than a tenth above its fair share
// (Mirrokni, Thorup and Zadimoghaddam, 2018). Both hashes are 64 bits wide and
// well mixed, so that names which differ in one character are spread like any
// others.
//
// A shard changes hands while it is served: its new owner opens it and says so in
// the membership, and until then those who want something of it go to the member
// that has had it (Map.Server).
//
// Who knows the members knows every owner. Two members whose views differ for a
// moment may both take a shard for theirs: the journal makes that harmless.
package cluster

import (
	"fmt"
	"math"
	"slices"
)

// MaxShards bounds the number of shards of a cluster.
const MaxShards = 1 << 16

// Map places mailboxes on shards and shards on members, as of one membership
// revision. It is immutable and safe for concurrent use.
type Map struct {
	revision uint64
	members  []Member // that take shards
	owners   []int32  // by shard: index in members
	serving  []Member // that say which shards they serve
}

// NewMap computes the placement of a number of shards (1 to MaxShards) on the
// active talk members of a snapshot: on those that are fit, on all when none is.
// A shard that was moved goes where it was moved to while that member takes
// shards. Without any member that does, no shard has an owner.
func NewMap(shards int, s Snapshot) (*Map, error) {
	if shards < 1 || shards > MaxShards {
		return nil, fmt.Errorf("%d shards: must be 1 to %d", shards, MaxShards)
	}
	m := &Map{revision: s.Revision}
	for _, member := range s.Members {
		if member.Role != RoleTalk {
			continue
		}
		if member.State == StateActive {
			m.members = append(m.members, member)
		}
		if member.Serves.Tells() {
			m.serving = append(m.serving, member)
		}
	}
	if fit := slices.DeleteFunc(slices.Clone(m.members), func(m Member) bool { return m.Unfit != "" }); len(fit) > 0 {
		m.members = fit
	}
	m.owners = slices.Repeat([]int32{none}, shards)
	if len(m.members) > 0 {
		m.place(shards, s.Moves)
	}
	return m, nil
}

const none = -1

// place gives the shards that were moved to whom they were moved, and then each
// other shard, in order, to the member that likes it best among those that have
// room.
func (m *Map) place(shards int, moves map[uint32]string) {
	room := m.room(shards)
	seeds := make([]uint64, len(m.members))
	index := make(map[string]int, len(m.members))
	for i, member := range m.members {
		seeds[i] = hash(member.ID)
		index[member.ID] = i
	}
	for shard, to := range moves {
		if i, takes := index[to]; takes && int64(shard) < int64(shards) {
			m.owners[shard] = int32(i)
			room[i] = max(room[i]-1, 0)
		}
	}
	for shard, owner := range m.owners {
		if owner != none {
			continue
		}
		best, most := none, math.Inf(-1)
		for i := range m.members {
			if room[i] == 0 {
				continue
			}
			if liking := rendezvous(seeds[i], shard, m.members[i].Weight); liking > most {
				best, most = i, liking
			}
		}
		room[best]--
		m.owners[shard] = int32(best)
	}
}

// room returns how many shards each member may take: a tenth above its share,
// rounded up.
func (m *Map) room(shards int) []int {
	total := 0
	for _, member := range m.members {
		total += member.Weight
	}
	room := make([]int, len(m.members))
	for i, member := range m.members {
		share := 11 * shards * member.Weight
		room[i] = (share + 10*total - 1) / (10 * total)
	}
	return room
}

// rendezvous returns how much a member likes a shard: of all members, each is
// the one that likes it best with a probability in proportion to its weight.
func rendezvous(seed uint64, shard, weight int) float64 {
	uniform := (float64(mix(seed^mix(uint64(shard)+1))>>11) + 0.5) / (1 << 53) // in (0, 1)
	return -float64(weight) / math.Log(uniform)
}

// Revision returns the membership revision that the map was made from.
func (m *Map) Revision() uint64 { return m.revision }

// Shards returns the number of shards.
func (m *Map) Shards() int { return len(m.owners) }

// Shard returns the shard that a mailbox belongs to.
func (m *Map) Shard(mailbox string) uint32 { return ShardOf(mailbox, len(m.owners)) }

// ShardOf returns the shard that a mailbox belongs to among so many. It is the
// same for ever: what is stored depends on it.
func ShardOf(mailbox string, shards int) uint32 {
	return uint32(mix(hash(mailbox)) % uint64(shards))
}

// Owner returns the member that owns a shard; false when there is none.
func (m *Map) Owner(shard uint32) (Member, bool) {
	i := m.owners[shard]
	if i == none {
		return Member{}, false
	}
	return m.members[i], true
}

// Server returns the member to go to for a shard: its owner, but while that says
// that it does not serve the shard yet, a member that does. False when there is
// neither.
func (m *Map) Server(shard uint32) (Member, bool) {
	owner, ok := m.Owner(shard)
	if ok && (!owner.Serves.Tells() || owner.Serves.Has(shard)) {
		return owner, true
	}
	for _, member := range m.serving {
		if member.Serves.Has(shard) {
			return member, true
		}
	}
	return owner, ok
}

// Owned returns the shards that a member owns, in order.
func (m *Map) Owned(member string) []uint32 {
	var owned []uint32
	for shard, i := range m.owners {
		if i != none && m.members[i].ID == member {
			owned = append(owned, uint32(shard))
		}
	}
	return owned
}

// hash is FNV-1a; mix makes up for its weakness in the last characters.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014): every bit
// of the input reaches every bit of the output.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
