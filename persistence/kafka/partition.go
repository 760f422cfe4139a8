package kafka

import "encoding/binary"

// partitionOf returns the partition of a key, as Kafka's own clients place it.
func partitionOf(key string, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is MurmurHash2 of 32 bits with the seed that Kafka uses
// (org.apache.kafka.common.utils.Utils.murmur2).
func murmur2(key string) uint32 {
	const (
		seed  = 0x9747b28c
		mix   = 0x5bd1e995
		shift = 24
	)
	data := []byte(key)
	h := seed ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * mix
		k = (k ^ k>>shift) * mix
		h = h*mix ^ k
	}
	for i, b := range data {
		h ^= uint32(b) << (8 * i)
	}
	if len(data) > 0 {
		h *= mix
	}
	h = (h ^ h>>13) * mix
	return h ^ h>>15
}
