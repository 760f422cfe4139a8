package correction

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// maxIndexed is how many rows of a mailbox are held against its conversations.
const maxIndexed = 16 << 20

// view is what the mailboxes of a shard are compared with.
type view struct {
	shard      uint32
	checkpoint persistence.Position
	window     *window
	// keptSince returns the log time since when dedup entries are kept, at least.
	keptSince func() int64
	// first says that this is the first window of the journal: what needs no
	// journal is compared with it alone.
	first bool
	// load reads what the cache has of a mailbox that the store has at a
	// position; nil for nothing.
	load func(ctx context.Context, mailbox string, at persistence.Position) (*cachedCopy, error)
	// keys is nil where bodies are not opened.
	keys Keyring
	// beyond reports whether the journal ends below a position.
	beyond func(context.Context, persistence.Position) (bool, error)
	// states: a state was seen.
	states bool
}

// answered is what a dedup entry says of an operation.
type answered struct {
	revision int64
	message  uint64
	position persistence.Position
}

// box is one mailbox as it is looked at.
type box struct {
	*view
	name     string
	findings []Finding
	records  []logged
	kept     int64 // dedup entries since then must be there

	state    *record.State
	position persistence.Position
	head     int64
	low      int64 // the oldest revision that is kept
	oldest   int64 // what the store itself says of that
	hasState bool
	damaged  bool // there is a state, and it does not decode
	// beyondEnd: the state is of a record that the journal does not have yet.
	beyondEnd bool
	sources   map[uint64]persistence.Position
	answers   []answered
	loaded    *persistence.Mailbox // filled where a cached copy is to be compared
	cached    *cachedCopy

	opener  *sealing.Opener // once a body was met
	keyless bool            // there is no key

	stored   bool // there is anything
	inRows   bool
	next     int64 // the revision that is due
	time     int64 // of the row before
	newest   int64 // of the rows above the head
	rows     []uint64
	base     int64                // the revision of rows[0]
	above    int64                // how many rows the head should be above, and is not
	matched  persistence.Position // of the newest row that the journal has
	unknown  []int64              // rows since, which it has not
	operated int64
}

func newBox(v *view, name string) *box {
	b := &box{view: v, name: name, kept: v.keptSince()}
	if v.window != nil {
		b.records = v.window.of(name)
	}
	return b
}

// found notes what needs no journal to be seen, and so is seen with the first
// window of it.
func (b *box) found(kind Kind, revision, count int64, format string, arguments ...any) {
	if b.first {
		b.foundInJournal(kind, revision, count, format, arguments...)
	}
}

// foundInJournal notes what a record tells.
func (b *box) foundInJournal(kind Kind, revision, count int64, format string, arguments ...any) {
	if n := len(b.findings); n > 0 && count == 1 {
		if last := &b.findings[n-1]; last.Kind == kind && last.Revision > 0 && last.Revision+last.Count == revision {
			last.Count++
			return
		}
	}
	b.findings = append(b.findings, Finding{
		Kind: kind, Shard: b.shard, Mailbox: b.name, Revision: revision, Count: count, Text: fmt.Sprintf(format, arguments...),
	})
}

// take looks at one item. Items come in the order of a scan.
func (b *box) take(ctx context.Context, item *persistence.Item) error {
	b.stored = true
	switch item.Kind {
	case persistence.ItemState:
		return b.takeState(ctx, item)
	case persistence.ItemPart:
		b.takePart(item)
	case persistence.ItemSource:
		if item.Err != nil {
			b.found(DamagedState, 0, 1, "source %s: %v", item.Source.Mailbox, item.Err)
			return nil //nolint:nilerr // it is a finding
		}
		if b.sources == nil {
			b.sources = map[uint64]persistence.Position{}
		}
		b.sources[digestName(item.Source.Mailbox)] = item.Source.Position
		if b.cached != nil {
			b.loaded.Sources = append(b.loaded.Sources, item.Source)
		}
	case persistence.ItemDedup:
		b.takeDedup(item)
	case persistence.ItemRow:
		b.beginRows()
		return b.takeRow(ctx, item)
	case persistence.ItemPlace:
		b.beginRows()
		b.endRows()
		b.takePlace(item)
	}
	return nil
}

func (b *box) takeState(ctx context.Context, item *persistence.Item) (err error) {
	b.hasState, b.position, b.states = true, item.Position, true
	state := new(record.State)
	err = item.Err
	if err == nil {
		_, err = mailbox.Decode(b.name, &persistence.Mailbox{Position: item.Position, State: item.State, DedupComplete: true})
	}
	if err == nil {
		err = proto.Unmarshal(item.State, state)
	}
	if err != nil {
		b.damaged = true
		b.found(DamagedState, 0, 1, "%v", err)
		return nil
	}
	b.state, b.head, b.low = state, state.GetHead(), max(state.GetFirst(), item.First)
	b.oldest = item.First
	if b.first {
		if b.beyondEnd, err = b.beyond(ctx, item.Position); err != nil {
			return err
		}
	}
	if b.load != nil && b.first {
		if b.cached, err = b.load(ctx, b.name, item.Position); err != nil {
			return err
		}
		b.loaded = &persistence.Mailbox{Position: item.Position, State: slices.Clone(item.State)}
	}
	return nil
}

func (b *box) takePart(item *persistence.Item) {
	err := item.Err
	if err == nil {
		err = mailbox.CheckPart(item.Part)
	}
	if err != nil {
		b.found(DamagedState, 0, 1, "part %q: %v", item.Part.Key, err)
		return
	}
	if b.cached != nil {
		b.loaded.Parts = append(b.loaded.Parts, persistence.Part{Key: item.Part.Key, Data: slices.Clone(item.Part.Data)})
	}
}

func (b *box) takeDedup(item *persistence.Item) {
	entry := &item.Dedup
	switch {
	case item.Err != nil:
		b.found(DifferentDedup, 0, 1, "%v", item.Err)
	case entry.Revision > 0:
		b.answers = append(b.answers, answered{entry.Revision, digest(entry.MessageID[:]), entry.Position})
	}
	if b.cached != nil && item.Err == nil {
		b.loaded.Dedup = append(b.loaded.Dedup, *entry)
	}
}

// beginRows ends what precedes the rows.
func (b *box) beginRows() {
	if b.inRows {
		return
	}
	b.inRows = true
	slices.SortFunc(b.answers, func(x, y answered) int {
		return cmp.Or(cmp.Compare(x.revision, y.revision), comparePositions(x.position, y.position))
	})
	b.next, b.base = b.low, b.low
	if b.hasState {
		return
	}
	b.found(MissingState, 0, 1, "other rows are there without it")
}

// takeRow looks at an operation. Rows come by their revision.
func (b *box) takeRow(ctx context.Context, item *persistence.Item) error {
	b.operated++
	revision := item.Row.Revision
	if b.next == 0 { // without a state, rows begin where they begin
		b.next, b.base = revision, revision
	}
	switch {
	case item.Err != nil && revision == 0:
		b.found(DifferentRow, 0, 1, "%v", item.Err)
		return nil
	case b.state != nil && revision > b.head:
		b.takeAbove(item)
		return nil
	case revision < b.next:
		b.found(ExtraRow, revision, 1, "below the first revision %d", b.low)
		return nil
	case revision > b.next:
		b.missing(revision)
	}
	b.next = revision + 1
	if n := revision - b.base; n < maxIndexed {
		for int64(len(b.rows)) < n {
			b.rows = append(b.rows, 0)
		}
		b.rows = append(b.rows, 0)
	}
	op, err := operation(b.name, item)
	message := messageOf(op)
	n := revision - b.base
	if err != nil {
		b.found(DifferentRow, revision, 1, "%v", err)
		if n < maxIndexed {
			b.rows[n] = anyPlace
		}
		return nil
	}
	if n < maxIndexed && item.Row.Peer != "" {
		b.rows[n] = rowDigest(item.Row.Peer, item.Row.Data)
	}
	if op.GetTime() < b.time || b.state != nil && op.GetTime() > b.state.GetTime() {
		b.found(OutOfOrder, revision, 1, "its time goes back")
	}
	b.time = max(b.time, op.GetTime())
	if message != nil {
		b.compareDedup(revision, op, message)
		b.compareJournal(revision, message)
	}
	if source := sourceOf(b.name, op); source != "" && b.state != nil {
		if _, ok := b.sources[digestName(source)]; !ok {
			b.missingSource(source)
		}
	}
	if b.cached != nil {
		if held, ok := b.cached.rows[revision]; ok && held != rowDigest(item.Row.Peer, item.Row.Data) {
			b.found(CacheRow, revision, 1, "another than in the store")
		}
	}
	return b.openBody(ctx, op)
}

// takeAbove looks at a row above the head. One that is what it should be there
// was given to readers: then it is the state that is wrong.
func (b *box) takeAbove(item *persistence.Item) {
	if b.checkpoint.Less(item.Written) {
		return // it is ahead of its state
	}
	op, err := operation(b.name, item)
	if err != nil || item.Row.Revision != b.head+b.above+1 {
		b.found(ExtraRow, item.Row.Revision, 1, "above the head %d", b.head)
		return
	}
	b.above++
	b.newest = max(b.newest, op.GetTime())
}

// operation decodes a row and returns what is wrong with it.
func operation(name string, item *persistence.Item) (*record.Operation, error) {
	op := new(record.Operation)
	if item.Err != nil {
		return op, item.Err
	}
	if err := proto.Unmarshal(item.Row.Data, op); err != nil {
		return op, err
	}
	return op, checkOperation(name, item.Row.Peer, item.Row.Revision, op)
}

func (b *box) missingSource(source string) {
	if b.sources == nil {
		b.sources = map[uint64]persistence.Position{}
	}
	b.sources[digestName(source)] = persistence.Position{} // said once
	b.found(MissingSource, 0, 1, "%s", source)
}

// missing notes that the rows from the one that is due up to another are not
// there.
func (b *box) missing(upTo int64) {
	b.found(MissingRow, b.next, upTo-b.next, "revisions %d to %d", b.next, upTo-1)
}

// rowDigest returns 32 bits of each: a place may have no data. It is never 0,
// nor anyPlace.
func rowDigest(peer string, data []byte) uint64 {
	return digestName(peer)<<32 | digest(data)&^3&(1<<32-1) | 2
}

// anyPlace stands for a row that does not tell where its place is.
const anyPlace = 1

// messageOf returns the message of an operation, nil for none.
func messageOf(op *record.Operation) *record.Message {
	if message := op.GetReceiveMessage(); message != nil {
		return message
	}
	return op.GetSendMessage()
}

// sourceOf returns the mailbox of which an operation comes by a follow-up; empty
// for one that comes by a command.
func sourceOf(name string, op *record.Operation) string {
	switch message := op.GetReceiveMessage(); {
	case op.GetChat() != "" && op.GetChat() != name:
		return op.GetChat()
	case message.GetHops() > 0: // a behaviour's
		return message.GetFrom()
	default:
		return op.GetSendMessage().GetTo()
	}
}

// checkOperation returns what an operation says that cannot be.
func checkOperation(name, rowPeer string, revision int64, op *record.Operation) error {
	message, peer := messageOf(op), mailbox.PeerOf(name, op)
	received := name
	if op.GetChat() != "" {
		received = op.GetChat()
	}
	switch {
	case op.GetRevision() != revision:
		return fmt.Errorf("it says revision %d", op.GetRevision())
	case op.GetKind() == nil:
		return fmt.Errorf("an operation of no kind")
	case peer != rowPeer:
		return fmt.Errorf("it lies in the conversation with %q, and is of that with %q", rowPeer, peer)
	case message == nil:
		return nil
	case len(message.GetMessageId()) != persistence.MessageIDSize:
		return fmt.Errorf("a message id of %d bytes", len(message.GetMessageId()))
	case op.GetReceiveMessage() != nil && message.GetTo() != received, op.GetSendMessage() != nil && message.GetFrom() != name:
		return fmt.Errorf("it is from %q to %q", message.GetFrom(), message.GetTo())
	default:
		return nil
	}
}

// compareDedup holds a message that came by a Send against the dedup entries.
func (b *box) compareDedup(revision int64, op *record.Operation, message *record.Message) {
	if op.GetReceiveMessage() == nil || sourceOf(b.name, op) != "" || op.GetTime() < b.kept || b.state == nil {
		return
	}
	from, found := slices.BinarySearchFunc(b.answers, revision, func(a answered, revision int64) int { return cmp.Compare(a.revision, revision) })
	if !found {
		b.found(MissingDedup, revision, 1, "of the message with this revision")
		return
	}
	for _, a := range b.answers[from:] {
		if a.revision != revision {
			break
		}
		if a.message == digest(message.GetMessageId()) {
			return
		}
	}
	b.found(DifferentDedup, revision, 1, "another message than the row with this revision")
}

// compareJournal holds an operation against the records: those of a mailbox's
// operations come in the order of its revisions. A row that none of them made
// is wrong when rows on both sides of it were made by records, with no new
// generation between: a journal that went back has lost records there.
func (b *box) compareJournal(revision int64, message *record.Message) {
	if len(b.records) == 0 {
		return
	}
	var before, behind *logged
	all := find(b.records, digest(message.GetMessageId()))
	for i := range all {
		if b.matched.Less(all[i].position) {
			behind = &all[i]
			break
		}
		before = &all[i]
	}
	switch {
	case behind == nil && before != nil:
		b.foundInJournal(OutOfOrder, revision, 1, "its record lies before that of the row before it")
		return
	case behind == nil:
		if !b.matched.IsZero() {
			b.unknown = append(b.unknown, revision)
		}
		return
	}
	if behind.body != digest(message.GetSealedBody()) {
		b.foundInJournal(DifferentRow, revision, 1, "another body than in the journal")
	}
	b.strangers(behind.position)
	b.matched = behind.position
}

// strangers notes the rows between two that the journal has.
func (b *box) strangers(upTo persistence.Position) {
	if b.matched.Generation == upTo.Generation {
		for _, revision := range b.unknown {
			b.foundInJournal(DifferentRow, revision, 1, "no record of the journal made it")
		}
	}
	b.unknown = b.unknown[:0]
}
