package embedded_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/memory"
)

// twins are an embedded store and one in memory, which get the same calls and
// must give the same answers.
type twins struct {
	options  embedded.Options
	embedded *embedded.Storage
	memory   *memory.Store
	// position is the newest given to each mailbox, revision its head.
	position, revision map[string]int64
}

var twinMailboxes = []string{"a", "ab", "a\x00"}

const dayOfTwins = 86_400_000

// TestStoreBehavesLikeMemory makes random calls, reopening now and then.
func TestStoreBehavesLikeMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &twins{
			options:  embedded.Options{Dir: "/data", FS: vfs.NewMem(), Shards: 2},
			memory:   memory.NewStore(),
			position: map[string]int64{},
			revision: map[string]int64{},
		}
		w.open(t)
		defer func() { _ = w.embedded.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"write":  w.write,
			"sync":   w.sync,
			"read":   w.read,
			"reopen": w.reopen,
			"":       func(*rapid.T) {},
		})
	})
}

func (w *twins) open(t *rapid.T) {
	s, err := embedded.Open(w.options)
	if err != nil {
		t.Fatal(err)
	}
	w.embedded = s
}

func (w *twins) reopen(t *rapid.T) {
	if err := w.embedded.Close(); err != nil {
		t.Fatal(err)
	}
	w.open(t)
	w.memory = w.memory.Reopen()
}

func (w *twins) write(t *rapid.T) {
	var batch persistence.Batch
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(twinMailboxes), func(s string) string { return s }).Draw(t, "mailboxes") {
		offset := w.position[name] + rapid.Int64Range(-2, 3).Draw(t, "step")
		m := persistence.MailboxWrite{
			Mailbox:  name,
			Position: persistence.Position{Generation: 1, Offset: max(0, offset)},
			State:    fmt.Append(nil, offset),
			First:    max(0, w.revision[name]-rapid.Int64Range(0, 20).Draw(t, "kept")),
		}
		w.position[name] = max(offset, w.position[name])
		for range rapid.IntRange(0, 4).Draw(t, "rows") {
			w.revision[name]++
			m.Rows = append(m.Rows, persistence.Row{
				Revision: w.revision[name],
				Peer:     rapid.SampledFrom([]string{"", "b", "bb"}).Draw(t, "peer"),
				Data:     make([]byte, rapid.IntRange(0, 50).Draw(t, "size")),
			})
		}
		if rapid.Bool().Draw(t, "dedup") {
			entry := persistence.DedupEntry{
				Time:     offset * dayOfTwins / 5,
				Position: persistence.Position{Generation: 1, Offset: offset + rapid.Int64Range(-1, 1).Draw(t, "beside")},
			}
			entry.Key[0] = rapid.Byte().Draw(t, "key") % 8
			if offset >= 5 { // day 0 is before any record
				m.Dedup = append(m.Dedup, entry)
			}
			m.Sources = append(m.Sources, persistence.Source{Mailbox: string(entry.Key[:1]), Position: m.Position})
		}
		batch.Highest = m.Position
		batch.Mailboxes = append(batch.Mailboxes, m)
	}
	for _, s := range []persistence.Store{w.embedded.Store, w.memory} {
		if err := s.Write(t.Context(), 0, batch); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *twins) sync(t *rapid.T) {
	for _, s := range []persistence.Store{w.embedded.Store, w.memory} {
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// answers are what a store says when it is asked.
type answers struct {
	Mailbox      *persistence.Mailbox
	NotFound     bool
	Operations   []persistence.Row
	Conversation []persistence.Row
	Dedup        persistence.DedupEntry
	Found        bool
	Marks        persistence.Marks
}

func (w *twins) read(t *rapid.T) {
	name := rapid.SampledFrom(twinMailboxes).Draw(t, "mailbox")
	revision := rapid.Int64Range(-1, w.revision[name]+2).Draw(t, "revision")
	upTo := rapid.Int64Range(-1, w.revision[name]+2).Draw(t, "up to")
	limit, maxBytes := rapid.IntRange(0, 8).Draw(t, "limit"), rapid.IntRange(0, 200).Draw(t, "bytes")
	peer := rapid.SampledFrom([]string{"", "b", "bb", "c"}).Draw(t, "peer")
	maxDedup := rapid.IntRange(0, 6).Draw(t, "dedup entries")
	var key [persistence.DedupKeySize]byte
	key[0] = rapid.Byte().Draw(t, "key") % 8
	notBefore := rapid.Int64Range(1, w.position[name]+2).Draw(t, "not before") * dayOfTwins / 5

	ask := func(s persistence.Store) (a answers) {
		var errs [5]error
		a.Mailbox, errs[0] = s.Load(t.Context(), 0, name, maxDedup)
		if errors.Is(errs[0], persistence.ErrNotFound) {
			a.NotFound, errs[0] = true, nil
		}
		a.Operations, errs[1] = s.Operations(t.Context(), 0, name, revision, upTo, limit, maxBytes)
		a.Conversation, errs[2] = s.Conversation(t.Context(), 0, name, peer, revision, limit, maxBytes)
		a.Dedup, a.Found, errs[3] = s.Dedup(t.Context(), 0, name, key, notBefore)
		a.Marks, errs[4] = s.Marks(t.Context(), 0)
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		return a
	}
	anyOrder := cmp.Options{
		cmpopts.SortSlices(func(a, b persistence.Source) bool { return a.Mailbox < b.Mailbox }),
		cmpopts.SortSlices(func(a, b persistence.DedupEntry) bool {
			return string(a.Key[:]) < string(b.Key[:]) || a.Key == b.Key && a.Time < b.Time
		}),
		cmpopts.EquateEmpty(),
	}
	if diff := cmp.Diff(ask(w.memory), ask(w.embedded.Store), anyOrder); diff != "" {
		t.Fatalf("answers (-memory +embedded):\n%s", diff)
	}
}
