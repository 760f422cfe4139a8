package sealing

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

func TestSealedBodyOpensOnlyWhereItBelongs(t *testing.T) {
	key, other := persistence.Key{1}, persistence.Key{2}
	id := []byte("0123456789abcdef")
	body := []byte("ご飯食べた？")
	sealed := Seal(key, "bob", id, body)
	if bytes.Contains(sealed, body) {
		t.Fatal("the sealed body shows what it seals")
	}
	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-1] ^= 1
	for name, test := range map[string]struct {
		key     persistence.Key
		mailbox string
		id      []byte
		sealed  []byte
		opens   bool
	}{
		"as it was sealed": {key, "bob", id, sealed, true},
		"another key":      {other, "bob", id, sealed, false},
		"another mailbox":  {key, "eve", id, sealed, false},
		"another message":  {key, "bob", []byte("fedcba9876543210"), sealed, false},
		"damaged":          {key, "bob", id, damaged, false},
		"cut short":        {key, "bob", id, sealed[:5], false},
		"empty":            {key, "bob", id, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Open(test.key, test.mailbox, test.id, test.sealed)
			if test.opens && (err != nil || !bytes.Equal(got, body)) {
				t.Errorf("got %q, %v", got, err)
			}
			if !test.opens && !errors.Is(err, ErrOpen) {
				t.Errorf("opened: %q, %v", got, err)
			}
		})
	}
	if bytes.Equal(sealed, Seal(key, "bob", id, body)) {
		t.Error("sealed twice alike: the nonce is not random")
	}
}

func TestHashesKeepTheirPartsApart(t *testing.T) {
	key := persistence.Key{1}
	seen := map[[16]byte]string{}
	for name, parts := range map[string][][]byte{
		"ab":    {[]byte("ab")},
		"a, b":  {[]byte("a"), []byte("b")},
		"b, a":  {[]byte("b"), []byte("a")},
		"ab, ":  {[]byte("ab"), nil},
		", ab":  {nil, []byte("ab")},
		"empty": {},
	} {
		var sum [16]byte
		Hash(sum[:], key, "test", parts...)
		if other, ok := seen[sum]; ok {
			t.Errorf("%q and %q have one hash", name, other)
		}
		seen[sum] = name
		var purpose, foreign [16]byte
		Hash(purpose[:], key, "other", parts...)
		Hash(foreign[:], persistence.Key{2}, "test", parts...)
		if purpose == sum || foreign == sum {
			t.Errorf("%q: another purpose or key gives the same hash", name)
		}
	}
}

// slowKeys counts look-ups, each of which waits until it is let go.
type slowKeys struct {
	persistence.Keys
	reads atomic.Int64
	let   chan struct{}
}

func (k *slowKeys) Get(ctx context.Context, mailbox string) (persistence.Key, error) {
	k.reads.Add(1)
	select {
	case <-k.let:
	case <-ctx.Done():
		return persistence.Key{}, ctx.Err()
	}
	return k.Keys.Get(ctx, mailbox)
}

func TestRingReadsAKeyOnce(t *testing.T) {
	keys := &slowKeys{Keys: memory.NewKeys(), let: make(chan struct{})}
	want, err := keys.Create(t.Context(), []string{"bob"})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := NewRing(keys, 10)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got, err := ring.Get(t.Context(), "bob"); err != nil || got != want[0] {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	close(keys.let)
	all.Wait()
	before := keys.reads.Load()
	if got, err := ring.Get(t.Context(), "bob"); err != nil || got != want[0] || keys.reads.Load() != before {
		t.Errorf("a known key was read again: %v, %d reads", err, keys.reads.Load())
	}
	ring.Forget("bob")
	if err := keys.Delete(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := ring.Get(t.Context(), "bob"); !errors.Is(err, persistence.ErrNotFound) {
			t.Errorf("a key that is gone: %v", err)
		}
	}
}

func TestRingWaitsNoLongerThanItsCaller(t *testing.T) {
	keys := &slowKeys{Keys: memory.NewKeys(), let: make(chan struct{})}
	ring, err := NewRing(keys, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ring.Get(ctx, "bob"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkSeal(b *testing.B) {
	body, id := make([]byte, 100), make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		Seal(persistence.Key{1}, "bob", id, body)
	}
}

func BenchmarkOpen(b *testing.B) {
	id := make([]byte, 16)
	sealed := Seal(persistence.Key{1}, "bob", id, make([]byte, 100))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(persistence.Key{1}, "bob", id, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	sum, body := make([]byte, 10), make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		Hash(sum, persistence.Key{1}, "body", body)
	}
}

func BenchmarkRingHit(b *testing.B) {
	ring, err := NewRing(memory.NewKeys(), 0)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := ring.Create(b.Context(), []string{"bob"}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ring.Get(b.Context(), "bob"); err != nil {
			b.Fatal(err)
		}
	}
}
