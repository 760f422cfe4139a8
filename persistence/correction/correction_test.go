package correction_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence/correction"
)

var users = []string{"alice", "bob", "carol"}

func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	w := newWorld(t)
	w.register(users...)
	w.talk(5, users...)
	report := w.look()
	if correction.Total(report.Found) != 0 || report.Mailboxes != 3 || report.Operations != 5*(9+6) || report.Unfilled != 0 || report.CacheAway != "" {
		t.Errorf("%+v", report)
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
