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
