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
	p.bytes += bytes
	waiting, ok := p.mailboxes[next.Mailbox]
	if !ok {
		if p.mailboxes == nil {
			p.mailboxes = make(map[string]*folded)
		}
		// Both lanes are handed the same slices: neither may append in place.
		next.Rows, next.Dedup = slices.Clip(next.Rows), slices.Clip(next.Dedup)
		next.Sources = slices.Clone(next.Sources)
		p.mailboxes[next.Mailbox] = &folded{MailboxWrite: next, records: 1, bytes: bytes}
		return
	}
	p.bytes -= len(waiting.State)
	waiting.bytes += bytes - len(waiting.State)
	waiting.records++
	waiting.Position = next.Position
	waiting.State = next.State
	waiting.First = max(waiting.First, next.First)
	waiting.Rows = append(waiting.Rows, next.Rows...)
	waiting.Dedup = append(waiting.Dedup, next.Dedup...)
	for _, source := range next.Sources {
		waiting.Sources = putSource(waiting.Sources, source)
	}
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
