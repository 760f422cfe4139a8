// Package cluster says which shard a mailbox belongs to and which member owns
// each shard.
//
// A cluster has a fixed number of shards. A mailbox belongs to the shard that
// the hash of its name picks, for ever; a shard belongs to the member that
// rendezvous hashing picks among those of one membership revision (Thaler and
// Ravishankar, 1998). Both hashes are 64 bits wide and well mixed, so that
// names which differ in one character are spread like any others.
package cluster

import (
	"fmt"
	"slices"
)

// MaxShards bounds the number of shards of a cluster.
const MaxShards = 1 << 16

// Member is one node that may own shards.
type Member struct {
	// ID names the member for one run: a member that returns has a new one.
	ID string
}

// Map places mailboxes on shards and shards on members, as of one membership
// revision. It is immutable and safe for concurrent use.
type Map struct {
	revision uint64
	owners   []Member
}

// NewMap computes the placement of a number of shards (1 to MaxShards) on
// members (at least one).
func NewMap(revision uint64, shards int, members []Member) (*Map, error) {
	if shards < 1 || shards > MaxShards {
		return nil, fmt.Errorf("%d shards: must be 1 to %d", shards, MaxShards)
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("no members to own %d shards", shards)
	}
	m := &Map{revision: revision, owners: make([]Member, shards)}
	for shard := range m.owners {
		m.owners[shard] = slices.MaxFunc(members, func(a, b Member) int {
			x, y := weight(a, shard), weight(b, shard)
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			default:
				return 0
			}
		})
	}
	return m, nil
}

// Revision returns the membership revision that the map was made from.
func (m *Map) Revision() uint64 { return m.revision }

// Shards returns the number of shards.
func (m *Map) Shards() int { return len(m.owners) }

// Shard returns the shard that a mailbox belongs to.
func (m *Map) Shard(mailbox string) uint32 {
	return uint32(mix(hash(mailbox)) % uint64(len(m.owners)))
}

// Owner returns the member that owns a shard.
func (m *Map) Owner(shard uint32) Member { return m.owners[shard] }

func weight(member Member, shard int) uint64 {
	return mix(hash(member.ID) ^ mix(uint64(shard)+1))
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
