package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/persistence"
)

// Source is what is exported from. No server runs on it.
type Source struct {
	Journal persistence.Journal
	Store   persistence.Repairer
	Keys    persistence.Keys
	Shards  int
	// Secrets are files of the server's own, by name.
	Secrets map[string][]byte
}

// Selection says what is exported: the shards from one up to, and not including,
// another; or one mailbox, and From is its shard.
type Selection struct {
	From, UpTo uint32
	Mailbox    string
}

// ErrNotStopped says that the store does not have all that the journal has.
var ErrNotStopped = errors.New("the store is behind the journal")

// partBytes is about how much goes into one part of a mailbox.
const partBytes = 256 << 10

// Export writes mailboxes to a file. It refuses shards whose journal has records
// that are not in the store. Errors: ErrNotStopped, persistence.ErrNotFound for
// a mailbox that there is not.
func Export(ctx context.Context, source Source, selection Selection, to io.Writer, progress func(Counts)) (Counts, error) {
	w, err := newWriter(to)
	if err != nil {
		return Counts{}, err
	}
	header := &Header{
		Version: fileVersion, Shards: uint32(source.Shards), ApplyVersion: mailbox.ApplyVersion,
		CreateTime: time.Now().UnixMilli(), WholeShards: selection.Mailbox == "",
	}
	if err := w.frame(&Frame_Header{header}); err != nil {
		return Counts{}, err
	}
	for name, content := range source.Secrets {
		if err := w.frame(&Frame_Secret{&Secret{Name: name, Content: content}}); err != nil {
			return Counts{}, err
		}
	}
	for shard := selection.From; shard < selection.UpTo; shard++ {
		e := exporter{writer: w, source: &source, shard: shard, part: &Part{}}
		if err := e.export(ctx, selection.Mailbox); err != nil {
			return Counts{}, fmt.Errorf("shard %d: %w", shard, err)
		}
		if progress != nil {
			progress(w.total)
		}
	}
	if selection.Mailbox != "" && w.total.Mailboxes == 0 {
		return Counts{}, fmt.Errorf("mailbox %q: %w", selection.Mailbox, persistence.ErrNotFound)
	}
	return w.total, w.close()
}

// exporter exports one shard.
type exporter struct {
	*writer
	source *Source
	shard  uint32
	name   string // of the mailbox under way; empty for none
	part   *Part
	size   int
}

func (e *exporter) export(ctx context.Context, only string) error {
	marks, err := stopped(ctx, e.source.Journal, e.source.Store, e.shard)
	if err != nil {
		return err
	}
	err = e.frame(&Frame_Shard{&Shard{Id: e.shard, Checkpoint: toPosition(marks.Checkpoint), Highest: toPosition(marks.Highest)}})
	if err != nil {
		return err
	}
	visit := func(item *persistence.Item) error { return e.take(ctx, item) }
	if only != "" {
		err = e.source.Store.ScanMailbox(ctx, e.shard, only, visit)
	} else {
		err = e.source.Store.Scan(ctx, e.shard, visit)
	}
	if err != nil {
		return err
	}
	return e.flush()
}

// stopped returns a shard's marks, if all that its journal has is in the store.
func stopped(ctx context.Context, journal persistence.Journal, store persistence.Store, shard uint32) (persistence.Marks, error) {
	if err := store.Sync(ctx); err != nil {
		return persistence.Marks{}, err
	}
	marks, err := store.Marks(ctx, shard)
	if err != nil {
		return marks, err
	}
	bounds, err := journal.Bounds(ctx, shard)
	if err != nil {
		return marks, err
	}
	if marks.Ahead(bounds) {
		return marks, fmt.Errorf("%w: the journal went back: see tegami generation", ErrNotStopped)
	}
	if bounds.First == bounds.Next {
		return marks, nil
	}
	entries, err := journal.Read(ctx, shard, bounds.Next-1, 1)
	if err != nil {
		return marks, err
	}
	if len(entries) == 0 || marks.Checkpoint.Less(entries[0].Position) {
		return marks, fmt.Errorf("%w: it has records up to offset %d, the journal up to %d; start the server, stop it in good order (SIGTERM), and export again",
			ErrNotStopped, marks.Checkpoint.Offset, bounds.Next-1)
	}
	return marks, nil
}

func (e *exporter) take(ctx context.Context, item *persistence.Item) error {
	if item.Err != nil {
		return fmt.Errorf("mailbox %q: %w; tegami correct says more", item.Mailbox, item.Err)
	}
	if item.Kind == persistence.ItemState {
		return e.begin(ctx, item)
	}
	if item.Mailbox != e.name {
		if item.Kind == persistence.ItemRow || item.Kind == persistence.ItemPlace {
			return fmt.Errorf("mailbox %q: rows without a state; tegami correct says more", item.Mailbox)
		}
		return nil
	}
	switch item.Kind {
	case persistence.ItemPart:
		e.part.StateParts = append(e.part.StateParts, &StatePart{Key: []byte(item.Part.Key), Data: bytes.Clone(item.Part.Data)})
		e.size += len(item.Part.Key) + len(item.Part.Data) + 16
	case persistence.ItemSource:
		e.part.Sources = append(e.part.Sources, &TakenSource{Mailbox: item.Source.Mailbox, Position: toPosition(item.Source.Position)})
		e.size += len(item.Source.Mailbox) + 16
	case persistence.ItemDedup:
		e.part.Dedup = append(e.part.Dedup, toDedup(&item.Dedup))
		e.size += 64
	case persistence.ItemRow:
		e.part.Rows = append(e.part.Rows, &Row{Revision: item.Row.Revision, Peer: item.Row.Peer, Data: bytes.Clone(item.Row.Data)})
		e.size += len(item.Row.Peer) + len(item.Row.Data) + 16
	default: // places follow from rows
	}
	if e.size >= partBytes {
		return e.flush()
	}
	return nil
}

func (e *exporter) begin(ctx context.Context, item *persistence.Item) error {
	if err := e.flush(); err != nil {
		return err
	}
	m := &Mailbox{Name: item.Mailbox, Position: toPosition(item.Position), State: item.State, First: item.First}
	key, err := e.source.Keys.Get(ctx, item.Mailbox)
	switch {
	case err == nil:
		m.Key = key[:]
	case !errors.Is(err, persistence.ErrNotFound):
		return err
	}
	e.name = item.Mailbox
	e.total.add(m, nil)
	return e.frame(&Frame_Mailbox{m})
}

// flush writes what was gathered of the mailbox.
func (e *exporter) flush() error {
	if e.size == 0 {
		return nil
	}
	e.total.add(nil, e.part)
	err := e.frame(&Frame_Part{e.part})
	e.part, e.size = &Part{}, 0
	return err
}
