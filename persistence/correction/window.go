package correction

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

var seed = maphash.MakeSeed()

func digest(parts ...[]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, part := range parts {
		_, _ = h.Write(part)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func digestName(name string) uint64 { return maphash.String(seed, name) }

// logged is a record of the journal, in digests.
type logged struct {
	mailbox  uint64
	message  uint64 // 0: the record is of no message
	body     uint64
	position persistence.Position
	time     int64
	source   uint64 // of a follow-up: where it comes from
	taken    persistence.Position
}

// window is a piece of a shard's journal, at or below the checkpoint.
type window struct {
	records []logged // by mailbox, message and position
	// created are the mailboxes whose accounts were made in it.
	created map[string]struct{}
	// changed are the mailboxes that have records in it, if they are wanted.
	changed map[string]struct{}
	// begin and end are the positions of the first and the last record; zero in an
	// empty window.
	begin, end persistence.Position
	// next is the offset at which the next window begins; 0 when this is the
	// last.
	next int64
	// newest is the log time of the last record.
	newest int64
}

const readBytes = 1 << 20

// readWindow reads up to limit records from an offset, those not above the
// checkpoint. What is truncated meanwhile is left out.
// read, unless nil, is called for each record, to slow it down.
func readWindow(ctx context.Context, journal persistence.Journal, shard uint32, offset int64, checkpoint persistence.Position, since int64, limit int, read func(context.Context) error) (*window, error) {
	w := &window{created: map[string]struct{}{}}
	if since > 0 {
		w.changed = map[string]struct{}{}
	}
	for len(w.records) < limit {
		entries, err := journal.Read(ctx, shard, offset, readBytes)
		if errors.Is(err, persistence.ErrTruncated) {
			bounds, boundsErr := journal.Bounds(ctx, shard)
			if boundsErr != nil {
				return nil, boundsErr
			}
			if bounds.First <= offset {
				return nil, err
			}
			offset = bounds.First
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range entries {
			if checkpoint.Less(entries[i].Position) {
				w.sort()
				return w, nil
			}
			if read != nil {
				if err := read(ctx); err != nil {
					return nil, err
				}
			}
			if err := w.add(&entries[i], since); err != nil {
				return nil, err
			}
			offset = entries[i].Position.Offset + 1
		}
		if len(entries) == 0 {
			w.sort()
			return w, nil
		}
	}
	w.next = offset
	w.sort()
	return w, nil
}

func (w *window) add(entry *persistence.Entry, since int64) error {
	if w.begin.IsZero() {
		w.begin = entry.Position
	}
	w.end, w.newest = entry.Position, entry.Time
	if entry.Time < since {
		return nil
	}
	r := new(record.Record)
	if err := proto.Unmarshal(entry.Data, r); err != nil {
		return errors.Join(persistence.ErrDamaged, err)
	}
	if r.GetMailbox() == "" {
		return nil
	}
	l := logged{mailbox: digestName(r.GetMailbox()), position: entry.Position, time: entry.Time}
	if message, body := messageOfRecord(r); message != nil {
		l.message, l.body = digest(message), digest(body)
	}
	if makes(r) {
		w.created[r.GetMailbox()] = struct{}{}
	}
	if source := mailbox.SourceOf(r); source.Mailbox != "" {
		l.source, l.taken = digestName(source.Mailbox), source.Position
	}
	if w.changed != nil {
		w.changed[r.GetMailbox()] = struct{}{}
	}
	w.records = append(w.records, l)
	return nil
}

// messageOfRecord returns the id and the sealed body of the message that a record
// brings its mailbox; nil for none.
func messageOfRecord(r *record.Record) (id, body []byte) {
	switch kind := r.GetKind().(type) {
	case *record.Record_Send:
		return kind.Send.GetMessageId(), kind.Send.GetSealedBody()
	case *record.Record_SentCopy:
		return kind.SentCopy.GetMessageId(), kind.SentCopy.GetSealedBody()
	case *record.Record_StepMessage:
		return kind.StepMessage.GetMessageId(), kind.StepMessage.GetSealedBody()
	case *record.Record_ChatStep:
		m := kind.ChatStep.GetMessage()
		return m.GetMessageId(), m.GetSealedBody()
	case *record.Record_ChatSend:
		return kind.ChatSend.GetMessageId(), kind.ChatSend.GetSealedBody()
	case *record.Record_ChatCopy:
		m := kind.ChatCopy.GetOperation().GetReceiveMessage()
		return m.GetMessageId(), m.GetSealedBody()
	default:
		return nil, nil
	}
}

func (w *window) sort() {
	slices.SortFunc(w.records, func(a, b logged) int {
		return cmp.Or(cmp.Compare(a.mailbox, b.mailbox), cmp.Compare(a.message, b.message), comparePositions(a.position, b.position))
	})
}

func comparePositions(p, q persistence.Position) int {
	return cmp.Or(cmp.Compare(p.Generation, q.Generation), cmp.Compare(p.Offset, q.Offset))
}

// covers reports whether it has all records of the journal around a position, of
// the generation of the last one: those of older ones may be another journal's.
func (w *window) covers(p persistence.Position) bool {
	return w.changed == nil && p.Generation == w.end.Generation && !p.Less(w.begin) && !w.end.Less(p)
}

// of returns the records of a mailbox.
func (w *window) of(mailbox string) []logged {
	name := digestName(mailbox)
	from, _ := slices.BinarySearchFunc(w.records, name, func(l logged, name uint64) int { return cmp.Compare(l.mailbox, name) })
	n := 0
	for from+n < len(w.records) && w.records[from+n].mailbox == name {
		n++
	}
	return w.records[from : from+n]
}

// find returns the records of a message, of those of a mailbox, by position.
func find(records []logged, message uint64) []logged {
	from, found := slices.BinarySearchFunc(records, message, func(l logged, message uint64) int { return cmp.Compare(l.message, message) })
	if !found {
		return nil
	}
	n := 1
	for from+n < len(records) && records[from+n].message == message {
		n++
	}
	return records[from : from+n]
}
