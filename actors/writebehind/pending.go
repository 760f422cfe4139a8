package writebehind

import (
	"slices"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// pending is what waits to be written, folded by mailbox.
type pending struct {
	load
	mailboxes map[string]*folded
}

type folded struct {
	persistence.MailboxWrite
	records, bytes int
}

// put folds a write into the one that waits for the same mailbox.
func (p *pending) put(next persistence.MailboxWrite) {
	if p.records == 0 {
		p.since = time.Now()
	}
	p.records++
	bytes := len(next.State)
	for i := range next.Rows {
		bytes += len(next.Rows[i].Data)
	}
	waiting, ok := p.mailboxes[next.Mailbox]
	if !ok {
		for i := range next.Parts {
			bytes += len(next.Parts[i].Data)
		}
		p.bytes += bytes
		if p.mailboxes == nil {
			p.mailboxes = make(map[string]*folded)
		}
		// Both lanes are handed the same slices: neither may append in place.
		next.Rows, next.Dedup = slices.Clip(next.Rows), slices.Clip(next.Dedup)
		next.Sources, next.Parts = slices.Clone(next.Sources), slices.Clone(next.Parts)
		p.mailboxes[next.Mailbox] = &folded{MailboxWrite: next, records: 1, bytes: bytes}
		return
	}
	bytes -= len(waiting.State)
	waiting.records++
	waiting.Position = next.Position
	waiting.State = next.State
	waiting.First = max(waiting.First, next.First)
	waiting.Rows = append(waiting.Rows, next.Rows...)
	waiting.Dedup = append(waiting.Dedup, next.Dedup...)
	for _, source := range next.Sources {
		waiting.Sources = putSource(waiting.Sources, source)
	}
	for _, part := range next.Parts {
		var more int
		waiting.Parts, more = putPart(waiting.Parts, part)
		bytes += more
	}
	waiting.bytes += bytes
	p.bytes += bytes
}

func putSource(sources []persistence.Source, source persistence.Source) []persistence.Source {
	for i := range sources {
		if sources[i].Mailbox == source.Mailbox {
			sources[i].Position = source.Position
			return sources
		}
	}
	return append(sources, source)
}

// putPart returns the parts with one changed, and how many bytes more they are.
func putPart(parts []persistence.Part, part persistence.Part) ([]persistence.Part, int) {
	for i := range parts {
		if parts[i].Key == part.Key {
			more := len(part.Data) - len(parts[i].Data)
			parts[i] = part
			return parts, more
		}
	}
	return append(parts, part), len(part.Data)
}

// take returns what waits, in any order, how much that is, and the highest
// position in it.
func (p *pending) take() (writes []persistence.MailboxWrite, taken load, highest persistence.Position) {
	writes = make([]persistence.MailboxWrite, 0, len(p.mailboxes))
	for _, write := range p.mailboxes {
		if highest.Less(write.Position) {
			highest = write.Position
		}
		writes = append(writes, write.MailboxWrite)
	}
	taken = p.load
	p.clear()
	return writes, taken, highest
}

// drop forgets what waits for the mailboxes that have nothing above a position.
func (p *pending) drop(through persistence.Position) {
	for name, write := range p.mailboxes {
		if !through.Less(write.Position) {
			p.records -= write.records
			p.bytes -= write.bytes
			delete(p.mailboxes, name)
		}
	}
	if p.records == 0 {
		p.load = load{}
	}
}

// clear forgets what waits.
func (p *pending) clear() {
	clear(p.mailboxes)
	p.load = load{}
}
