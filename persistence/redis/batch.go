package redis

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/tegami-im/tegami/persistence"
)

// request collects keys and arguments of a script.
type request struct {
	keys      []string
	arguments []any
	bytes     int
}

func (r *request) add(arguments ...string) {
	for _, argument := range arguments {
		r.arguments = append(r.arguments, argument)
		r.bytes += len(argument)
	}
}

func (r *request) addBytes(argument []byte) {
	r.arguments = append(r.arguments, argument)
	r.bytes += len(argument)
}

func (r *request) addMark(mark persistence.CacheMark) {
	r.add(mark.Fill, positionString(mark.Watermark), mark.Write)
}

func (c *Cache) expiry() string { return strconv.FormatInt(c.options.Expiry.Milliseconds(), 10) }

// writeRequest prepares write.lua.
func (c *Cache) writeRequest(shard uint32, from, to persistence.CacheMark, mailboxes []persistence.MailboxWrite) (*request, error) {
	if err := (&persistence.Batch{Mailboxes: mailboxes}).Check(); err != nil {
		return nil, err
	}
	if len(mailboxes) > MaxBatchMailboxes {
		return nil, fmt.Errorf("a batch has %d mailboxes, more than %d", len(mailboxes), MaxBatchMailboxes)
	}
	r := &request{keys: []string{c.markKey(shard)}}
	r.addMark(from)
	r.add(positionString(to.Watermark), to.Write, c.expiry(),
		strconv.Itoa(c.options.MaxRows), strconv.Itoa(c.options.MaxDedup))
	for i := range mailboxes {
		m := &mailboxes[i]
		keys := c.mailboxKeys(shard, from.Fill, m.Mailbox)
		r.keys = append(r.keys, keys.copy, keys.dedup, keys.rows)
		r.addCopy(m)
		r.addRows(m)
	}
	if r.bytes > MaxBatchBytes {
		return nil, fmt.Errorf("a batch has %d bytes, more than %d", r.bytes, MaxBatchBytes)
	}
	return r, nil
}

// addCopy adds what write_copy of write.lua takes.
func (r *request) addCopy(m *persistence.MailboxWrite) {
	r.add(positionString(m.Position))
	r.addBytes(m.State)
	entries := dedupUpTo(m.Dedup, m.Position)
	newest := newestTime(entries)
	r.add(timeString(windowStart(newest)), timeString(newest), strconv.Itoa(len(entries)))
	if len(entries) > 0 {
		r.add(blockID(entries[len(entries)-1].Position))
	}
	for i := range entries {
		r.add(positionString(entries[i].Position))
		r.addBytes(appendDedup(nil, &entries[i]))
	}
	sources := newestSources(m.Sources)
	r.add(strconv.Itoa(len(sources)))
	r.addSources(sources)
	r.add(strconv.Itoa(len(m.Parts)))
	for i := range m.Parts {
		part := &m.Parts[i]
		r.add(partField+part.Key, positionString(part.Position))
		r.addBytes(part.Data)
	}
}

func (r *request) addSources(sources []persistence.Source) {
	for _, source := range sources {
		r.add(sourceField+source.Mailbox, positionString(source.Position))
	}
}

// newestSources returns each source once.
func newestSources(sources []persistence.Source) []persistence.Source {
	newest := slices.Clone(sources)
	slices.SortStableFunc(newest, func(a, b persistence.Source) int {
		return cmp.Or(cmp.Compare(a.Mailbox, b.Mailbox), cmp.Compare(b.Position.Generation, a.Position.Generation), cmp.Compare(b.Position.Offset, a.Position.Offset))
	})
	return slices.CompactFunc(newest, func(a, b persistence.Source) bool { return a.Mailbox == b.Mailbox })
}

// addRows adds what write_rows of write.lua takes.
func (r *request) addRows(m *persistence.MailboxWrite) {
	first := max(1, m.First)
	if first > 1 {
		r.add(strconv.FormatInt(first, 10), strconv.FormatInt(first-1, 10))
	} else {
		r.add("", "")
	}
	rows := newestRun(m.Rows, first)
	r.add(strconv.Itoa(len(rows)))
	if len(rows) > 0 {
		r.add(strconv.FormatInt(rows[0].Revision-1, 10))
	}
	for i := range rows {
		r.add(strconv.FormatInt(rows[i].Revision, 10))
		r.addBytes(rowContent(&rows[i]))
	}
}

// newestRun returns the rows from a revision on, in order, and of those only the
// newest that have no gap.
func newestRun(rows []persistence.Row, from int64) []persistence.Row {
	sorted := make([]persistence.Row, 0, len(rows))
	for _, row := range rows {
		if row.Revision >= from {
			sorted = append(sorted, row)
		}
	}
	byRevision := func(a, b persistence.Row) int { return cmp.Compare(a.Revision, b.Revision) }
	slices.SortStableFunc(sorted, byRevision)
	sorted = slices.CompactFunc(sorted, func(a, b persistence.Row) bool { return a.Revision == b.Revision })
	for i := len(sorted) - 1; i > 0; i-- {
		if sorted[i-1].Revision != sorted[i].Revision-1 {
			return sorted[i:]
		}
	}
	return sorted
}

// blockEntries is about how many dedup entries of a mailbox that is handed over
// share a block, and grow old together.
const blockEntries = 32

// fillRequest prepares fill.lua; nil when the mailbox is not one to be kept.
func (c *Cache) fillRequest(shard uint32, from persistence.CacheMark, mailbox string, m *persistence.Mailbox) *request {
	keys := c.mailboxKeys(shard, from.Fill, mailbox)
	r := &request{keys: []string{c.markKey(shard), keys.copy, keys.dedup}}
	r.addMark(from)
	r.add(c.expiry())
	if m == nil {
		r.add("0", "0", positionField, positionString(persistence.Position{}))
		return r
	}
	entries := dedupUpTo(m.Dedup, m.Position)
	if !m.DedupComplete || len(entries) > c.options.MaxDedup {
		return nil
	}
	blocks := dedupBlocks(entries)
	r.add(strconv.Itoa(len(entries)), strconv.Itoa(len(blocks)))
	for _, block := range blocks {
		content := []byte(timeString(newestTime(block)))
		for i := range block {
			content = appendDedup(content, &block[i])
		}
		r.add(blockID(block[len(block)-1].Position))
		r.addBytes(content)
	}
	r.add(positionField, positionString(m.Position), stateField)
	r.addBytes(m.State)
	r.addSources(newestSources(m.Sources))
	for i := range m.Parts {
		r.add(partField + m.Parts[i].Key)
		r.addBytes(m.Parts[i].Data)
	}
	return r
}

// dedupBlocks cuts entries, which are in order, into blocks. Those of one
// position stay together, so that no two blocks have the same id.
func dedupBlocks(entries []persistence.DedupEntry) (blocks [][]persistence.DedupEntry) {
	for len(entries) > 0 {
		n := min(blockEntries, len(entries))
		for n < len(entries) && entries[n].Position == entries[n-1].Position {
			n++
		}
		blocks = append(blocks, entries[:n])
		entries = entries[n:]
	}
	return blocks
}
