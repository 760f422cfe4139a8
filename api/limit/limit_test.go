package limit

import (
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"
)

func TestAllowsABurstThenTheSteadyRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := NewTable[string](Rate{PerSecond: 10, Burst: 3}, 100)
		for i := range 3 {
			if _, ok := table.Allow("alice"); !ok {
				t.Fatalf("event %d of the burst was refused", i+1)
			}
		}
		wait, ok := table.Allow("alice")
		if ok || wait != 100*time.Millisecond {
			t.Fatalf("after the burst: wait %v, ok %v, want 100ms, false", wait, ok)
		}
		if _, ok := table.Allow("bob"); !ok {
			t.Fatal("another key was refused")
		}
		<-time.After(wait)
		if _, ok := table.Allow("alice"); !ok {
			t.Fatal("refused after the wait that was asked for")
		}
	})
}

func TestNoRateMeansNoLimit(t *testing.T) {
	table := NewTable[int](Rate{}, 1)
	for i := range 1000 {
		if _, ok := table.Allow(i); !ok {
			t.Fatalf("event %d was refused", i)
		}
	}
	if table.Len() != 0 {
		t.Fatalf("remembers %d keys without a limit", table.Len())
	}
}

func TestForgetsIdleKeysAndStaysBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1600
		table := NewTable[string](Rate{PerSecond: 1, Burst: 10}, limit)
		refused := 0
		for i := range 10 * limit {
			if _, ok := table.Allow(strconv.Itoa(i)); !ok {
				refused++
			}
		}
		if n := table.Len(); n > limit {
			t.Fatalf("remembers %d keys, the bound is %d", n, limit)
		}
		if refused == 0 {
			t.Fatal("a table full of active keys took further ones")
		}
		<-time.After(time.Minute) // all buckets are full again
		for i := range 1000 {
			if _, ok := table.Allow("later" + strconv.Itoa(i)); !ok {
				t.Fatal("refused though every key is idle")
			}
		}
	})
}

// The table gives the same answers as the reference token bucket.
func TestAgreesWithTheReferenceBucket(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		perSecond := rapid.IntRange(1, 50).Draw(rt, "rate")
		burst := rapid.IntRange(1, 20).Draw(rt, "burst")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 500), 1, 60).Draw(rt, "pauses")
		var got, want []bool // compared outside of the bubble, so that rapid can shrink
		synctest.Test(t, func(*testing.T) {
			table := NewTable[string](Rate{PerSecond: float64(perSecond), Burst: burst}, 100)
			reference := rate.NewLimiter(rate.Every(time.Second/time.Duration(perSecond)), burst)
			for _, pause := range pauses {
				// Odd microseconds keep clear of the reference's rounding at
				// the instant at which a token appears.
				<-time.After(time.Duration(pause)*time.Millisecond + 37*time.Microsecond)
				_, ok := table.Allow("key")
				got, want = append(got, ok), append(want, reference.Allow())
			}
		})
		if !slices.Equal(got, want) {
			rt.Fatalf("table says %v, reference %v", got, want)
		}
	})
}

func BenchmarkAllow(b *testing.B) {
	table := NewTable[string](Rate{PerSecond: 1e9, Burst: 1000}, 1<<20)
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = "user" + strconv.Itoa(i)
	}
	b.ReportAllocs()
	for i := range b.N {
		table.Allow(keys[i%len(keys)])
	}
}
