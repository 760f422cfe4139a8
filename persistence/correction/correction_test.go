package correction_test

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/correction"
	"github.com/tegami-im/tegami/persistence/memory"
)

var users = []string{"alice", "bob", "carol"}

// history has a bit of everything that happens to mailboxes: refusals, retries,
// operations that were let go of, a new generation of the journal.
func (w *world) history() {
	w.t.Helper()
	w.register(users...)
	w.talk(3, users...)
	for _, user := range users {
		w.name(user, "mallory", "a friend")
	}
	w.command("alice", func(r *record.Record) { r.Kind = &record.Record_CreateAccount{CreateAccount: &record.CreateAccount{}} })
	w.command("nobody", func(r *record.Record) { r.Kind = &record.Record_Trim{Trim: &record.Trim{FirstRevision: 4}} })
	w.command("bob", func(r *record.Record) { r.Kind = &record.Record_Trim{Trim: &record.Trim{FirstRevision: 4}} })
	w.sent -= 2 // they send again under names that were used
	w.send("bob", "carol")
	w.send("carol", "carol")
	for shard := range uint32(shards) {
		w.check(w.journal.StartGeneration(w.t.Context(), shard))
	}
	w.talk(2, users...)
}

func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	w := newWorld(t)
	w.history()
	// Three were let go of, and one of those sent again is new to carol.
	const operations = 3*(1+1) + 5*(9+6) - 3 + 2
	for _, c := range []struct {
		name   string
		change func(*correction.Options)
	}{
		{"all at once", func(*correction.Options) {}},
		{"by small pieces of the journal", func(o *correction.Options) { o.WindowRecords = 7 }},
		{"without a cache", func(o *correction.Options) { o.Cache = nil }},
		{"what changed lately", func(o *correction.Options) { o.Since = time.Now().Add(-time.Hour) }},
		{"repairing", repairing},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := w.look(c.change)
			if correction.Total(report.Found) != 0 || report.Mailboxes < 3 || report.Operations != operations || report.Unfilled != 0 || report.CacheAway != "" {
				t.Errorf("%+v", report)
			}
		})
	}
}

// A run that breaks off wherever it may goes on at the shard that its last
// progress names, and comes to what one run finds.
func TestNothingIsMissedAfterABreak(t *testing.T) {
	w := newWorld(t)
	w.register("b1", "b2", "b3", "c1")
	w.talk(1, "b1", "b2", "b3", "c1")
	for _, user := range []string{"b1", "c1"} {
		row := w.row(user, 2)
		row.Data = []byte("damage")
		w.harm(user, func(r *persistence.Repair) { r.Rows = []persistence.Row{row} })
	}
	whole := w.look()
	if correction.Total(whole.Found) < 2 {
		t.Fatalf("not all damage is found: %+v", whole)
	}
	for broken := range shards {
		o := w.options()
		ctx, stop := context.WithCancel(t.Context())
		var kept correction.Progress
		o.Progress = func(p correction.Progress) {
			if kept = p; p.Shard == uint32(broken) {
				stop()
			}
		}
		if broken == 0 {
			stop()
		}
		if _, err := correction.Run(ctx, o, 0, shards); err == nil {
			t.Errorf("a run that was stopped in shard %d came to its end", broken)
		}
		o.Progress = nil
		report, err := correction.Run(t.Context(), o, kept.Shard, shards)
		if err != nil {
			t.Fatal(err)
		}
		if report.Add(&kept.Done); !reflect.DeepEqual(report, whole) {
			t.Errorf("broken off in shard %d: %+v, want %+v", broken, report, whole)
		}
	}
	if _, err := correction.Run(t.Context(), w.options(), 0, shards+1); err == nil {
		t.Error("a shard that there is not is compared")
	}
}

// Damage that the journal shows is seen in whatever piece of it.
func TestDamageIsFoundInAnyPieceOfTheJournal(t *testing.T) {
	w := newWorld(t)
	w.register(users...)
	w.talk(3, users...)
	for _, revision := range []int64{2, 8, 14} {
		w.harmBody("bob", revision)
	}
	for _, records := range []int{5, 1000} {
		report := w.look(func(o *correction.Options) { o.Cache, o.WindowRecords = nil, records })
		if report.Found[correction.DifferentRow] != 3 {
			t.Errorf("pieces of %d records: %v", records, report.Found)
		}
	}
}

func TestDamageIsFoundAndMended(t *testing.T) {
	for _, d := range damages() {
		t.Run(d.name, func(t *testing.T) {
			w := newWorld(t)
			w.register(users...)
			w.talk(3, users...)
			if d.prepare != nil {
				d.prepare(w)
			}
			before := w.everything("bob")
			d.do(w)
			found := w.look().Found
			for _, kind := range d.want {
				if found[kind] == 0 {
					t.Errorf("not found: %s", kind)
				}
			}
			for kind := range found {
				if !slices.Contains(d.want, kind) {
					t.Errorf("found: %s", kind)
				}
			}
			repaired := w.look(repairing)
			if got, want := correction.Total(repaired.Repaired), correction.Total(found); got != want && !d.left {
				t.Errorf("repaired %d of %d", got, want)
			}
			if d.left {
				return
			}
			if again := w.look(); correction.Total(again.Found) != 0 {
				t.Errorf("found again: %+v", again)
			}
			if diff := cmp.Diff(before, w.everything("bob")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A journal that went back is an operator's to restore: no state is set back to it.
func TestAJournalThatWentBackChangesNoState(t *testing.T) {
	w := newWorld(t)
	w.register(users...)
	w.talk(1, users...)
	report := w.look(repairing, func(o *correction.Options) {
		lost := memory.NewJournal(persistence.DurabilityFsync)
		t.Cleanup(func() { _ = lost.Close() })
		o.Journal, o.Cache = lost, nil
	})
	want := map[correction.Kind]int64{correction.JournalBehind: shards}
	if diff := cmp.Diff(want, report.Found); diff != "" || correction.Total(report.Repaired) > 0 {
		t.Errorf("repaired %v; found %s", report.Repaired, diff)
	}
}

// A shard whose marks are missing is compared with nothing, and says so, unless it
// may be so new that it has none.
func TestMissingMarksAreFoundAndMended(t *testing.T) {
	w := newWorld(t)
	w.register(users...)
	unmarked := func(o *correction.Options) { o.Store, o.Cache = &unmarkedStore{Repairer: w.store, gone: true}, nil }
	if found := w.look(unmarked).Found; correction.Total(found) > 0 {
		t.Errorf("found %v of a journal that is whole", found)
	}
	w.letGo()
	for _, written := range []bool{true, false} {
		store := &unmarkedStore{Repairer: w.store, written: written, gone: true}
		options := func(o *correction.Options) { o.Store, o.Cache = store, nil }
		if found := w.look(options).Found; found[correction.MissingMarks] != shards {
			t.Errorf("found %v", found)
		}
		want := map[bool]int64{true: shards, false: 0}[written]
		if repaired := w.look(options, repairing).Repaired; repaired[correction.MissingMarks] != want {
			t.Errorf("repaired %v, want %d", repaired, want)
		}
		if found := w.look(options).Found[correction.MissingMarks]; (found == 0) != written {
			t.Errorf("found again: %d", found)
		}
	}
}
