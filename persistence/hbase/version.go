package hbase

import (
	"fmt"

	"github.com/tegami-im/tegami/persistence"
)

// An HBase version (its "timestamp") is a signed 64-bit number, of which the
// positive ones below the highest are free to use: the highest means "now". A
// position's generation takes the 15 bits below the sign and its offset the
// lowest 48. Generations are made by an operator's hand after a journal was
// lost, so that 32,766 are enough; 2^48 offsets last a shard for 89 years at
// 100,000 records a second.
const (
	offsetBits    = 48
	maxOffset     = 1<<offsetBits - 1
	maxGeneration = 1<<15 - 2
	// maxVersion lies above the version of every position in range.
	maxVersion = uint64(maxGeneration+1) << offsetBits
)

// versionOf returns the HBase version of a position; 0 for the zero position.
func versionOf(p persistence.Position) (uint64, error) {
	if p.Generation > maxGeneration || p.Offset < 0 || p.Offset > maxOffset {
		return 0, fmt.Errorf("position %d/%d is beyond what an HBase version holds: generations end at %d, offsets at %d",
			p.Generation, p.Offset, maxGeneration, int64(maxOffset))
	}
	return uint64(p.Generation)<<offsetBits | uint64(p.Offset), nil
}

// sourceVersion returns the version of a source's or a part's cell. Positions out of range
// share the highest version: among them the last put wins. No journal makes
// such, because a store refuses its states.
func sourceVersion(p persistence.Position) uint64 {
	version, err := versionOf(p)
	if err != nil {
		return maxVersion
	}
	return version
}

// positionOfVersion returns the position that an HBase version stands for.
func positionOfVersion(version uint64) persistence.Position {
	return persistence.Position{Generation: uint32(version >> offsetBits), Offset: int64(version & maxOffset)}
}
