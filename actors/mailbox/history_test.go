package mailbox

import (
	"maps"
	"slices"
	"testing"

	"github.com/tegami-im/tegami/persistence"
)

// history is what a store holds of one mailbox after each of the writes to it.
type history []persistence.MailboxWrite

// keep adds the write of a record, if it has one.
func (h *history) keep(out Outcome) {
	if out.Write.State != nil {
		*h = append(*h, out.Write)
	}
}

// upTo returns what the store held when a position was the newest that it
// could have.
func (h history) upTo(p persistence.Position) history {
	n := len(h)
	for n > 0 && p.Less(h[n-1].Position) {
		n--
	}
	return h[:n]
}

// load returns the mailbox as it is loaded with at most maxDedup entries.
func (h history) load(t testing.TB, user string, maxDedup int) *State {
	t.Helper()
	if len(h) == 0 {
		return New(user)
	}
	newest := h[len(h)-1]
	loaded := &persistence.Mailbox{Position: newest.Position, State: newest.State, DedupComplete: true}
	sources := map[string]persistence.Position{}
	for _, w := range h {
		loaded.Dedup = append(loaded.Dedup, w.Dedup...)
		for _, source := range w.Sources {
			sources[source.Mailbox] = source.Position
		}
	}
	parts := map[string][]byte{}
	for _, w := range h {
		for _, part := range w.Parts {
			if parts[part.Key] = part.Data; len(part.Data) == 0 {
				delete(parts, part.Key)
			}
		}
	}
	for key, data := range parts {
		loaded.Parts = append(loaded.Parts, persistence.Part{Key: key, Data: data})
	}
	if len(loaded.Dedup) > maxDedup {
		loaded.Dedup, loaded.DedupComplete = nil, false
	}
	slices.Reverse(loaded.Dedup) // the order means nothing
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		loaded.Sources = append(loaded.Sources, persistence.Source{Mailbox: name, Position: sources[name]})
	}
	s, err := Decode(user, loaded)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lookUp does for an input what the actor around a State does: it finds the
// entry in the store if the State asks for it.
func (h history) lookUp(s *State, in Input) Input {
	notBefore, needed := s.LookUp(in.Record, in.Time)
	if !needed {
		return in
	}
	for _, w := range h {
		for _, e := range w.Dedup {
			if e.Key == dedupKey(in.Record.DedupKey) && e.Time >= notBefore {
				in.Dedup = &e
				return in
			}
		}
	}
	return in
}
