package persisttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence"
)

func storeNotFound(t *testing.T, s *StoreInstance) {
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "alice", Position: at(0)})
	for _, mailbox := range append([]string{"alic", "alicea", ""}, oddNames...) {
		if _, err := s.Load(testContext(t), 0, mailbox, 10); !errors.Is(err, persistence.ErrNotFound) {
			t.Errorf("loading %q returns %v, want ErrNotFound", mailbox, err)
		}
	}
	if _, err := s.Load(testContext(t), 1, "alice", 10); !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("loading from another shard returns %v, want ErrNotFound", err)
	}
}

func wantDedup(t *testing.T, s persistence.Store, mailbox string, n int, notBefore int64, want *persistence.DedupEntry) {
	t.Helper()
	got, found, err := s.Dedup(testContext(t), 0, mailbox, key(n), notBefore)
	check(t, err)
	if found != (want != nil) {
		t.Fatalf("entry %d of %q not before %d: found %v, want %v", n, mailbox, notBefore, found, want != nil)
	}
	if found {
		if diff := cmp.Diff(*want, got); diff != "" {
			t.Fatalf("entry %d of %q (-want +got):\n%s", n, mailbox, diff)
		}
	}
}

func storeDedupLookUp(t *testing.T, s *StoreInstance) {
	entry := dedup(1, someDay+13*hour, 3)
	late := dedup(2, someDay+day-1, 4)
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(9), Dedup: []persistence.DedupEntry{entry, late}})
	wantDedup(t, s, "a", 1, entry.Time-day+1, &entry)
	wantDedup(t, s, "a", 1, entry.Time-hour, &entry)
	wantDedup(t, s, "a", 1, entry.Time, &entry)
	wantDedup(t, s, "a", 1, entry.Time+1, nil)
	wantDedup(t, s, "a", 2, late.Time-day+1, &late)
	wantDedup(t, s, "a", 3, entry.Time-hour, nil)
	wantDedup(t, s, "b", 1, entry.Time-hour, nil)
}

func storeDedupTwice(t *testing.T, s *StoreInstance) {
	old, young := dedup(1, someDay+hour, 3), dedup(1, someDay+day+2*hour, 8)
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(5), Dedup: []persistence.DedupEntry{old}})
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(9), Dedup: []persistence.DedupEntry{young}})
	wantDedup(t, s, "a", 1, old.Time, &old)
	wantDedup(t, s, "a", 1, old.Time+1, &young)
	wantDedup(t, s, "a", 1, young.Time+1, nil)
}

func storeDedupCut(t *testing.T, s *StoreInstance) {
	below, above := dedup(1, someDay, 5), dedup(2, someDay, 6)
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(5), Dedup: []persistence.DedupEntry{below, above}})
	if diff := cmp.Diff([]persistence.DedupEntry{below}, mustLoad(t, s, 0, "a").Dedup); diff != "" {
		t.Fatalf("loaded entries (-want +got):\n%s", diff)
	}
}

func storeDedupComplete(t *testing.T, s *StoreInstance) {
	var entries []persistence.DedupEntry
	for i := range 50 {
		entries = append(entries, dedup(i, someDay-hour+int64(i)*2*hour/50, 1))
	}
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(5), Dedup: entries})
	for _, test := range []struct {
		maxDedup int
		complete bool
	}{{0, false}, {1, false}, {49, false}, {50, true}, {1000, true}} {
		m, err := s.Load(testContext(t), 0, "a", test.maxDedup)
		check(t, err)
		want := 0
		if test.complete {
			want = 50
		}
		if m.DedupComplete != test.complete || len(m.Dedup) != want {
			t.Errorf("a load of at most %d holds %d entries, complete %v", test.maxDedup, len(m.Dedup), m.DedupComplete)
		}
	}
	wantDedup(t, s, "a", 7, someDay-day, &entries[7])
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "none", Position: at(5)})
	if m, err := s.Load(testContext(t), 0, "none", 0); err != nil || !m.DedupComplete {
		t.Errorf("a mailbox without entries is loaded as %+v, error %v", m, err)
	}
}

func storeDedupDays(t *testing.T, s *StoreInstance) {
	newest := int64(someDay + 10*hour)
	var entries []persistence.DedupEntry
	for i, age := range []int64{0, hour, 10 * hour, 11 * hour, day, 48 * hour, 72 * hour, 1000 * hour} {
		entries = append(entries, dedup(i, newest-age, 1))
	}
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(5), Dedup: entries})
	loaded := mustLoad(t, s, 0, "a").Dedup
	for _, entry := range entries {
		age := newest - entry.Time
		is := slices.Contains(loaded, entry)
		if age <= day && !is {
			t.Errorf("the entry of %d hours before the newest is not loaded", age/hour)
		}
		if age > 2*day && is {
			t.Errorf("the entry of %d hours before the newest is loaded", age/hour)
		}
	}
}

// storeDedupKept: with days passing and the checkpoint following, an entry is
// found by every record above the checkpoint that may ask for it.
func storeDedupKept(t *testing.T, s *StoreInstance) {
	const perDay = 4
	var entries []persistence.DedupEntry
	for i := range 10 * perDay {
		entry := dedup(i, someDay+int64(i)*day/perDay, int64(i))
		entries = append(entries, entry)
		lag := i - 3 // one mailbox of the shard is three records behind
		batch := persistence.Batch{
			Highest:    entry.Position,
			Checkpoint: at(int64(max(0, lag))),
			Mailboxes:  []persistence.MailboxWrite{{Mailbox: "a", Position: entry.Position, Dedup: []persistence.DedupEntry{entry}}},
		}
		check(t, s.Write(testContext(t), 0, batch))
		if i%7 == 0 && s.Reopen != nil {
			s = s.Reopen()
		}
		for asking := max(0, lag+1); asking <= i; asking++ {
			notBefore := entries[asking].Time - day
			for k := asking; k >= 0 && entries[k].Time >= notBefore; k-- {
				wantDedup(t, s, "a", k, notBefore, &entries[k])
			}
		}
	}
}

func wantMarks(t *testing.T, s persistence.Store, shard uint32, checkpoint, highest persistence.Position) {
	t.Helper()
	got, err := s.Marks(testContext(t), shard)
	check(t, err)
	if want := (persistence.Marks{Checkpoint: checkpoint, Highest: highest}); got != want {
		t.Fatalf("marks of shard %d are %+v, want %+v", shard, got, want)
	}
}

func storeMarks(t *testing.T, s *StoreInstance) {
	ctx := testContext(t)
	none := persistence.Position{}
	wantMarks(t, s, 0, none, none)
	check(t, s.Write(ctx, 0, persistence.Batch{Highest: at(10), Checkpoint: at(4)}))
	wantMarks(t, s, 0, none, none)
	check(t, s.Sync(ctx))
	wantMarks(t, s, 0, at(4), at(10))
	wantMarks(t, s, 1, none, none)
	check(t, s.Write(ctx, 0, persistence.Batch{Highest: at(12)}))
	check(t, s.Write(ctx, 0, persistence.Batch{Highest: at(11), Checkpoint: at(3)}))
	check(t, s.Write(ctx, 1, persistence.Batch{Highest: at(1), Checkpoint: at(0)}))
	wantMarks(t, s, 0, at(4), at(10))
	check(t, s.Sync(ctx))
	wantMarks(t, s, 0, at(4), at(12))
	wantMarks(t, s, 1, at(0), at(1))
	next := persistence.Position{Generation: 2, Offset: 1}
	check(t, s.Write(ctx, 0, persistence.Batch{Highest: next, Checkpoint: next}))
	check(t, s.Sync(ctx))
	wantMarks(t, s, 0, next, next)
	if s.Reopen != nil {
		reopened := s.Reopen()
		wantMarks(t, reopened, 0, next, next)
		wantMarks(t, reopened, 1, at(0), at(1))
	}
}

// storeAtomic: two owners write the same mailboxes, one ahead of the other,
// while others load them. A state at offset n has n+1 rows.
func storeAtomic(t *testing.T, s *StoreInstance) {
	const steps = 60
	ctx := testContext(t)
	var writers, readers sync.WaitGroup
	written := make(chan struct{})
	for owner := range int64(2) {
		writers.Go(func() {
			for offset := owner; offset < steps; offset += 1 + owner {
				m := persistence.MailboxWrite{
					Mailbox: "a", Position: at(offset), State: fmt.Append(nil, offset),
					Rows:    rows(max(1, offset-owner), offset+1, "b"),
					Sources: []persistence.Source{{Mailbox: "b", Position: at(offset)}},
					Parts:   []persistence.Part{part("p", offset, fmt.Sprint(offset))},
				}
				if err := s.Write(ctx, 0, persistence.Batch{Highest: m.Position, Mailboxes: []persistence.MailboxWrite{m}}); err != nil {
					t.Error(err)
				}
				if err := s.Write(ctx, uint32(1+owner), persistence.Batch{Highest: m.Position, Mailboxes: []persistence.MailboxWrite{m}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			var last persistence.Position
			for {
				m, err := s.Load(ctx, 0, "a", 10)
				switch {
				case errors.Is(err, persistence.ErrNotFound):
				case err != nil:
					t.Error(err)
					return
				case m.Position.Less(last):
					t.Errorf("the state went back from %v to %v", last, m.Position)
				default:
					last = m.Position
					if string(m.State) != fmt.Sprint(m.Position.Offset) || len(m.Sources) != 1 || m.Sources[0].Position != m.Position ||
						len(m.Parts) != 1 || string(m.Parts[0].Data) != string(m.State) {
						t.Errorf("at %v lies state %q with sources %v and parts %v", m.Position, m.State, m.Sources, m.Parts)
					}
					rows, err := s.Operations(ctx, 0, "a", 0, m.Position.Offset+1, 1000, 1<<20)
					if err != nil || int64(len(rows)) != m.Position.Offset+1 {
						t.Errorf("the state at %v has %d rows, error %v", m.Position, len(rows), err)
					}
				}
				select {
				case <-written:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(written)
	readers.Wait()
	wantState(t, s, 0, "a", at(steps-1), fmt.Sprint(steps-1))
	wantRows(t, s, 0, "a", rows(1, steps, "b"))
}

func storeReopen(t *testing.T, s *StoreInstance) {
	if s.Reopen == nil {
		t.Log("it cannot be reopened: nothing to check here")
		return
	}
	m := persistence.MailboxWrite{
		Mailbox: "a", Position: at(5), State: []byte("state"), Rows: rows(1, 20, "b"), First: 3,
		Dedup:   []persistence.DedupEntry{dedup(1, someDay, 1)},
		Sources: []persistence.Source{{Mailbox: "b", Position: at(2)}},
	}
	write(t, s, 0, m)
	before := mustLoad(t, s, 0, "a")
	s = s.Reopen()
	if diff := cmp.Diff(before, mustLoad(t, s, 0, "a")); diff != "" {
		t.Fatalf("reopening changed (-before +after):\n%s", diff)
	}
	wantRows(t, s, 0, "a", rows(3, 20, "b"))
	wantDedup(t, s, "a", 1, someDay-hour, &m.Dedup[0])
	write(t, s, 0, persistence.MailboxWrite{Mailbox: "a", Position: at(4), State: []byte("older")})
	wantState(t, s, 0, "a", at(5), "state")
}

func storeCalls(ctx context.Context, s persistence.Store) map[string]error {
	_, loadErr := s.Load(ctx, 0, "a", 1)
	_, _, dedupErr := s.Dedup(ctx, 0, "a", key(1), 0)
	_, operationsErr := s.Operations(ctx, 0, "a", 0, 1, 1, 1)
	_, conversationErr := s.Conversation(ctx, 0, "a", "b", 1, 1, 1)
	_, marksErr := s.Marks(ctx, 0)
	return map[string]error{
		"Load":         loadErr,
		"Dedup":        dedupErr,
		"Operations":   operationsErr,
		"Conversation": conversationErr,
		"Marks":        marksErr,
		"Sync":         s.Sync(ctx),
		"Write":        s.Write(ctx, 0, persistence.Batch{Highest: at(1)}),
	}
}

func storeClosed(t *testing.T, s *StoreInstance) {
	check(t, s.Close())
	check(t, s.Close())
	for call, err := range storeCalls(testContext(t), s) {
		if !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("%s returns %v, want ErrClosed", call, err)
		}
	}
}

func storeContext(t *testing.T, s *StoreInstance) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for call, err := range storeCalls(ctx, s) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s returns %v, want context.Canceled", call, err)
		}
	}
}

// storeCrash: what was synced survives, the marks are never newer than what
// was synced, and no state is there without its rows.
func storeCrash(t *testing.T, s *StoreInstance) {
	if s.Crash == nil {
		t.Log("its power cannot be cut: nothing to check here")
		return
	}
	ctx := testContext(t)
	synced, written := int64(-1), int64(-1)
	for range 6 {
		for range 10 {
			written++
			check(t, s.Write(ctx, 0, persistence.Batch{
				Highest: at(written), Checkpoint: at(written),
				Mailboxes: []persistence.MailboxWrite{
					{Mailbox: "a", Position: at(written), State: fmt.Append(nil, written), Rows: rows(written+1, written+1, "b")},
					{Mailbox: "c", Position: at(written), State: fmt.Append(nil, written), Rows: rows(written+1, written+1, "d")},
				},
			}))
			if written%7 == 3 {
				check(t, s.Sync(ctx))
				synced = written
			}
		}
		marks, err := s.Marks(ctx, 0)
		check(t, err)
		s = s.Crash()
		after := mustLoad(t, s, 0, "a").Position.Offset
		if after < synced || after > written {
			t.Fatalf("after the power cut the state is at %d; %d was synced, %d written", after, synced, written)
		}
		wantMarks(t, s, 0, at(after), at(after))
		if at(after).Less(marks.Checkpoint) {
			t.Fatalf("the marks were %+v before the power cut, and the store went back to %d", marks, after)
		}
		wantRows(t, s, 0, "a", rows(1, after+1, "b"))
		wantRows(t, s, 0, "c", rows(1, after+1, "d"))
		written, synced = after, after
	}
}
