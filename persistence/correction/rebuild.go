package correction

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/persistence"
)

// Rebuild says how a cache is filled anew. No server runs on the stores.
type Rebuild struct {
	Journal persistence.Journal
	Store   persistence.Repairer
	Cache   persistence.Cache
	Shards  uint32
	// FromJournal fills it with what the journal alone tells: the mailboxes whose
	// accounts were made in what it still has, if it never let go of anything.
	// Otherwise the store is read.
	FromJournal bool
	// All reads all mailboxes of the store; otherwise those that have records in
	// the journal.
	All bool
	// Rows is how many of its newest rows each mailbox gets; 0 means 100.
	Rows int
}

// Rebuilt is what a cache was filled with.
type Rebuilt struct {
	Mailboxes int64
	// Passed are mailboxes with records in the journal that the journal alone
	// does not tell all of.
	Passed int64
}

// Run begins a new filling of every shard and fills it.
func (r Rebuild) Run(ctx context.Context) (total Rebuilt, err error) {
	if r.Rows == 0 {
		r.Rows = 100
	}
	for shard := range r.Shards {
		f := filler{Rebuild: &r, shard: shard}
		if err := f.run(ctx); err != nil {
			return total, fmt.Errorf("shard %d: %w", shard, err)
		}
		total.Mailboxes += f.filled.Mailboxes
		total.Passed += f.filled.Passed
	}
	return total, nil
}

// filler fills one shard.
type filler struct {
	*Rebuild
	shard  uint32
	mark   persistence.CacheMark
	filled Rebuilt
}

func (f *filler) run(ctx context.Context) error {
	bounds, err := f.Journal.Bounds(ctx, f.shard)
	if err != nil {
		return err
	}
	if f.FromJournal {
		return f.fromJournal(ctx, bounds)
	}
	marks, err := f.Store.Marks(ctx, f.shard)
	if err != nil {
		return err
	}
	if f.mark, err = f.Cache.Begin(ctx, f.shard, marks.Checkpoint); err != nil {
		return err
	}
	if f.All {
		return f.Store.Scan(ctx, f.shard, func(item *persistence.Item) error {
			if item.Kind != persistence.ItemState {
				return nil
			}
			return f.fromStore(ctx, item.Mailbox)
		})
	}
	window, err := readWindow(ctx, f.Journal, f.shard, bounds.First, marks.Checkpoint, 1, 1<<30, nil)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(window.changed)) {
		if err := f.fromStore(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// fromStore copies a mailbox as the store has it.
func (f *filler) fromStore(ctx context.Context, name string) error {
	loaded, err := f.Store.Load(ctx, f.shard, name, mailbox.MaxDedupInMemory)
	if errors.Is(err, persistence.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	state, err := mailbox.Decode(name, loaded)
	if err != nil {
		return fmt.Errorf("mailbox %q: %w; tegami correct says more", name, err)
	}
	rows, err := f.Store.Operations(ctx, f.shard, name, max(state.First()-1, state.Head()-int64(f.Rows)), state.Head(), f.Rows, 1<<20)
	if err != nil {
		return err
	}
	return f.fill(ctx, name, loaded, rows)
}

// fill copies a mailbox and its newest rows.
func (f *filler) fill(ctx context.Context, name string, loaded *persistence.Mailbox, rows []persistence.Row) (err error) {
	if err := f.Cache.Fill(ctx, f.shard, f.mark, name, loaded); err != nil {
		return err
	}
	f.filled.Mailboxes++
	write := persistence.MailboxWrite{Mailbox: name, Position: loaded.Position, State: loaded.State, Rows: rows}
	f.mark, err = f.Cache.Write(ctx, f.shard, f.mark, f.mark.Watermark, []persistence.MailboxWrite{write})
	return err
}

// fromJournal applies all records again, of a journal that never let go of any.
func (f *filler) fromJournal(ctx context.Context, bounds persistence.Bounds) error {
	end := persistence.Position{Generation: bounds.Generation, Offset: bounds.Next}
	window, err := readWindow(ctx, f.Journal, f.shard, bounds.First, end, 1, 1<<30, nil)
	if err != nil {
		return err
	}
	if f.mark, err = f.Cache.Begin(ctx, f.shard, window.end); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(window.changed)) {
		if _, made := window.created[name]; !made || bounds.First > 0 {
			f.filled.Passed++
			continue
		}
		if err := f.derive(ctx, name, end); err != nil {
			return err
		}
	}
	return nil
}

func (f *filler) derive(ctx context.Context, name string, end persistence.Position) error {
	records, err := readRecords(ctx, f.Journal, f.shard, name, end)
	if err != nil {
		return err
	}
	state, d := mailbox.New(name), derived{rows: map[int64]persistence.Row{}}
	for _, e := range records {
		before := state.Head()
		d.take(state.Apply(mailbox.Input{Position: e.position, Time: e.time, Record: e.record}), nil, before)
		delete(d.rows, state.Head()-int64(f.Rows))
	}
	if d.state == nil || len(d.dedup) > mailbox.MaxDedupInMemory {
		f.filled.Passed++
		return nil
	}
	present := slices.DeleteFunc(d.parts, func(part persistence.Part) bool { return len(part.Data) == 0 })
	loaded := &persistence.Mailbox{Position: d.position, State: d.state, Sources: d.sources, Parts: present, Dedup: d.dedup, DedupComplete: true}
	rows := make([]persistence.Row, 0, len(d.rows))
	for _, revision := range slices.Sorted(maps.Keys(d.rows)) {
		rows = append(rows, d.rows[revision])
	}
	return f.fill(ctx, name, loaded, rows)
}
