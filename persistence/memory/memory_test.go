package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestJournal(t *testing.T) {
	for _, durability := range []persistence.Durability{persistence.DurabilityFsync, persistence.DurabilityOS} {
		t.Run(durability.String(), func(t *testing.T) {
			persisttest.Journal(t, func(t *testing.T) *persisttest.JournalInstance {
				return journal(t, memory.NewJournal(durability), durability)
			})
		})
	}
}

func journal(t *testing.T, j *memory.Journal, durability persistence.Durability) *persisttest.JournalInstance {
	t.Cleanup(func() { _ = j.Close() })
	return &persisttest.JournalInstance{
		Journal:    j,
		Durability: durability,
		Reopen:     func() *persisttest.JournalInstance { return journal(t, j.Reopen(), durability) },
		Crash:      func() *persisttest.JournalInstance { return journal(t, j.Crash(), durability) },
	}
}

func TestStore(t *testing.T) {
	persisttest.Store(t, func(*testing.T) *persisttest.StoreInstance { return store(memory.NewStore()) })
}

func store(s *memory.Store) *persisttest.StoreInstance {
	return &persisttest.StoreInstance{
		Store:  s,
		Reopen: func() *persisttest.StoreInstance { return store(s.Reopen()) },
		Crash:  func() *persisttest.StoreInstance { return store(s.Crash()) },
	}
}

func TestKeys(t *testing.T) {
	persisttest.Keys(t, func(*testing.T) *persisttest.KeysInstance { return keys(memory.NewKeys()) })
}

func keys(k *memory.Keys) *persisttest.KeysInstance {
	survivors := func() *persisttest.KeysInstance { return keys(k.Crash()) } // it loses nothing
	return &persisttest.KeysInstance{Keys: k, Reopen: survivors, Crash: survivors}
}

func TestCache(t *testing.T) {
	persisttest.Cache(t, cache)
}

func TestCacheModel(t *testing.T) {
	persisttest.CacheModel(t, cache)
}

func cache(*testing.T) *persisttest.CacheInstance {
	c := memory.NewCache()
	return &persisttest.CacheInstance{Cache: c, Empty: c.Empty, Snapshot: c.Snapshot}
}

func TestRepairer(t *testing.T) {
	persisttest.Repairer(t, func(*testing.T) (persistence.Repairer, uint32) { return memory.NewStore(), 1 })
}
