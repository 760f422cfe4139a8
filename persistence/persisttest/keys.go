package persisttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tegami-im/tegami/persistence"
)

// Keys runs the contract of a key store. open returns an empty one, which it
// closes when the test ends.
func Keys(t *testing.T, open func(t *testing.T) *KeysInstance) {
	for _, property := range []struct {
		name string
		test func(t *testing.T, k *KeysInstance)
	}{
		{"a key is made once and stays", keysStay},
		{"keys come in the order of their mailboxes", keysOrder},
		{"no two mailboxes share a key", keysDiffer},
		{"5,000 keys are made in one call", keysMany},
		{"those who make a key at the same time agree", keysConcurrent},
		{"a deleted key is gone for ever", keysDelete},
		{"keys survive reopening and a power cut", keysDurable},
		{"a closed key store says so", keysClosed},
		{"an ended context ends a call", keysContext},
	} {
		t.Run(property.name, func(t *testing.T) { property.test(t, open(t)) })
	}
}

func mustCreate(t *testing.T, k persistence.Keys, mailboxes ...string) []persistence.Key {
	t.Helper()
	keys, err := k.Create(testContext(t), mailboxes)
	check(t, err)
	if len(keys) != len(mailboxes) {
		t.Fatalf("%d mailboxes got %d keys", len(mailboxes), len(keys))
	}
	return keys
}

func wantKey(t *testing.T, k persistence.Keys, mailbox string, want persistence.Key) {
	t.Helper()
	got, err := k.Get(testContext(t), mailbox)
	check(t, err)
	if got != want {
		t.Fatalf("the key of %q changed", mailbox)
	}
}

func wantNoKey(t *testing.T, k persistence.Keys, mailbox string) {
	t.Helper()
	if _, err := k.Get(testContext(t), mailbox); !errors.Is(err, persistence.ErrNotFound) {
		t.Fatalf("the key of %q: error %v, want ErrNotFound", mailbox, err)
	}
}

func keysStay(t *testing.T, k *KeysInstance) {
	wantNoKey(t, k, "a")
	made := mustCreate(t, k, "a")[0]
	if made == (persistence.Key{}) {
		t.Fatal("the key is zero")
	}
	wantKey(t, k, "a", made)
	if again := mustCreate(t, k, "a")[0]; again != made {
		t.Fatal("making a key again changed it")
	}
	mustCreate(t, k)
}

func keysOrder(t *testing.T, k *KeysInstance) {
	first := mustCreate(t, k, "b", "d")
	all := mustCreate(t, k, "a", "b", "a", "c", "d")
	if all[1] != first[0] || all[4] != first[1] || all[0] != all[2] {
		t.Fatal("the keys are not in the order of the mailboxes")
	}
	for i, mailbox := range []string{"a", "b", "a", "c", "d"} {
		wantKey(t, k, mailbox, all[i])
	}
}

func keysDiffer(t *testing.T, k *KeysInstance) {
	seen := map[persistence.Key]string{}
	for i, key := range mustCreate(t, k, oddNames...) {
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q share a key", oddNames[i], other)
		}
		seen[key] = oddNames[i]
		wantKey(t, k, oddNames[i], key)
	}
}

func keysMany(t *testing.T, k *KeysInstance) {
	var mailboxes []string
	for i := range 5000 {
		mailboxes = append(mailboxes, fmt.Sprintf("user%d", i))
	}
	keys := mustCreate(t, k, mailboxes...)
	for i := 0; i < len(keys); i += 499 {
		wantKey(t, k, mailboxes[i], keys[i])
	}
}

func keysConcurrent(t *testing.T, k *KeysInstance) {
	const callers = 8
	ctx := testContext(t)
	var all sync.WaitGroup
	var made [callers][]persistence.Key
	for caller := range made {
		all.Go(func() {
			keys, err := k.Create(ctx, []string{"a", "b", "c"})
			if err != nil {
				t.Error(err)
			}
			made[caller] = keys
		})
	}
	all.Wait()
	for _, keys := range made {
		if !slices.Equal(keys, made[0]) {
			t.Fatal("two callers got different keys")
		}
	}
}

func keysDelete(t *testing.T, k *KeysInstance) {
	keys := mustCreate(t, k, "a", "ab")
	check(t, k.Delete(testContext(t), "a"))
	check(t, k.Delete(testContext(t), "a"))
	wantNoKey(t, k, "a")
	wantKey(t, k, "ab", keys[1])
	if k.Crash != nil {
		k = k.Crash()
		wantNoKey(t, k, "a")
		wantKey(t, k, "ab", keys[1])
	}
	if mustCreate(t, k, "a")[0] == keys[0] {
		t.Fatal("a deleted key came back")
	}
}

func keysDurable(t *testing.T, k *KeysInstance) {
	made := map[string]persistence.Key{}
	for i, next := range []func() *KeysInstance{k.Reopen, k.Crash} {
		if next == nil {
			continue
		}
		for n := range 20 {
			mailbox := fmt.Sprintf("%d/%d", i, n)
			made[mailbox] = mustCreate(t, k, mailbox)[0]
		}
		if i == 0 {
			k = k.Reopen()
		} else {
			k = k.Crash()
		}
		for mailbox, key := range made {
			wantKey(t, k, mailbox, key)
		}
	}
}

func keysCalls(ctx context.Context, k persistence.Keys) map[string]error {
	_, createErr := k.Create(ctx, []string{"a"})
	_, getErr := k.Get(ctx, "a")
	return map[string]error{"Create": createErr, "Get": getErr, "Delete": k.Delete(ctx, "a")}
}

func keysClosed(t *testing.T, k *KeysInstance) {
	check(t, k.Close())
	check(t, k.Close())
	for call, err := range keysCalls(testContext(t), k) {
		if !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("%s returns %v, want ErrClosed", call, err)
		}
	}
}

func keysContext(t *testing.T, k *KeysInstance) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for call, err := range keysCalls(ctx, k) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s returns %v, want context.Canceled", call, err)
		}
	}
}
