package correction_test

import (
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/correction"
)

// damage is one way to harm a world, and what is to be found of it.
type damage struct {
	name string
	// prepare comes before the damage.
	prepare func(w *world)
	do      func(w *world)
	want    []correction.Kind
	// left: it cannot be repaired.
	left bool
}

// The kinds of rows of an embedded store.
const (
	rowState        = 's'
	rowPart         = 'p'
	rowSource       = 'f'
	rowDedup        = 'd'
	rowConversation = 'c'
)

func (w *world) harm(user string, change func(*persistence.Repair)) {
	w.t.Helper()
	r := persistence.Repair{Mailbox: user, Through: w.states[user].Position()}
	change(&r)
	w.check(w.store.Repair(w.t.Context(), shardOf(user), r))
}

func (w *world) row(user string, revision int64) persistence.Row {
	w.t.Helper()
	rows, err := w.store.Operations(w.t.Context(), shardOf(user), user, revision-1, revision, 1, 1)
	w.check(err)
	return rows[0]
}

// harmState changes what the stored state says, but not where it is.
func (w *world) harmState(user string, change func(*record.State)) {
	w.t.Helper()
	loaded, err := w.store.Load(w.t.Context(), shardOf(user), user, 0)
	w.check(err)
	state := new(record.State)
	w.check(proto.Unmarshal(loaded.State, state))
	change(state)
	encoded, err := proto.Marshal(state)
	w.check(err)
	w.harm(user, func(r *persistence.Repair) { r.State, r.Position = encoded, loaded.Position })
}

// harmBody changes a sealed body.
func (w *world) harmBody(user string, revision int64) {
	w.t.Helper()
	row := w.row(user, revision)
	op := new(record.Operation)
	w.check(proto.Unmarshal(row.Data, op))
	for _, m := range []*record.Message{op.GetReceiveMessage(), op.GetSendMessage()} {
		if m != nil {
			m.SealedBody[20] ^= 1
		}
	}
	row.Data, _ = proto.Marshal(op)
	w.harm(user, func(r *persistence.Repair) { r.Rows = []persistence.Row{row} })
}

// moveState changes where the stored state says that it is.
func (w *world) moveState(user string, change func(*persistence.Position)) {
	w.t.Helper()
	loaded, err := w.store.Load(w.t.Context(), shardOf(user), user, 0)
	w.check(err)
	change(&loaded.Position)
	w.harm(user, func(r *persistence.Repair) { r.State, r.Position = loaded.State, loaded.Position })
}

func harmPart(w *world) {
	w.harm("bob", func(r *persistence.Repair) { r.Parts = []persistence.Part{{Key: "cmallory", Data: []byte{0xff}}} })
}

func damages() []damage {
	return []damage{
		{
			name: "rows are gone",
			do: func(w *world) {
				w.harm("bob", func(r *persistence.Repair) { r.Remove = []int64{3, 4, 9} })
			},
			want: []correction.Kind{correction.MissingRow, correction.ExtraPlace},
		},
		{
			name: "the newest row is gone, with its place",
			do: func(w *world) {
				head := w.states["bob"].Head()
				row := w.row("bob", head)
				w.harm("bob", func(r *persistence.Repair) { r.Remove, r.Places = []int64{head}, []persistence.Row{row} })
			},
			want: []correction.Kind{correction.MissingRow},
		},
		{
			name: "all rows are gone, and others came",
			do: func(w *world) {
				var all []int64
				for revision := range w.states["bob"].Head() - 2 {
					all = append(all, revision+1)
				}
				w.fillCache()
				w.harm("bob", func(r *persistence.Repair) { r.Remove = all })
			},
			want: []correction.Kind{correction.MissingRow, correction.ExtraPlace},
		},
		{
			name: "a row is gone that only the cache has",
			do: func(w *world) {
				w.letGo()
				w.harm("bob", func(r *persistence.Repair) { r.Remove = []int64{5} })
			},
			want: []correction.Kind{correction.MissingRow, correction.ExtraPlace},
		},
		{
			name: "a row is gone that nobody has",
			do: func(w *world) {
				w.letGo()
				w.fillCache()
				w.harm("bob", func(r *persistence.Repair) { r.Remove = []int64{5} })
			},
			want: []correction.Kind{correction.MissingRow, correction.ExtraPlace},
			left: true,
		},
		{
			name: "a row does not decode",
			do: func(w *world) {
				row := w.row("bob", 4)
				row.Data = []byte{0xff}
				w.harm("bob", func(r *persistence.Repair) { r.Rows = []persistence.Row{row} })
			},
			want: []correction.Kind{correction.DifferentRow},
		},
		{
			name: "a row is another",
			do: func(w *world) {
				row := w.row("bob", 5)
				row.Revision = 6
				w.harm("bob", func(r *persistence.Repair) { r.Rows = []persistence.Row{row} })
			},
			want: []correction.Kind{correction.DifferentRow},
		},
		{
			name: "the body of a row is another",
			do:   func(w *world) { w.harmBody("bob", 4) },
			want: []correction.Kind{correction.DifferentRow, correction.SealedBody, correction.CacheRow},
		},
		{
			name: "a body is another, and only the cache knows",
			do: func(w *world) {
				w.letGo()
				w.harmBody("bob", 4)
			},
			want: []correction.Kind{correction.SealedBody, correction.CacheRow},
		},
		{
			name: "a body is another, and nobody knows",
			do: func(w *world) {
				w.letGo()
				w.fillCache()
				w.harmBody("bob", 4)
			},
			want: []correction.Kind{correction.SealedBody},
			left: true,
		},
		{
			name: "the key is gone",
			do:   func(w *world) { w.check(w.keys.Delete(w.t.Context(), "bob")) },
			want: []correction.Kind{correction.MissingKey},
			left: true,
		},
		{
			name: "the key was made anew",
			do: func(w *world) {
				w.check(w.keys.Delete(w.t.Context(), "bob"))
				w.key("bob")
			},
			want: []correction.Kind{correction.SealedBody},
			left: true,
		},
		{
			name: "a row is above the head",
			do: func(w *world) {
				row := w.row("bob", 4)
				row.Revision = w.states["bob"].Head() + 1
				w.harm("bob", func(r *persistence.Repair) { r.Rows = []persistence.Row{row} })
			},
			want: []correction.Kind{correction.ExtraRow, correction.ExtraPlace},
		},
		{
			name: "the state is gone",
			do:   func(w *world) { w.remove(rowState, "bob") },
			want: []correction.Kind{correction.MissingState},
		},
		{
			name: "the state is gone that only the cache has",
			do: func(w *world) {
				w.remove(rowState, "bob")
				w.letGo()
			},
			want: []correction.Kind{correction.MissingState},
		},
		{
			name: "the state does not decode",
			do: func(w *world) {
				position := w.states["bob"].Position()
				w.harm("bob", func(r *persistence.Repair) { r.State, r.Position = []byte{0xff}, position })
			},
			want: []correction.Kind{correction.DamagedState},
		},
		{
			name: "parts of the state are gone",
			do:   func(w *world) { w.remove(rowPart, "bob") },
			want: []correction.Kind{correction.CacheState},
		},
		{
			name: "a part of the state does not decode",
			do:   harmPart,
			want: []correction.Kind{correction.DamagedState, correction.CacheState},
		},
		{
			name: "a part of the state does not decode, and only the cache knows",
			do: func(w *world) {
				w.letGo()
				harmPart(w)
			},
			want: []correction.Kind{correction.DamagedState, correction.CacheState},
		},
		{
			name: "a part of the state does not decode, and nobody knows",
			do: func(w *world) {
				w.letGo()
				w.fillCache()
				harmPart(w)
			},
			want: []correction.Kind{correction.DamagedState},
			left: true,
		},
		{
			name: "the head is set back",
			do:   func(w *world) { w.harmState("bob", func(s *record.State) { s.Head -= 2 }) },
			want: []correction.Kind{correction.DamagedState, correction.CacheState},
		},
		{
			name: "the head is set back, and only the cache knows",
			do: func(w *world) {
				w.letGo()
				w.harmState("bob", func(s *record.State) { s.Head -= 2 })
			},
			want: []correction.Kind{correction.DamagedState, correction.CacheState},
		},
		{
			name: "the head is set forward",
			do:   func(w *world) { w.harmState("bob", func(s *record.State) { s.Head += 2 }) },
			want: []correction.Kind{correction.MissingRow, correction.CacheState},
		},
		{
			name: "the state is an older one",
			prepare: func(w *world) {
				var err error
				w.older, err = w.store.Load(w.t.Context(), shardOf("bob"), "bob", 0)
				w.check(err)
				w.talk(1, users...)
			},
			do: func(w *world) {
				w.harm("bob", func(r *persistence.Repair) { r.State, r.Position = w.older.State, w.older.Position })
			},
			want: []correction.Kind{correction.StateBehind, correction.DamagedState},
		},
		{
			name: "the state says that it is of an older record",
			do: func(w *world) {
				w.moveState("bob", func(p *persistence.Position) { p.Offset -= 3 })
			},
			want: []correction.Kind{correction.StateBehind},
		},
		{
			name: "the state says that it is of an older record, and the journal is not whole",
			prepare: func(w *world) {
				w.letGo()
				w.talk(1, users...)
			},
			do: func(w *world) {
				w.moveState("bob", func(p *persistence.Position) { p.Offset -= 3 })
			},
			want: []correction.Kind{correction.StateBehind},
		},
		{
			name: "the state is ahead of the journal",
			do: func(w *world) {
				w.moveState("bob", func(p *persistence.Position) { p.Offset += 100 })
			},
			want: []correction.Kind{correction.StateAhead},
		},
		{
			name: "the state is ahead of the journal, which let go of all before",
			do: func(w *world) {
				w.letGo()
				w.moveState("bob", func(p *persistence.Position) { p.Offset += 100 })
			},
			want: []correction.Kind{correction.StateAhead},
		},
		{
			name: "places in conversations are gone",
			do:   func(w *world) { w.remove(rowConversation, "bob") },
			want: []correction.Kind{correction.MissingPlace},
		},
		{
			name: "dedup entries are gone",
			do:   func(w *world) { w.remove(rowDedup, "bob") },
			want: []correction.Kind{correction.MissingDedup, correction.CacheState},
		},
		{
			name: "sources are gone",
			do:   func(w *world) { w.remove(rowSource, "bob") },
			want: []correction.Kind{correction.MissingSource, correction.SourceBehind, correction.CacheState},
		},
		{
			name: "sources are gone that only the cache has",
			do: func(w *world) {
				w.remove(rowSource, "bob")
				w.letGo()
			},
			want: []correction.Kind{correction.MissingSource, correction.CacheState},
		},
		{
			name: "the cache is ahead of the journal",
			do: func(w *world) {
				_, err := w.cache.Begin(w.t.Context(), 0, persistence.Position{Generation: 7})
				w.check(err)
			},
			want: []correction.Kind{correction.CacheMark},
		},
		{
			name: "the mark in the cache is damaged",
			do:   func(w *world) { w.cache.mark = true },
			want: []correction.Kind{correction.DamagedMark},
		},
		{
			name: "the copy in the cache is damaged",
			do:   func(w *world) { w.cache.copies = "bob" },
			want: []correction.Kind{correction.CacheState},
		},
		{
			name: "the rows in the cache are damaged",
			do:   func(w *world) { w.cache.rows = "bob" },
			want: []correction.Kind{correction.CacheState},
		},
		{
			name: "rows are missing inside what the cache has",
			do:   func(w *world) { w.cache.gone = []int64{4, 5} },
			want: []correction.Kind{correction.CacheRow},
		},
		{
			name: "the newest row is missing in the cache",
			do:   func(w *world) { w.cache.gone = []int64{w.states["bob"].Head()} },
			want: []correction.Kind{correction.CacheRow},
		},
	}
}
