package persisttest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/tegami-im/tegami/persistence"
)

func numbered(from, to int) []string {
	var records []string
	for i := from; i < to; i++ {
		records = append(records, fmt.Sprint(i))
	}
	return records
}

func wantTruncated(t *testing.T, j persistence.Journal, shard uint32, offset int64) {
	t.Helper()
	if _, err := j.Read(testContext(t), shard, offset, 1<<20); !errors.Is(err, persistence.ErrTruncated) {
		t.Fatalf("reading offset %d, which was let go, returns %v, want ErrTruncated", offset, err)
	}
}

func journalTruncate(t *testing.T, j *JournalInstance) {
	ctx := testContext(t)
	mustAppend(t, j, 0, numbered(0, 20)...)
	mustAppend(t, j, 1, numbered(0, 5)...)
	for _, before := range []int64{7, 3, 7, 0, 12} {
		check(t, j.Truncate(ctx, 0, before))
	}
	for range 2 {
		wantBounds(t, j, 0, persistence.Bounds{First: 12, Next: 20, Generation: 1})
		wantTruncated(t, j, 0, 0)
		wantTruncated(t, j, 0, 11)
		wantLog(t, j, 0, 12, numbered(12, 20)...)
		wantLog(t, j, 1, 0, numbered(0, 5)...)
		if j.Reopen == nil {
			break
		}
		j = j.Reopen()
	}
}

func journalTruncateAll(t *testing.T, j *JournalInstance) {
	ctx := testContext(t)
	last := mustAppend(t, j, 0, numbered(0, 10)...)
	check(t, j.Truncate(ctx, 0, 10))
	wantBounds(t, j, 0, persistence.Bounds{First: 10, Next: 10, Generation: 1})
	wantLog(t, j, 0, 10)
	if j.Reopen != nil {
		j = j.Reopen()
		wantBounds(t, j, 0, persistence.Bounds{First: 10, Next: 10, Generation: 1})
	}
	appended := mustAppend(t, j, 0, "ten")
	if appended.First != at(10) || appended.Time < last.Time {
		t.Fatalf("the next append landed at %v with time %d, want %v and at least %d", appended.First, appended.Time, at(10), last.Time)
	}
	wantTruncated(t, j, 0, 9)
	wantLog(t, j, 0, 10, "ten")
}

func journalTruncateBeyond(t *testing.T, j *JournalInstance) {
	mustAppend(t, j, 0, "a")
	check(t, j.Truncate(testContext(t), 0, 1000))
	if got := mustAppend(t, j, 0, "b").First; got != at(1) {
		t.Fatalf("the next append landed at %v, want %v", got, at(1))
	}
	wantLog(t, j, 0, 1, "b")
}

func journalGeneration(t *testing.T, j *JournalInstance) {
	ctx := testContext(t)
	mustAppend(t, j, 0, "a", "b")
	check(t, j.StartGeneration(ctx, 0))
	check(t, j.StartGeneration(ctx, 0))
	wantBounds(t, j, 0, persistence.Bounds{Next: 2, Generation: 3})
	if j.Reopen != nil {
		j = j.Reopen()
		wantBounds(t, j, 0, persistence.Bounds{Next: 2, Generation: 3})
	}
	want := persistence.Position{Generation: 3, Offset: 2}
	if got := mustAppend(t, j, 0, "c").First; got != want {
		t.Fatalf("the append landed at %v, want %v", got, want)
	}
	for i, entry := range wantLog(t, j, 0, 0, "a", "b", "c") {
		if want := []uint32{1, 1, 3}[i]; entry.Position.Generation != want {
			t.Errorf("entry %d is of generation %d, want %d", i, entry.Position.Generation, want)
		}
	}
	wantBounds(t, j, 1, persistence.Bounds{Generation: 1})
}

func journalReopen(t *testing.T, j *JournalInstance) {
	if j.Reopen == nil {
		t.Log("it cannot be reopened: nothing to check here")
		return
	}
	for round := range 4 {
		mustAppend(t, j, 0, numbered(round*10, round*10+10)...)
		mustAppend(t, j, Shards-1, fmt.Sprint(round))
		j = j.Reopen()
		wantLog(t, j, 0, 0, numbered(0, round*10+10)...)
		wantLog(t, j, Shards-1, 0, numbered(0, round+1)...)
		wantLog(t, j, 1, 0)
	}
}

func journalClosed(t *testing.T, j *JournalInstance) {
	ctx := testContext(t)
	mustAppend(t, j, 0, "a")
	check(t, j.Close())
	check(t, j.Close())
	_, appendErr := Append(ctx, j, 0, "b")
	_, readErr := j.Read(ctx, 0, 0, 1)
	_, boundsErr := j.Bounds(ctx, 0)
	for call, err := range map[string]error{
		"Append":          appendErr,
		"Read":            readErr,
		"Bounds":          boundsErr,
		"Sync":            j.Sync(ctx),
		"Truncate":        j.Truncate(ctx, 0, 1),
		"StartGeneration": j.StartGeneration(ctx, 0),
	} {
		if !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("%s returns %v, want ErrClosed", call, err)
		}
	}
}

func journalCloseWaits(t *testing.T, j *JournalInstance) {
	const n = 200
	var answered, succeeded atomic.Int64
	for range n {
		j.Append(0, [][]byte{[]byte("x")}, func(_ persistence.Appended, err error) {
			answered.Add(1)
			if err == nil {
				succeeded.Add(1)
			}
		})
	}
	reopen := j.Reopen
	check(t, j.Close())
	if answered.Load() != n || succeeded.Load() != n {
		t.Fatalf("of %d appends before Close %d were answered, %d with success", n, answered.Load(), succeeded.Load())
	}
	if reopen != nil {
		wantBounds(t, reopen(), 0, persistence.Bounds{Next: n, Generation: 1})
	}
}

func journalContext(t *testing.T, j *JournalInstance) {
	mustAppend(t, j, 0, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, readErr := j.Read(ctx, 0, 0, 1)
	_, boundsErr := j.Bounds(ctx, 0)
	for call, err := range map[string]error{
		"Read":            readErr,
		"Bounds":          boundsErr,
		"Sync":            j.Sync(ctx),
		"Truncate":        j.Truncate(ctx, 0, 1),
		"StartGeneration": j.StartGeneration(ctx, 0),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s returns %v, want context.Canceled", call, err)
		}
	}
	wantBounds(t, j, 0, persistence.Bounds{Next: 1, Generation: 1})
}

// journalCrash: everything reported survives with durability fsync, everything
// before a Sync with os; what survives is a beginning of what was appended, and
// the log goes on behind it.
func journalCrash(t *testing.T, j *JournalInstance) {
	if j.Crash == nil {
		t.Log("its power cannot be cut: nothing to check here")
		return
	}
	var log []string
	for round := range 5 {
		promised := len(log)
		for i := range 30 {
			record := fmt.Sprintf("%d/%d", round, i)
			mustAppend(t, j, 1, record)
			log = append(log, record)
			if i == 20 {
				check(t, j.Sync(testContext(t)))
				promised = len(log)
			}
		}
		if j.Durability == persistence.DurabilityFsync {
			promised = len(log)
		}
		j = j.Crash()
		bounds, err := j.Bounds(testContext(t), 1)
		check(t, err)
		if bounds.Next < int64(promised) || bounds.Next > int64(len(log)) {
			t.Fatalf("after the power cut the log ends at %d; %d were promised, %d appended", bounds.Next, promised, len(log))
		}
		log = log[:bounds.Next]
		wantLog(t, j, 1, 0, log...)
	}
}
