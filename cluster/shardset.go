package cluster

import (
	"encoding/base64"
	"math/bits"
)

// ShardSet is the set of shards that a member says it serves, a bit for each. It
// is immutable. The zero value says nothing: the member is of a membership, or
// of a version, that does not tell, and is taken to serve what it owns.
type ShardSet string

// NewShardSet returns a set among so many shards, 1 to MaxShards, with those that
// has says are in it.
func NewShardSet(shards int, has func(shard uint32) bool) ShardSet {
	set := make([]byte, (shards+7)/8)
	for shard := range uint32(shards) {
		if has(shard) {
			set[shard/8] |= 1 << (shard % 8)
		}
	}
	return ShardSet(set)
}

// Tells reports whether the set says anything; an empty one may.
func (s ShardSet) Tells() bool { return s != "" }

// Has reports whether a shard is in the set.
func (s ShardSet) Has(shard uint32) bool {
	return int64(shard/8) < int64(len(s)) && s[shard/8]&(1<<(shard%8)) != 0
}

// Len returns how many shards are in the set.
func (s ShardSet) Len() (n int) {
	for i := range len(s) {
		n += bits.OnesCount8(s[i])
	}
	return n
}

// MarshalText returns the set in base64.
func (s ShardSet) MarshalText() ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString([]byte(s))), nil
}

// UnmarshalText reads what MarshalText returns.
func (s *ShardSet) UnmarshalText(text []byte) error {
	set, err := base64.StdEncoding.DecodeString(string(text))
	*s = ShardSet(set)
	return err
}
