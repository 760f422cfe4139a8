// Package persisttest holds the contracts of package persistence as test
// suites, one for each interface, that every implementation runs, and wrappers
// that make faults.
package persisttest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// Shards is the number of shards that the suites use, from 0 on.
const Shards = 8

// JournalInstance is a journal under test.
type JournalInstance struct {
	persistence.Journal
	// Durability is what the journal was opened with.
	Durability persistence.Durability
	// Reopen closes the journal and opens what it left.
	Reopen func() *JournalInstance
	// Crash cuts the power and opens what that left. Nil where it cannot be
	// done.
	Crash func() *JournalInstance
}

// StoreInstance is a store under test.
type StoreInstance struct {
	persistence.Store
	// Reopen and Crash are as in JournalInstance.
	Reopen, Crash func() *StoreInstance
}

// KeysInstance is a key store under test.
type KeysInstance struct {
	persistence.Keys
	// Reopen and Crash are as in JournalInstance.
	Reopen, Crash func() *KeysInstance
}

// CacheInstance is a cache under test. Its bounds are above what the suite
// writes: hundreds of rows and dedup entries of a mailbox.
type CacheInstance struct {
	persistence.Cache
	// Empty takes everything from the cache, as a restart without data does.
	Empty func()
	// Snapshot remembers what the cache holds, and returns what sets it back to
	// that, as a restart with old data does.
	Snapshot func() (setBack func())
}

// hang is how long a suite waits for what should take moments.
const hang = 30 * time.Second

// oddNames are names that an implementation may confuse: prefixes of each
// other, and bytes that mean something in keys.
var oddNames = []string{
	"a", "aa", "a\x00", "a\x00a", "a\x01", "a\xff", "a\xff\xff", "\x00", "\x00\x00", "\xff", "\xff\xff",
	"b", "a/b", "a:b", "o\x00\x00", "\x01a", "\x02aa", fmt.Sprintf("%0300d", 7),
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	t.Cleanup(cancel)
	return ctx
}

func at(offset int64) persistence.Position {
	return persistence.Position{Generation: 1, Offset: offset}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
