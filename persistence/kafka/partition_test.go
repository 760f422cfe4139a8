package kafka

import "testing"

// The values are those of Kafka's own test, UtilsTest.testMurmur2.
func TestMurmur2IsKafkas(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2(key)); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
}

func TestPartitionsAreNotNegative(t *testing.T) {
	for _, key := range []string{"", "21", "foobar", "abc"} {
		if p := partitionOf(key, 12); p < 0 || p >= 12 {
			t.Errorf("%q: partition %d of 12", key, p)
		}
	}
}
