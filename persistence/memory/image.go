package memory

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// image is the content of a store, by shard. Byte slices in it are never
// changed, so that images share them.
type image map[uint32]*shardImage

type shardImage struct {
	marks     persistence.Marks
	mailboxes map[string]*mailbox
}

type mailbox struct {
	position persistence.Position
	state    []byte
	first    int64
	rows     []persistence.Row // by revision
	dedup    []persistence.DedupEntry
	sources  map[string]persistence.Position
	parts    map[string][]byte
}

func (im image) shard(shard uint32) *shardImage {
	s := im[shard]
	if s == nil {
		s = &shardImage{mailboxes: map[string]*mailbox{}}
		im[shard] = s
	}
	return s
}

func (im image) clone() image {
	clone := make(image, len(im))
	for shard, s := range im {
		mailboxes := make(map[string]*mailbox, len(s.mailboxes))
		for name, m := range s.mailboxes {
			mailboxes[name] = m.clone()
		}
		clone[shard] = &shardImage{marks: s.marks, mailboxes: mailboxes}
	}
	return clone
}

func (im image) apply(shard uint32, batch persistence.Batch) {
	s := im.shard(shard)
	s.marks.Highest = later(s.marks.Highest, batch.Highest)
	s.marks.Checkpoint = later(s.marks.Checkpoint, batch.Checkpoint)
	for _, write := range batch.Mailboxes {
		m := s.mailboxes[write.Mailbox]
		if m == nil {
			m = newMailbox()
			s.mailboxes[write.Mailbox] = m
		}
		m.apply(write)
	}
}

func newMailbox() *mailbox {
	return &mailbox{sources: map[string]persistence.Position{}, parts: map[string][]byte{}}
}

// clone shares byte slices.
func (m *mailbox) clone() *mailbox {
	c := *m
	c.rows = slices.Clone(m.rows)
	c.dedup = slices.Clone(m.dedup)
	c.sources = maps.Clone(m.sources)
	c.parts = maps.Clone(m.parts)
	return &c
}

func later(p, q persistence.Position) persistence.Position {
	if p.Less(q) {
		return q
	}
	return p
}

func (m *mailbox) apply(write persistence.MailboxWrite) {
	if !m.position.Less(write.Position) {
		return
	}
	write.Parts = slices.DeleteFunc(slices.Clone(write.Parts), func(part persistence.Part) bool {
		return !m.position.Less(part.Position)
	})
	m.set(write)
}

// set takes a write whatever its position and that of its parts.
func (m *mailbox) set(write persistence.MailboxWrite) {
	m.position = write.Position
	m.state = write.State
	m.first = max(m.first, write.First)
	for _, row := range write.Rows {
		if i := m.search(row.Revision); i < len(m.rows) && m.rows[i].Revision == row.Revision {
			m.rows[i] = row
		} else {
			m.rows = slices.Insert(m.rows, i, row)
		}
	}
	m.rows = slices.Delete(m.rows, 0, m.search(m.first))
	for _, entry := range write.Dedup {
		m.dedup = slices.DeleteFunc(m.dedup, func(e persistence.DedupEntry) bool {
			return e.Key == entry.Key && day(e) == day(entry)
		})
		m.dedup = append(m.dedup, entry)
	}
	for _, source := range write.Sources {
		m.sources[source.Mailbox] = later(m.sources[source.Mailbox], source.Position)
	}
	for _, part := range write.Parts {
		if len(part.Data) > 0 {
			m.parts[part.Key] = part.Data
		} else {
			delete(m.parts, part.Key)
		}
	}
}

// search returns the index of the first row at or above a revision.
func (m *mailbox) search(revision int64) int {
	i, _ := slices.BinarySearchFunc(m.rows, revision, func(row persistence.Row, revision int64) int {
		return cmp.Compare(row.Revision, revision)
	})
	return i
}

func (m *mailbox) load(maxDedup int) *persistence.Mailbox {
	loaded := &persistence.Mailbox{
		Position:      m.position,
		State:         bytes.Clone(m.state),
		DedupComplete: true,
	}
	for name, position := range m.sources {
		loaded.Sources = append(loaded.Sources, persistence.Source{Mailbox: name, Position: position})
	}
	for key, data := range m.parts {
		loaded.Parts = append(loaded.Parts, persistence.Part{Key: key, Data: bytes.Clone(data)})
	}
	var newest int64
	for _, entry := range m.dedup {
		newest = max(newest, day(entry))
	}
	for _, entry := range m.dedup {
		if day(entry) >= newest-1 && !m.position.Less(entry.Position) {
			loaded.Dedup = append(loaded.Dedup, entry)
		}
	}
	if len(loaded.Dedup) > maxDedup {
		loaded.Dedup, loaded.DedupComplete = nil, false
	}
	return loaded
}

func (m *mailbox) lookUp(key [persistence.DedupKeySize]byte, notBefore int64) (oldest persistence.DedupEntry, found bool) {
	lastDay := day(persistence.DedupEntry{Time: notBefore}) + 1
	for _, entry := range m.dedup {
		if entry.Key == key && entry.Time >= notBefore && day(entry) <= lastDay && (!found || entry.Time < oldest.Time) {
			oldest, found = entry, true
		}
	}
	return oldest, found
}

// day is the day of log time that an entry lies in. Loads look at two of them,
// so that every entry of the last 24 hours is found.
func day(entry persistence.DedupEntry) int64 {
	return entry.Time / (24 * time.Hour).Milliseconds()
}

// page collects copies of rows up to its limits.
type page struct {
	limit, maxBytes int
	rows            []persistence.Row
	size            int
}

// add takes a row, or returns false because the page is full.
func (p *page) add(row persistence.Row) bool {
	p.size += len(row.Data)
	if len(p.rows) >= p.limit || len(p.rows) > 0 && p.size > p.maxBytes {
		return false
	}
	row.Data = bytes.Clone(row.Data)
	p.rows = append(p.rows, row)
	return true
}

func cloneBatch(batch persistence.Batch) persistence.Batch {
	batch.Mailboxes = slices.Clone(batch.Mailboxes)
	for i := range batch.Mailboxes {
		write := &batch.Mailboxes[i]
		write.State = bytes.Clone(write.State)
		write.Dedup = slices.Clone(write.Dedup)
		write.Sources = slices.Clone(write.Sources)
		write.Parts = slices.Clone(write.Parts)
		for j := range write.Parts {
			write.Parts[j].Data = bytes.Clone(write.Parts[j].Data)
		}
		write.Rows = slices.Clone(write.Rows)
		for j := range write.Rows {
			write.Rows[j].Data = bytes.Clone(write.Rows[j].Data)
		}
	}
	return batch
}
