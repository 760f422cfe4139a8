package mailbox

import "encoding/binary"

const (
	// filterKeys is how many keys a generation of a filter takes, and
	// filterBits its bits: 16 for each key, of which filterProbes are set, so
	// that a full one has one key in 1,700 that was never added.
	filterKeys   = MaxDedupInMemory
	filterBits   = 16 * filterKeys
	filterProbes = 8
	// maxGenerations bounds a filter, which takes half a megabyte then.
	maxGenerations = 64
)

// filter remembers the keys of dedup entries that a window let go of, so that
// hardly any key that was never there has to be looked up in the store. It may
// take a key for one that it has, and never misses one that is as young as
// completeFrom. Generations are Bloom filters in the order of time: the oldest
// go as a whole.
type filter struct {
	generations []generation
	// completeFrom is the log time from which on no key is missing.
	completeFrom int64
}

// generation is a Bloom filter (Bloom, 1970).
type generation struct {
	bits   *[filterBits / 64]uint64
	keys   int
	newest int64 // log time of the newest key
}

// add adds the key of an entry that is not older than any added before.
func (f *filter) add(key dedupKey, time int64) {
	last := len(f.generations) - 1
	if last < 0 || f.generations[last].keys == filterKeys {
		if len(f.generations) == maxGenerations {
			f.completeFrom = max(f.completeFrom, f.generations[0].newest+1)
			f.dropOldest()
		}
		f.generations = append(f.generations, generation{bits: new([filterBits / 64]uint64)})
		last = len(f.generations) - 1
	}
	g := &f.generations[last]
	g.keys++
	g.newest = time
	for p := range probes(key) {
		g.bits[p/64] |= 1 << (p % 64)
	}
}

// mayHave reports whether a key that is as young as notBefore may have been
// added. It is true when older ones are missing than that.
func (f *filter) mayHave(key dedupKey, notBefore int64) bool {
	if f.completeFrom > notBefore {
		return true
	}
	for _, g := range f.generations {
		if g.mayHave(key) {
			return true
		}
	}
	return false
}

func (g generation) mayHave(key dedupKey) bool {
	for p := range probes(key) {
		if g.bits[p/64]&(1<<(p%64)) == 0 {
			return false
		}
	}
	return true
}

// probes yields the bits of a key. Keys are keyed hashes already: two halves of
// one make any number of hashes (Kirsch and Mitzenmacher, 2006).
func probes(key dedupKey) func(yield func(uint32) bool) {
	first, step := binary.BigEndian.Uint32(key[:]), binary.BigEndian.Uint32(key[4:])|1
	return func(yield func(uint32) bool) {
		for range filterProbes {
			if !yield(uint32(uint64(first) * filterBits >> 32)) {
				return
			}
			first += step
		}
	}
}

// expire lets go of the generations that are older than a log time altogether.
func (f *filter) expire(notBefore int64) {
	for len(f.generations) > 0 && f.generations[0].newest < notBefore {
		f.dropOldest()
	}
	if len(f.generations) == 0 {
		f.generations = nil
	}
}

func (f *filter) dropOldest() {
	f.generations[0] = generation{}
	f.generations = f.generations[1:]
}
