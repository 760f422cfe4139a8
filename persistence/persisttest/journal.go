package persisttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/tegami-im/tegami/persistence"
)

// Journal runs the contract of a journal. open returns an empty one, which it
// closes when the test ends.
func Journal(t *testing.T, open func(t *testing.T) *JournalInstance) {
	for _, property := range []struct {
		name string
		test func(t *testing.T, j *JournalInstance)
	}{
		{"begins empty in generation 1", journalBeginsEmpty},
		{"an append is contiguous and has one time", journalAppendContiguous},
		{"what was appended is read back", journalReadsBack},
		{"the caller may reuse its slices after done", journalCopiesRecords},
		{"a record that was reported can be read", journalReadAfterDone},
		{"a page holds about maxBytes, and at least one entry", journalPages},
		{"shards do not mix", journalShardsApart},
		{"appends of one caller keep their order", journalKeepsOrder},
		{"concurrent appends are each all there and contiguous", journalConcurrent},
		{"log time never goes back", journalTime},
		{"every tail is told of growth until it stops", journalTail},
		{"done may append again", journalAppendInDone},
		{"truncation hides what lies below", journalTruncate},
		{"a log that was truncated to its end goes on", journalTruncateAll},
		{"truncation never goes beyond the end", journalTruncateBeyond},
		{"a new generation changes the appends to come", journalGeneration},
		{"reopening keeps everything", journalReopen},
		{"a closed journal says so", journalClosed},
		{"close waits for what is in flight", journalCloseWaits},
		{"an ended context ends a call", journalContext},
		{"a power cut keeps what was promised", journalCrash},
	} {
		t.Run(property.name, func(t *testing.T) { property.test(t, open(t)) })
	}
}

// Append appends and waits for the outcome.
func Append(ctx context.Context, j persistence.Journal, shard uint32, records ...string) (persistence.Appended, error) {
	type outcome struct {
		appended persistence.Appended
		err      error
	}
	done := make(chan outcome, 1)
	data := make([][]byte, len(records))
	for i, record := range records {
		data[i] = []byte(record)
	}
	j.Append(shard, data, func(appended persistence.Appended, err error) { done <- outcome{appended, err} })
	select {
	case o := <-done:
		return o.appended, o.err
	case <-ctx.Done():
		return persistence.Appended{}, ctx.Err()
	}
}

// ReadAll returns what a shard's log holds from offset on.
func ReadAll(ctx context.Context, j persistence.Journal, shard uint32, offset int64) ([]persistence.Entry, error) {
	var all []persistence.Entry
	for {
		entries, err := j.Read(ctx, shard, offset, 1<<16)
		if err != nil || len(entries) == 0 {
			return all, err
		}
		all = append(all, entries...)
		offset = all[len(all)-1].Position.Offset + 1
	}
}

func mustAppend(t *testing.T, j persistence.Journal, shard uint32, records ...string) persistence.Appended {
	t.Helper()
	appended, err := Append(testContext(t), j, shard, records...)
	check(t, err)
	return appended
}

// wantLog checks that a shard's log holds exactly these records from offset on.
func wantLog(t *testing.T, j persistence.Journal, shard uint32, offset int64, want ...string) []persistence.Entry {
	t.Helper()
	entries, err := ReadAll(testContext(t), j, shard, offset)
	check(t, err)
	var got []string
	for i, entry := range entries {
		if entry.Position.Offset != offset+int64(i) {
			t.Fatalf("entry %d has offset %d, want %d", i, entry.Position.Offset, offset+int64(i))
		}
		got = append(got, string(entry.Data))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("log of shard %d from %d on holds %d records %.200q, want %d %.200q", shard, offset, len(got), got, len(want), want)
	}
	return entries
}

func wantBounds(t *testing.T, j persistence.Journal, shard uint32, want persistence.Bounds) {
	t.Helper()
	got, err := j.Bounds(testContext(t), shard)
	check(t, err)
	if got != want {
		t.Fatalf("bounds of shard %d are %+v, want %+v", shard, got, want)
	}
}

func journalBeginsEmpty(t *testing.T, j *JournalInstance) {
	wantBounds(t, j, 3, persistence.Bounds{First: 0, Next: 0, Generation: 1})
	wantLog(t, j, 3, 0)
	entries, err := j.Read(testContext(t), 3, 17, 1<<20)
	check(t, err)
	if len(entries) != 0 {
		t.Fatalf("read %d entries behind the end of an empty log", len(entries))
	}
}

func journalAppendContiguous(t *testing.T, j *JournalInstance) {
	first := mustAppend(t, j, 1, "a", "b", "c")
	second := mustAppend(t, j, 1, "d")
	if want := at(0); first.First != want {
		t.Fatalf("first append landed at %v, want %v", first.First, want)
	}
	if want := at(3); second.First != want {
		t.Fatalf("second append landed at %v, want %v", second.First, want)
	}
	for i, entry := range wantLog(t, j, 1, 0, "a", "b", "c", "d") {
		want := first.Time
		if i == 3 {
			want = second.Time
		}
		if entry.Time != want || entry.Position.Generation != 1 {
			t.Fatalf("entry %d has time %d and generation %d, want %d and 1", i, entry.Time, entry.Position.Generation, want)
		}
	}
	wantBounds(t, j, 1, persistence.Bounds{First: 0, Next: 4, Generation: 1})
}

func journalReadsBack(t *testing.T, j *JournalInstance) {
	records := []string{"", "\x00", "\xff\xff", string(bytes.Repeat([]byte{0xa5}, 1<<20)), "end"}
	mustAppend(t, j, 0, records...)
	for from := range records {
		wantLog(t, j, 0, int64(from), records[from:]...)
	}
}

func journalCopiesRecords(t *testing.T, j *JournalInstance) {
	record := []byte("original")
	done := make(chan error, 1)
	j.Append(2, [][]byte{record}, func(_ persistence.Appended, err error) {
		copy(record, "scribble")
		done <- err
	})
	check(t, <-done)
	entries := wantLog(t, j, 2, 0, "original")
	copy(entries[0].Data, "scribble")
	wantLog(t, j, 2, 0, "original")
}

func journalReadAfterDone(t *testing.T, j *JournalInstance) {
	ctx := testContext(t)
	for i := range int64(50) {
		read := make(chan error, 1)
		j.Append(0, [][]byte{[]byte("x")}, func(appended persistence.Appended, err error) {
			bounds, boundsErr := j.Bounds(ctx, 0)
			if err = errors.Join(err, boundsErr); err == nil && bounds.Next <= appended.First.Offset {
				err = fmt.Errorf("the log ends at %d, below %d, which was reported", bounds.Next, appended.First.Offset)
			}
			read <- err
		})
		check(t, <-read)
		entries, err := j.Read(ctx, 0, i, 1)
		check(t, err)
		if len(entries) != 1 {
			t.Fatalf("read %d entries at %d, want 1", len(entries), i)
		}
	}
}

func journalPages(t *testing.T, j *JournalInstance) {
	record := string(make([]byte, 1000))
	for range 10 {
		mustAppend(t, j, 5, record, record)
	}
	for _, page := range []struct{ maxBytes, want int }{{0, 1}, {1, 1}, {999, 1}, {1000, 1}, {1999, 1}, {2000, 2}, {5500, 5}, {1 << 20, 20}} {
		entries, err := j.Read(testContext(t), 5, 0, page.maxBytes)
		check(t, err)
		if len(entries) != page.want {
			t.Errorf("a page of %d bytes holds %d entries, want %d", page.maxBytes, len(entries), page.want)
		}
	}
}

func journalShardsApart(t *testing.T, j *JournalInstance) {
	for shard := range uint32(Shards) {
		mustAppend(t, j, shard, fmt.Sprint("first of ", shard))
	}
	for shard := range uint32(Shards) {
		if got := mustAppend(t, j, shard, fmt.Sprint("second of ", shard)).First; got != at(1) {
			t.Fatalf("second record of shard %d lies at %v", shard, got)
		}
		wantLog(t, j, shard, 0, fmt.Sprint("first of ", shard), fmt.Sprint("second of ", shard))
	}
}

func journalKeepsOrder(t *testing.T, j *JournalInstance) {
	const n = 500
	var (
		mu      sync.Mutex
		offsets []int64
		all     sync.WaitGroup
		want    []string
	)
	all.Add(n)
	for i := range n {
		want = append(want, fmt.Sprint(i))
		j.Append(4, [][]byte{[]byte(want[i])}, func(appended persistence.Appended, err error) {
			defer all.Done()
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				offsets = append(offsets, appended.First.Offset)
			}
		})
	}
	all.Wait()
	if len(offsets) != n {
		t.Fatalf("%d of %d appends succeeded", len(offsets), n)
	}
	wantLog(t, j, 4, 0, want...)
}

func journalConcurrent(t *testing.T, j *JournalInstance) {
	const writers, appends, records = 8, 40, 3
	var all sync.WaitGroup
	ctx := testContext(t)
	for writer := range writers {
		all.Go(func() {
			for i := range appends {
				shard := uint32(i % 2)
				batch := make([]string, records)
				for k := range batch {
					batch[k] = fmt.Sprintf("%d/%d/%d", writer, i, k)
				}
				appended, err := Append(ctx, j, shard, batch...)
				if err != nil {
					t.Error(err)
					return
				}
				read, err := j.Read(ctx, shard, appended.First.Offset, 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				for k := range batch {
					if string(read[k].Data) != batch[k] || read[k].Time != appended.Time {
						t.Errorf("at %v lies %q of time %d, want %q of time %d", read[k].Position, read[k].Data, read[k].Time, batch[k], appended.Time)
						return
					}
				}
			}
		})
	}
	all.Wait()
	for shard := range uint32(2) {
		wantBounds(t, j, shard, persistence.Bounds{Next: writers * appends * records / 2, Generation: 1})
	}
}

func journalTime(t *testing.T, j *JournalInstance) {
	var last int64
	for round := range 3 {
		for range 20 {
			appended := mustAppend(t, j, 6, "x", "y")
			if appended.Time < last {
				t.Fatalf("log time went back from %d to %d", last, appended.Time)
			}
			last = appended.Time
		}
		if round < 2 && j.Reopen != nil {
			j = j.Reopen()
		}
	}
	entries, err := ReadAll(testContext(t), j, 6, 0)
	check(t, err)
	if !slices.IsSortedFunc(entries, func(a, b persistence.Entry) int { return int(a.Time - b.Time) }) {
		t.Fatal("log time goes back within the log")
	}
}

func journalTail(t *testing.T, j *JournalInstance) {
	const owners = 2
	var told [owners]chan int64
	var stop [owners]func()
	for owner := range told {
		told[owner] = make(chan int64, 100)
		stop[owner] = j.Tail(2, func(next int64) { told[owner] <- next })
	}
	ctx := testContext(t)
	until := func(owner int, want int64) {
		t.Helper()
		for {
			select {
			case next := <-told[owner]:
				if next > want {
					t.Fatalf("owner %d was told of %d, though the log ends at %d", owner, next, want)
				}
				if next == want {
					return
				}
			case <-ctx.Done():
				t.Fatalf("owner %d was never told that the log ends at %d", owner, want)
			}
		}
	}
	mustAppend(t, j, 2, "a", "b")
	mustAppend(t, j, 3, "of another shard")
	mustAppend(t, j, 2, "c")
	for owner := range owners {
		until(owner, 3)
	}
	stop[0]()
	stop[0]()
	mustAppend(t, j, 2, "d")
	until(1, 4)
	mustAppend(t, j, 2, "e") // any notification of the stopped one is over by then
	until(1, 5)
	for len(told[0]) > 0 {
		if next := <-told[0]; next > 4 {
			t.Fatalf("a stopped tail was told of %d", next)
		}
	}
	stop[1]()
}

func journalAppendInDone(t *testing.T, j *JournalInstance) {
	const depth = 20
	finished := make(chan error, 1)
	var next func(i int) func(persistence.Appended, error)
	next = func(i int) func(persistence.Appended, error) {
		return func(_ persistence.Appended, err error) {
			if err != nil || i == depth {
				finished <- err
				return
			}
			j.Append(0, [][]byte{[]byte("again")}, next(i+1))
		}
	}
	j.Append(0, [][]byte{[]byte("once")}, next(1))
	select {
	case err := <-finished:
		check(t, err)
	case <-testContext(t).Done():
		t.Fatal("appending in done hangs")
	}
	wantBounds(t, j, 0, persistence.Bounds{Next: depth, Generation: 1})
}
