package correction

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// entry is a record of a mailbox.
type entry struct {
	position persistence.Position
	time     int64
	record   *record.Record
}

// readRecords reads the records of a mailbox that the journal still has, those
// not above a position.
func readRecords(ctx context.Context, journal persistence.Journal, shard uint32, name string, through persistence.Position) (records []entry, err error) {
	bounds, err := journal.Bounds(ctx, shard)
	if err != nil {
		return nil, err
	}
	for offset := bounds.First; offset < bounds.Next; {
		entries, err := journal.Read(ctx, shard, offset, readBytes)
		if errors.Is(err, persistence.ErrTruncated) {
			return readRecords(ctx, journal, shard, name, through)
		}
		if err != nil || len(entries) == 0 {
			return records, err
		}
		for i := range entries {
			e := &entries[i]
			if through.Less(e.Position) {
				return records, nil
			}
			r, err := mailbox.DecodeRecord(e.Data)
			if err != nil {
				return nil, fmt.Errorf("record at offset %d: %w", e.Position.Offset, errors.Join(persistence.ErrDamaged, err))
			}
			if r.GetMailbox() == name {
				records = append(records, entry{e.Position, e.Time, r})
			}
			offset = e.Position.Offset + 1
		}
	}
	return records, nil
}

// derived is what records of the journal make of a mailbox.
type derived struct {
	// whole: nothing stored was built on.
	whole    bool
	state    []byte
	position persistence.Position
	first    int64
	rows     map[int64]persistence.Row // those wanted, and those above the stored head
	dedup    []persistence.DedupEntry
	sources  []persistence.Source
	parts    []persistence.Part
}

// derive applies records again: to the stored state those above it, or, where
// the journal reaches back to the account's making, all. It returns nil where
// neither is possible.
func (m *mender) derive(ctx context.Context) (*derived, error) {
	state, records := mailbox.New(m.name), m.entries
	made, err := m.madeHere(ctx)
	switch {
	case err != nil:
		return nil, err
	case made && (m.state == nil || m.headTooHigh() || m.has(MissingRow, DifferentRow, OutOfOrder, SealedBody, DamagedState, StateAhead, StateBehind, MissingDedup, DifferentDedup, MissingSource, SourceBehind, CacheState)):
	case m.state == nil || m.has(DamagedState):
		return nil, nil
	default:
		loaded, err := m.Store.Load(ctx, m.shard, m.name, mailbox.MaxDedupInMemory)
		if err != nil {
			return nil, ignoreDamage(err)
		}
		if state, err = mailbox.Decode(m.name, loaded); err != nil {
			return nil, nil //nolint:nilerr // it is found to be damaged
		}
		applied, err := m.appliedTo(ctx, loaded.Position)
		if err != nil {
			return nil, err
		}
		records = slices.DeleteFunc(slices.Clone(records), func(e entry) bool { return !applied.Less(e.position) })
	}
	wanted := m.revisions(MissingRow, DifferentRow, OutOfOrder, SealedBody)
	d := &derived{rows: map[int64]persistence.Row{}, whole: !state.Exists()}
	for _, e := range records {
		in := mailbox.Input{Position: e.position, Time: e.time, Record: e.record}
		if notBefore, needed := state.LookUp(e.record, e.time); needed {
			entry, found, err := m.Store.Dedup(ctx, m.shard, m.name, [persistence.DedupKeySize]byte(e.record.GetDedupKey()), notBefore)
			if err != nil {
				return nil, err
			}
			if found {
				in.Dedup = &entry
			}
		}
		d.take(state.Apply(in), wanted, m.head)
	}
	return d, nil
}

// appliedTo returns up to which position records were applied to a state that says
// that it is at one: a record whose message is in a row up to the head was.
func (m *mender) appliedTo(ctx context.Context, position persistence.Position) (persistence.Position, error) {
	held, err := m.heldMessages(ctx, nil)
	if err != nil {
		return position, err
	}
	for _, e := range m.entries {
		id, _ := messageIDOf(e.record)
		if revision, ok := held[string(id)]; ok && revision <= m.head && position.Less(e.position) {
			position = e.position
		}
	}
	return position, nil
}

func (d *derived) take(out mailbox.Outcome, wanted map[int64]bool, head int64) {
	if out.Write.State == nil {
		return
	}
	d.state, d.position, d.first = out.Write.State, out.Write.Position, max(d.first, out.Write.First)
	for _, row := range out.Write.Rows {
		if wanted[row.Revision] || row.Revision > head {
			d.rows[row.Revision] = row
		}
	}
	d.dedup = append(d.dedup, out.Write.Dedup...)
	for _, part := range out.Write.Parts {
		d.parts = append(slices.DeleteFunc(d.parts, func(p persistence.Part) bool { return p.Key == part.Key }), part)
	}
	for _, source := range out.Write.Sources {
		i := slices.IndexFunc(d.sources, func(s persistence.Source) bool { return s.Mailbox == source.Mailbox })
		if i < 0 {
			d.sources = append(d.sources, source)
		} else {
			d.sources[i] = source
		}
	}
}

// madeHere reports whether the account was made by a record that the journal
// still has, and not before: the journal was never truncated, or the store
// remembers that it was not refused.
func (m *mender) madeHere(ctx context.Context) (bool, error) {
	i := slices.IndexFunc(m.entries, func(e entry) bool { return makes(e.record) })
	if i < 0 {
		return false, nil
	}
	bounds, err := m.Journal.Bounds(ctx, m.shard)
	if err != nil || bounds.First == 0 {
		return err == nil && m.entries[i].position.Generation == 1, err
	}
	made := m.entries[i]
	remembered, found, err := m.Store.Dedup(ctx, m.shard, m.name, [persistence.DedupKeySize]byte(made.record.GetDedupKey()), made.time-mailbox.DedupWindow.Milliseconds())
	return err == nil && found && remembered.Position == made.position && refusal.Reason(remembered.Reason) == refusal.None, ignoreDamage(err)
}

// makes reports whether a record makes its mailbox.
func makes(r *record.Record) bool {
	creates, _ := mailbox.Creates(r)
	return creates
}

func ignoreDamage(err error) error {
	if isDamage(err) {
		return nil
	}
	return err
}

// raiseHead makes the state know the rows above its head. All records up to
// through were applied.
func (m *mender) raiseHead() {
	state, ok := proto.Clone(m.state).(*record.State)
	if !ok {
		return
	}
	state.Head = m.head + m.above
	state.Time = max(state.Time, m.newest)
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(state)
	if err != nil {
		return
	}
	m.repair.State, m.repair.Position, m.repair.First = encoded, m.position, m.low
	if newest := m.newestRecord(); m.position.Less(newest) {
		m.repair.Position = newest
	}
}

// setPosition has the state be of the newest record of the mailbox; where the
// journal has let go of that, of the last one that it let go of. All records up to
// through were applied: by a lower position they would be again, by a higher one
// what comes next would not.
func (m *mender) setPosition(ctx context.Context) error {
	at := m.newestRecord()
	if at.IsZero() {
		bounds, err := m.Journal.Bounds(ctx, m.shard)
		if err != nil {
			return err
		}
		at = persistence.Position{Generation: bounds.Generation, Offset: max(0, bounds.First-1)}
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.state)
	if err != nil {
		return err
	}
	m.repair.State, m.repair.Position, m.repair.First = encoded, at, m.oldest
	return nil
}

// rowsBetween makes rows of a gap from the records between its neighbours',
// where these are as many as the gap is wide: then each has its revision.
func (m *mender) rowsBetween(ctx context.Context, wanted map[int64]bool) error {
	if len(wanted) == 0 || len(m.entries) == 0 {
		return nil
	}
	held, err := m.heldMessages(ctx, wanted)
	if err != nil {
		return err
	}
	var pending []entry
	var unsure bool // whether records made rows between
	last, lastTime := int64(0), int64(0)
	var rows []persistence.Row
	settle := func(upTo int64) {
		if last > 0 && !unsure && upTo-last-1 == int64(len(pending)) {
			for i, e := range pending {
				revision := last + 1 + int64(i)
				if row, ok := operationOf(m.name, e, revision, lastTime); ok && wanted[revision] {
					rows = append(rows, row)
					delete(wanted, revision)
				}
			}
		}
		pending, unsure = pending[:0], false
	}
	for _, e := range m.entries {
		message, source := messageIDOf(e.record)
		if message == nil {
			unsure = unsure || mayOperate(e.record)
			continue
		}
		if revision, ok := held[string(message)]; ok {
			if revision > last {
				settle(revision)
				last, lastTime = revision, e.time
			}
			continue
		}
		made, err := m.mayHaveMade(ctx, e, message, source)
		if err != nil {
			return err
		}
		if made {
			pending = append(pending, e)
		}
	}
	if m.state != nil {
		settle(m.head + 1)
	}
	err = m.countReceived(ctx, rows)
	m.repair.Rows = append(m.repair.Rows, rows...)
	return err
}

// countReceived makes messages, each made as if it were the first of its
// conversation, know how many of the peer's there were by then: as those before
// them say. rows are in order.
func (m *mender) countReceived(ctx context.Context, rows []persistence.Row) error {
	if len(rows) == 0 {
		return nil
	}
	received, next := map[string]int64{}, 0
	count := func(upTo int64) error {
		for ; next < len(rows) && rows[next].Revision <= upTo; next++ {
			row, op := &rows[next], new(record.Operation)
			if err := proto.Unmarshal(row.Data, op); err != nil {
				return err
			}
			if op.GetChat() != "" { // the chat has counted
				continue
			}
			message := messageOf(op)
			message.Received += received[row.Peer]
			received[row.Peer] = message.Received
			encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(op)
			if err != nil {
				return err
			}
			row.Data = encoded
		}
		return nil
	}
	err := m.Store.ScanMailbox(ctx, m.shard, m.name, func(item *persistence.Item) error {
		if item.Kind != persistence.ItemRow || item.Err != nil {
			return nil //nolint:nilerr // it is found as a different row
		}
		if err := count(item.Row.Revision - 1); err != nil {
			return err
		}
		op := new(record.Operation)
		if next < len(rows) && rows[next].Revision == item.Row.Revision || proto.Unmarshal(item.Row.Data, op) != nil {
			return nil //nolint:nilerr // it is found as a different row
		}
		if message := messageOf(op); message != nil {
			received[item.Row.Peer] = message.GetReceived()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return count(persistence.MaxRevision)
}

func messageIDOf(r *record.Record) (id []byte, source string) {
	message, _ := messageOfRecord(r)
	return message, mailbox.SourceOf(r).Mailbox
}

// mayOperate reports whether a record that is of no message may have made an
// operation.
func mayOperate(r *record.Record) bool {
	switch r.GetKind().(type) {
	case *record.Record_CreateAccount, *record.Record_SignIn, *record.Record_Refresh, *record.Record_SignOut, *record.Record_Trim:
		return false
	default:
		return true
	}
}

// mayHaveMade reports whether a record without a row may have made one: a Send
// did only if it is remembered with a revision.
func (m *mender) mayHaveMade(ctx context.Context, e entry, message []byte, source string) (bool, error) {
	if source != "" {
		return true, nil
	}
	key := e.record.GetDedupKey()
	if len(key) != persistence.DedupKeySize {
		return false, nil
	}
	remembered, found, err := m.Store.Dedup(ctx, m.shard, m.name, [persistence.DedupKeySize]byte(key), e.time-mailbox.DedupWindow.Milliseconds())
	if err != nil {
		return false, ignoreDamage(err)
	}
	return found && remembered.Revision > 0 && string(remembered.MessageID[:]) == string(message), nil
}

// heldMessages returns the revisions of the messages that the store has, but
// for those wanted.
func (m *mender) heldMessages(ctx context.Context, wanted map[int64]bool) (map[string]int64, error) {
	ids := make(map[string]bool, len(m.entries))
	for _, e := range m.entries {
		if id, _ := messageIDOf(e.record); id != nil {
			ids[string(id)] = true
		}
	}
	held := map[string]int64{}
	err := m.Store.ScanMailbox(ctx, m.shard, m.name, func(item *persistence.Item) error {
		if item.Kind != persistence.ItemRow || item.Err != nil || wanted[item.Row.Revision] {
			return nil //nolint:nilerr // it is found as a different row
		}
		op := new(record.Operation)
		if err := proto.Unmarshal(item.Row.Data, op); err != nil {
			return nil //nolint:nilerr // it is found as a different row
		}
		if message := messageOf(op); ids[string(message.GetMessageId())] {
			held[string(message.GetMessageId())] = item.Row.Revision
		}
		return nil
	})
	return held, err
}

// operationOf returns the row that a record makes as some revision, as apply
// makes it.
func operationOf(name string, e entry, revision, notBefore int64) (row persistence.Row, ok bool) {
	stored, err := proto.Marshal(&record.State{
		ApplyVersion: mailbox.ApplyVersion, Time: notBefore, Head: revision - 1, First: 1, Account: &record.Account{}, NextEpoch: 1,
	})
	if err != nil {
		return row, false
	}
	state, err := mailbox.Decode(name, &persistence.Mailbox{State: stored, DedupComplete: true})
	if err != nil {
		return row, false
	}
	out := state.Apply(mailbox.Input{Position: e.position, Time: e.time, Record: e.record})
	if len(out.Write.Rows) != 1 {
		return row, false
	}
	return out.Write.Rows[0], true
}

func decodes(name string, row *persistence.Row) bool {
	op := new(record.Operation)
	if proto.Unmarshal(row.Data, op) != nil {
		return false
	}
	return checkOperation(name, row.Peer, row.Revision, op) == nil
}

// mendDedup makes dedup entries anew: by what the journal derives, else from the
// messages themselves.
func (m *mender) mendDedup(ctx context.Context) error {
	wanted := m.revisions(MissingDedup, DifferentDedup)
	if !m.has(MissingDedup, DifferentDedup) || m.repair.State != nil {
		return nil
	}
	if m.derived != nil && m.derived.whole {
		m.repair.Dedup = m.derived.dedup
		return nil
	}
	if len(wanted) == 0 {
		m.left[DifferentDedup] = "it is of a command that made no row: it goes with its day"
		return nil
	}
	return m.dedupOfRows(ctx, wanted)
}

func (m *mender) dedupOfRows(ctx context.Context, wanted map[int64]bool) error {
	const why = "the mailbox's key is not to be had, or the message does not open"
	m.left[MissingDedup], m.left[DifferentDedup] = why, why
	if m.Keys == nil {
		return nil
	}
	key, err := m.Keys.Get(ctx, m.name)
	if errors.Is(err, persistence.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	rows, _, err := m.pick(ctx, wanted, nil)
	if err != nil {
		return err
	}
	for i := range rows {
		op := new(record.Operation)
		if err := proto.Unmarshal(rows[i].Data, op); err != nil {
			continue
		}
		if entry, ok := dedupOf(m.name, key, op, m.positionOf(op)); ok {
			m.repair.Dedup = append(m.repair.Dedup, entry)
		}
	}
	return nil
}

// positionOf returns the position of the record that made an operation, or, when
// the journal has let go of it, one that is as far back as any.
func (m *mender) positionOf(op *record.Operation) persistence.Position {
	i := slices.IndexFunc(m.entries, func(e entry) bool {
		return string(e.record.GetSend().GetMessageId()) == string(op.GetReceiveMessage().GetMessageId())
	})
	if i < 0 {
		return persistence.Position{Generation: 1}
	}
	return m.entries[i].position
}

// dedupOf returns the entry of a message that was received.
func dedupOf(name string, key persistence.Key, op *record.Operation, position persistence.Position) (e persistence.DedupEntry, ok bool) {
	message := op.GetReceiveMessage()
	body, err := sealing.NewOpener(key, name).Open(nil, message.GetMessageId(), message.GetSealedBody())
	if err != nil {
		return e, false
	}
	sealing.HashCommand(e.Key[:], key, message.GetFrom(), message.GetClientMessageId())
	sealing.HashBody(e.BodyHash[:], key, body)
	e.MessageID = [persistence.MessageIDSize]byte(message.GetMessageId())
	e.Time, e.Revision, e.Position = op.GetTime(), op.GetRevision(), position
	return e, true
}

// mendSources moves sources forward to what the journal's follow-ups say, or the
// cache's copy.
func (m *mender) mendSources(ctx context.Context) error {
	if !m.has(MissingSource, SourceBehind) || m.repair.State != nil {
		return nil
	}
	taken := map[string]persistence.Position{}
	for _, e := range m.entries {
		if source := mailbox.SourceOf(e.record); source.Mailbox != "" && taken[source.Mailbox].Less(source.Position) {
			taken[source.Mailbox] = source.Position
		}
	}
	if m.derived != nil && m.derived.whole {
		for _, source := range m.derived.sources {
			taken[source.Mailbox] = source.Position
		}
	}
	if m.copied != nil && m.copied.Position == m.position {
		for _, source := range m.copied.Sources {
			if taken[source.Mailbox].Less(source.Position) {
				taken[source.Mailbox] = source.Position
			}
		}
	}
	stored, err := m.Store.Load(ctx, m.shard, m.name, 0)
	if err != nil {
		return ignoreDamage(err)
	}
	for _, source := range stored.Sources {
		if !source.Position.Less(taken[source.Mailbox]) {
			delete(taken, source.Mailbox)
		}
	}
	for name, position := range taken {
		m.repair.Sources = append(m.repair.Sources, persistence.Source{Mailbox: name, Position: position})
	}
	slices.SortFunc(m.repair.Sources, func(a, b persistence.Source) int { return cmp.Compare(a.Mailbox, b.Mailbox) })
	m.left[MissingSource] = "neither what the journal still has nor the cache names it: a copy that was taken before would be taken again"
	m.left[SourceBehind] = m.left[MissingSource]
	return nil
}
