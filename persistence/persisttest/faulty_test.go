package persisttest_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestJournal runs the contract on a journal whose answers and reads are slow,
// which breaks no promise.
func TestJournal(t *testing.T) {
	persisttest.Journal(t, func(t *testing.T) *persisttest.JournalInstance {
		plan := persisttest.NewPlan(1, time.Millisecond, map[persisttest.Fault]float64{
			persisttest.AppendSlow: 0.3,
			persisttest.ReadSlow:   0.1,
		})
		return slowJournal(t, memory.NewJournal(persistence.DurabilityFsync), plan)
	})
}

func slowJournal(t *testing.T, inner *memory.Journal, plan *persisttest.Plan) *persisttest.JournalInstance {
	j := persisttest.NewFaultyJournal(inner, plan)
	t.Cleanup(func() { _ = j.Close() })
	return &persisttest.JournalInstance{
		Journal: j,
		Reopen: func() *persisttest.JournalInstance {
			_ = j.Close()
			return slowJournal(t, inner.Reopen(), plan)
		},
	}
}

// TestStore runs the contract on a slow store.
func TestStore(t *testing.T) {
	persisttest.Store(t, func(*testing.T) *persisttest.StoreInstance {
		plan := persisttest.NewPlan(2, time.Millisecond, map[persisttest.Fault]float64{
			persisttest.WriteSlow: 0.1,
			persisttest.LoadSlow:  0.1,
		})
		return slowStore(memory.NewStore(), plan)
	})
}

func slowStore(inner *memory.Store, plan *persisttest.Plan) *persisttest.StoreInstance {
	return &persisttest.StoreInstance{
		Store:  persisttest.NewFaultyStore(inner, plan),
		Reopen: func() *persisttest.StoreInstance { return slowStore(inner.Reopen(), plan) },
		Crash:  func() *persisttest.StoreInstance { return slowStore(inner.Crash(), plan) },
	}
}

func TestAppendFaults(t *testing.T) {
	for _, test := range []struct {
		fault      persisttest.Fault
		want       error
		now, later int64 // records in the log when answered, and in the end
	}{
		{persisttest.AppendHappened, persistence.ErrUnknownOutcome, 1, 1},
		{persisttest.AppendLost, persistence.ErrUnknownOutcome, 0, 0},
		{persisttest.AppendLate, persistence.ErrUnknownOutcome, 0, 1},
		{persisttest.AppendFull, persistence.ErrFull, 0, 0},
		{persisttest.AppendBusy, persistence.ErrBusy, 0, 0},
		{persisttest.AppendSlow, nil, 1, 1},
	} {
		t.Run(string(test.fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plan := persisttest.NewPlan(3, time.Minute, nil)
				j := persisttest.NewFaultyJournal(memory.NewJournal(persistence.DurabilityFsync), plan)
				plan.Next(test.fault)
				_, err := persisttest.Append(t.Context(), j, 0, "x")
				if !errors.Is(err, test.want) {
					t.Errorf("the append returns %v, want %v", err, test.want)
				}
				bounds := func() int64 {
					b, err := j.Bounds(t.Context(), 0)
					if err != nil {
						t.Fatal(err)
					}
					return b.Next
				}
				if got := bounds(); got != test.now {
					t.Errorf("when it is answered the log holds %d records, want %d", got, test.now)
				}
				<-time.After(time.Hour)
				synctest.Wait()
				if got := bounds(); got != test.later {
					t.Errorf("in the end the log holds %d records, want %d", got, test.later)
				}
				if _, err := persisttest.Append(t.Context(), j, 0, "y"); err != nil {
					t.Errorf("the append after the fault returns %v", err)
				}
				if got := plan.Count(test.fault); got != 1 {
					t.Errorf("the plan counts %d, want 1", got)
				}
				_ = j.Close()
			})
		})
	}
}

func TestWriteFaults(t *testing.T) {
	for _, test := range []struct {
		fault   persisttest.Fault
		want    error
		written bool
	}{
		{persisttest.WriteLost, persisttest.ErrInjected, false},
		{persisttest.WriteDone, persisttest.ErrInjected, true},
		{persisttest.WriteFull, persistence.ErrFull, false},
		{persisttest.WriteSlow, nil, true},
	} {
		t.Run(string(test.fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plan := persisttest.NewPlan(4, time.Minute, nil)
				s := persisttest.NewFaultyStore(memory.NewStore(), plan)
				plan.Next(test.fault)
				err := s.Write(t.Context(), 0, persistence.Batch{Mailboxes: []persistence.MailboxWrite{{Mailbox: "a", Position: persistence.Position{Generation: 1}}}})
				if !errors.Is(err, test.want) {
					t.Errorf("the write returns %v, want %v", err, test.want)
				}
				_, err = s.Load(t.Context(), 0, "a", 1)
				if written := err == nil; written != test.written {
					t.Errorf("written: %v, want %v", written, test.written)
				}
				plan.Next(persisttest.LoadFailed)
				if _, err := s.Load(t.Context(), 0, "a", 1); !errors.Is(err, persisttest.ErrInjected) {
					t.Errorf("the load that fails returns %v", err)
				}
				plan.Next(persisttest.SyncFailed)
				if err := s.Sync(t.Context()); !errors.Is(err, persisttest.ErrInjected) {
					t.Errorf("the sync that fails returns %v", err)
				}
			})
		})
	}
}

// TestPlanRepeats: the same seed makes the same faults.
func TestPlanRepeats(t *testing.T) {
	run := func(seed uint64) (outcomes string, plan *persisttest.Plan) {
		plan = persisttest.NewPlan(seed, 0, map[persisttest.Fault]float64{persisttest.AppendLost: 0.2, persisttest.AppendBusy: 0.2})
		j := persisttest.NewFaultyJournal(memory.NewJournal(persistence.DurabilityFsync), plan)
		defer j.Close()
		for range 200 {
			_, err := persisttest.Append(t.Context(), j, 0, "x")
			outcomes += fmt.Sprint(err, ";")
		}
		plan.Stop()
		for range 200 {
			if _, err := persisttest.Append(t.Context(), j, 0, "x"); err != nil {
				t.Fatalf("after Stop: %v", err)
			}
		}
		return outcomes, plan
	}
	first, plan := run(7)
	again, _ := run(7)
	other, _ := run(8)
	if first != again || first == other {
		t.Error("the faults do not follow the seed")
	}
	if n := plan.Count(persisttest.AppendLost); n < 20 || n > 60 {
		t.Errorf("%s, want about 40 lost", plan)
	}
}
