package shard

import (
	"testing"

	"github.com/tegami-im/tegami/persistence"
)

// What was dropped is not held in memory until it is stored, and does not count
// as stored before it is.
func TestTailLetsGoOfWhatWasDropped(t *testing.T) {
	const operations, kept = 1000, 8
	b := &mailboxActor{Environment: &Environment{Limits: Limits{TailOperations: kept, TailBytes: 1 << 20}}}
	at := func(revision int64) persistence.Position {
		return persistence.Position{Generation: 1, Offset: 2 * revision}
	}
	for revision := int64(1); revision <= operations; revision++ {
		b.tail.push(persistence.Row{Revision: revision})
		b.unstored = append(b.unstored, revisionAt{position: at(revision), revision: revision})
	}
	b.shrink()
	if len(b.tail.rows) != operations {
		t.Fatalf("%d operations are held, though none of %d is stored", len(b.tail.rows), operations)
	}
	for _, step := range []struct {
		what          string
		do            func()
		held, waiting int
		stored        int64
	}{
		{"dropped up to 900", func() { b.drop(at(900)) }, 100, 100, 0},
		{"stored up to 500", func() { b.stored(nil, at(500)) }, 100, 100, 0},
		{"stored up to 900", func() { b.stored(nil, at(900)) }, 100, 100, 900},
		{"dropped up to 999", func() { b.drop(at(999)) }, kept, 1, 900},
		{"stored up to 1000", func() { b.stored(nil, at(1000)) }, kept, 0, operations},
	} {
		step.do()
		if len(b.tail.rows) != step.held || len(b.unstored) != step.waiting || b.storedRevision != step.stored {
			t.Errorf("%s: %d are held, %d wait, %d is the newest known to be stored; want %d, %d and %d",
				step.what, len(b.tail.rows), len(b.unstored), b.storedRevision, step.held, step.waiting, step.stored)
		}
	}
}
