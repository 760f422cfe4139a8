package correction_test

import (
	"errors"
	"testing"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/correction"
)

func (w *world) rebuild(change func(*correction.Rebuild)) correction.Rebuilt {
	w.t.Helper()
	r := correction.Rebuild{Journal: w.journal, Store: w.store, Cache: w.cache, Shards: shards}
	change(&r)
	rebuilt, err := r.Run(w.t.Context())
	w.check(err)
	return rebuilt
}

// copied reports whether the cache has a copy of a user that a server takes.
func (w *world) copied(user string) bool {
	w.t.Helper()
	marks, err := w.store.Marks(w.t.Context(), shardOf(user))
	w.check(err)
	_, err = w.cache.Load(w.t.Context(), shardOf(user), user, 1000, marks.Checkpoint)
	if !errors.Is(err, persistence.ErrNotFound) {
		w.check(err)
	}
	return err == nil
}

func TestCacheIsFilledAnew(t *testing.T) {
	w := newWorld(t)
	w.register("alice", "bob", "carol")
	w.talk(2, "alice", "bob", "carol")
	w.letGo()
	w.talk(1, "alice", "bob") // the journal knows of them only
	for _, c := range []struct {
		name   string
		change func(*correction.Rebuild)
		want   correction.Rebuilt
		carol  bool
	}{
		{"from what changed lately", func(*correction.Rebuild) {}, correction.Rebuilt{Mailboxes: 2}, false},
		{"from all", func(r *correction.Rebuild) { r.All = true }, correction.Rebuilt{Mailboxes: 3}, true},
		{"from a journal that let go of records", func(r *correction.Rebuild) { r.FromJournal = true }, correction.Rebuilt{Passed: 2}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := w.rebuild(c.change); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if w.copied("bob") != (c.want.Mailboxes > 0) || w.copied("carol") != c.carol {
				t.Errorf("copies of bob: %v, of carol: %v", w.copied("bob"), w.copied("carol"))
			}
			if found := w.look().Found; len(found) > 0 {
				t.Errorf("found %v", found)
			}
			if c.want.Mailboxes == 0 {
				return
			}
			rows, err := w.cache.Newest(t.Context(), shardOf("bob"), "bob", persistence.MaxRevision, 1)
			if err != nil || len(rows) != 1 || rows[0].Revision != w.states["bob"].Head() {
				t.Errorf("newest row %v, %v", rows, err)
			}
		})
	}
}

func TestCacheIsFilledFromTheJournalAlone(t *testing.T) {
	w := newWorld(t)
	w.register(users...)
	w.talk(2, users...)
	if got := w.rebuild(func(r *correction.Rebuild) { r.FromJournal = true }); got.Mailboxes != 3 || got.Passed != 0 {
		t.Errorf("%+v", got)
	}
	if found := w.look().Found; len(found) > 0 {
		t.Errorf("found %v", found)
	}
	if !w.copied("alice") {
		t.Error("no copy")
	}
}
