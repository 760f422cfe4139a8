package writebehind

import (
	"testing"

	"github.com/tegami-im/tegami/persistence"
)

// What is dropped is forgotten by mailbox: a write that goes further stays whole,
// since the store needs what it builds on.
func TestPendingDropsWhatLiesBelow(t *testing.T) {
	at := func(offset int64) persistence.Position { return persistence.Position{Generation: 1, Offset: offset} }
	var p pending
	for offset, mailbox := range []string{"alice", "bob", "bob", "alice", "carol"} {
		p.put(persistence.MailboxWrite{
			Mailbox: mailbox, Position: at(int64(offset)), Rows: []persistence.Row{{Revision: int64(offset)}},
		})
	}
	p.drop(at(2))
	if p.records != 3 || p.mailboxes["bob"] != nil {
		t.Errorf("%d records wait, for Bob %+v", p.records, p.mailboxes["bob"])
	}
	if alice := p.mailboxes["alice"]; alice == nil || len(alice.Rows) != 2 || alice.Position != at(3) {
		t.Errorf("for Alice %+v waits", alice)
	}
	p.drop(at(4))
	if writes, taken, highest := p.take(); len(writes) != 0 || taken != (load{}) || !highest.IsZero() {
		t.Errorf("%+v waits in %v, up to %v, though all was dropped", taken, writes, highest)
	}
}

// What waits is counted by what would be written: of a part, what it was last.
func TestPendingCountsParts(t *testing.T) {
	var p pending
	for offset, data := range []string{"first", "another", "", "x"} {
		at := persistence.Position{Generation: 1, Offset: int64(offset)}
		p.put(persistence.MailboxWrite{
			Mailbox: "alice", Position: at, State: []byte("state"),
			Parts: []persistence.Part{{Key: "changed", Position: at, Data: []byte(data)}, {Key: data, Position: at, Data: []byte("other")}},
		})
		if want := len("state") + len(data) + (offset+1)*len("other"); p.bytes != want || p.mailboxes["alice"].bytes != want {
			t.Errorf("after %d writes %d bytes wait, of Alice %d; want %d", offset+1, p.bytes, p.mailboxes["alice"].bytes, want)
		}
	}
	if parts := p.mailboxes["alice"].Parts; len(parts) != 5 || string(parts[0].Data) != "x" || parts[0].Position.Offset != 3 {
		t.Errorf("parts %v wait", parts)
	}
	if p.drop(persistence.Position{Generation: 1, Offset: 3}); p.bytes != 0 {
		t.Errorf("%d bytes wait, though all was dropped", p.bytes)
	}
}
