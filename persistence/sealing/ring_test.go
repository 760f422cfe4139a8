package sealing_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// countingKeys counts reads, and stops them at a gate when it has one.
type countingKeys struct {
	persistence.Keys
	gate             chan struct{}
	reads            atomic.Int64
	running, highest atomic.Int64
}

func (k *countingKeys) Get(ctx context.Context, mailbox string) (persistence.Key, error) {
	k.reads.Add(1)
	running := k.running.Add(1)
	defer k.running.Add(-1)
	for highest := k.highest.Load(); running > highest && !k.highest.CompareAndSwap(highest, running); {
		highest = k.highest.Load()
	}
	key, err := k.Keys.Get(ctx, mailbox)
	if k.gate != nil {
		select {
		case <-k.gate:
		case <-ctx.Done():
			return persistence.Key{}, ctx.Err()
		}
	}
	return key, err
}

func names(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("user%d", i)
	}
	return names
}

func ringOf(t *testing.T, mailboxes, size int) (*sealing.Ring, *countingKeys, []persistence.Key) {
	t.Helper()
	keys := &countingKeys{Keys: memory.NewKeys()}
	ring := sealing.NewRing(keys, size, 0)
	made, err := ring.Create(t.Context(), names(mailboxes))
	if err != nil {
		t.Fatal(err)
	}
	return ring, keys, made
}

func TestRingReadsOnce(t *testing.T) {
	ring, keys, made := ringOf(t, 100, 0)
	for range 3 {
		for i, mailbox := range names(100) {
			if key, err := ring.Get(t.Context(), mailbox); err != nil || key != made[i] {
				t.Fatalf("key of %s: error %v, as made: %v", mailbox, err, key == made[i])
			}
		}
	}
	if got := keys.reads.Load(); got != 100 {
		t.Errorf("the key store was read %d times, want 100", got)
	}
	if _, err := ring.Get(t.Context(), "nobody"); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("an unknown mailbox: %v, want ErrNotFound", err)
	}
}

// TestRingIsBounded: keys that are used stay, however many pass by.
func TestRingIsBounded(t *testing.T) {
	const size = 6400
	ring, keys, _ := ringOf(t, 10*size, size)
	for _, mailbox := range names(10 * size) {
		for _, name := range []string{mailbox, "user7"} {
			if _, err := ring.Get(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := keys.reads.Load(); got != 10*size {
		t.Errorf("%d reads for %d keys used once and one used always, want %d", got, 10*size, 10*size)
	}
	before := keys.reads.Load()
	for _, mailbox := range names(10 * size) {
		if _, err := ring.Get(t.Context(), mailbox); err != nil {
			t.Fatal(err)
		}
	}
	if again := keys.reads.Load() - before; again < 9*size {
		t.Errorf("%d of %d keys were still in a ring of %d", 10*size-again, 10*size, size)
	}
}

func TestRingFoldsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, keys, made := ringOf(t, 1, 0)
		keys.gate = make(chan struct{})
		const callers = 50
		results := make(chan error, callers)
		for range callers {
			go func() {
				key, err := ring.Get(t.Context(), "user0")
				if err == nil && key != made[0] {
					err = errors.New("another key")
				}
				results <- err
			}()
		}
		synctest.Wait()
		close(keys.gate)
		for range callers {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if got := keys.reads.Load(); got != 1 {
			t.Errorf("%d callers read the key store %d times, want once", callers, got)
		}
	})
}

func TestRingBoundsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers = 500
		ring, keys, _ := ringOf(t, callers, 0)
		keys.gate = make(chan struct{})
		results := make(chan error, callers)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, mailbox := range names(callers) {
			go func() {
				_, err := ring.Get(ctx, mailbox)
				results <- err
			}()
		}
		synctest.Wait()
		if got := keys.running.Load(); got != 64 {
			t.Errorf("%d reads run at a time, want 64", got)
		}
		<-time.After(2 * time.Minute) // the deadline ends those that wait, too
		for range callers {
			if err := <-results; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a read past its deadline: %v", err)
			}
		}
	})
}

// TestRingReaderInAHurry: a caller whose time is up does not take those along
// who wait for its read.
func TestRingReaderInAHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, keys, _ := ringOf(t, 1, 0)
		keys.gate = make(chan struct{})
		hurried, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first, second := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := ring.Get(hurried, "user0")
			first <- err
		}()
		synctest.Wait()
		go func() {
			_, err := ring.Get(t.Context(), "user0")
			second <- err
		}()
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller in a hurry: %v", err)
		}
		synctest.Wait()
		close(keys.gate)
		if err := <-second; err != nil {
			t.Errorf("the patient caller: %v", err)
		}
	})
}

// TestRingForgets: a key that was dropped does not come back, not even by a
// read that was under way.
func TestRingForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring, keys, _ := ringOf(t, 2, 0)
		wantGone := func(mailbox string) {
			t.Helper()
			if _, err := ring.Get(t.Context(), mailbox); !errors.Is(err, persistence.ErrNotFound) {
				t.Errorf("the key of %s after it was dropped: %v, want ErrNotFound", mailbox, err)
			}
		}
		if _, err := ring.Get(t.Context(), "user0"); err != nil {
			t.Fatal(err)
		}
		if err := ring.Forget(t.Context(), "user0"); err != nil {
			t.Fatal(err)
		}
		wantGone("user0")

		keys.gate = make(chan struct{})
		underWay := make(chan error, 1)
		go func() {
			_, err := ring.Get(t.Context(), "user1")
			underWay <- err
		}()
		synctest.Wait() // it has read the key
		if err := ring.Forget(t.Context(), "user1"); err != nil {
			t.Fatal(err)
		}
		close(keys.gate)
		if err := <-underWay; err != nil {
			t.Errorf("the read under way: %v", err)
		}
		wantGone("user1")
	})
}

func BenchmarkRingHit(b *testing.B) {
	keys := memory.NewKeys()
	ring := sealing.NewRing(keys, 0, 0)
	all := names(10_000)
	if _, err := ring.Create(b.Context(), all); err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := ring.Get(b.Context(), all[i%len(all)]); err != nil {
				b.Error(err)
			}
		}
	})
}
