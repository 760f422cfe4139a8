package writebehind

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

func TestLagIsOfWhatWaitsAndWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pending
		var inFlight load
		var lag LaneLag
		want := func(want Behind) {
			t.Helper()
			lag.set(p.load, inFlight)
			if got := lag.At(time.Now()); got != want {
				t.Errorf("the lag is %+v, want %+v", got, want)
			}
		}
		put := func(mailbox, state string, rows ...string) {
			write := persistence.MailboxWrite{Mailbox: mailbox, State: []byte(state)}
			for _, row := range rows {
				write.Rows = append(write.Rows, persistence.Row{Data: []byte(row)})
			}
			p.put(write)
		}
		want(Behind{})
		put("alice", "1234", "row")
		<-time.After(time.Second)
		put("alice", "12345", "row", "row") // in place of the state before
		put("bob", "1")
		want(Behind{Records: 3, Bytes: 5 + 9 + 1, Age: time.Second})
		_, inFlight, _ = p.take()
		want(Behind{Records: 3, Bytes: 15, Age: time.Second})
		<-time.After(time.Second)
		put("bob", "12")
		<-time.After(time.Second)
		want(Behind{Records: 4, Bytes: 17, Age: 3 * time.Second})
		inFlight = load{} // written
		want(Behind{Records: 1, Bytes: 2, Age: time.Second})
		p.clear()
		want(Behind{})
	})
}

// A checkpoint that is written alone has no age: what was put behind it has.
func TestLagIsOfWhatWaitsBehindACheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lane := storeLane{writer: &writer{Options: Options{Lag: new(Lag)}}}
		lane.batch.Checkpoint = at(1)
		put := time.Now()
		lane.pending.put(persistence.MailboxWrite{Mailbox: "alice", Position: at(2)})
		if got := lane.oldest(); !lane.holds() || got != put {
			t.Errorf("the oldest was put at %v, want %v", got, put)
		}
		lane.batch.Mailboxes, lane.taken, _ = lane.pending.take()
		<-time.After(time.Second)
		lane.pending.put(persistence.MailboxWrite{Mailbox: "bob", Position: at(3)})
		if got := lane.oldest(); got != put {
			t.Errorf("the oldest was put at %v, want %v", got, put)
		}
	})
}
