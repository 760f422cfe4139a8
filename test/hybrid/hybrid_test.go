// Package hybrid breaks the servers behind a hybrid store, one and all, under
// load from real clients, and has the checker look for what was lost.
package hybrid

import (
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/checker"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/workload"
)

func TestMain(m *testing.M) { process.Main(m) }

const (
	// wantAcked is what a run must have acknowledged to prove anything.
	wantAcked = 50_000
	// hangLimit is a limit against hanging: ten times what things take.
	hangLimit = 3 * time.Minute
	// afterwards is how much is acknowledged when a fault is mended, before it
	// counts as recovered from.
	afterwards = 300
)

// crowd is who is on the server. A mailbox that gets more than 4,096 messages in a
// day needs HBase for each further one: there are enough to share them.
var crowd = workload.Options{Users: 64, Devices: 2, Senders: 1, Mix: 10 * time.Second}

// row is a fault, and whether the server is killed while it lasts.
type row struct {
	fault

	killed bool
}

func (r row) String() string {
	if r.killed {
		return r.name + ", server killed meanwhile"
	}
	return r.name
}

// rows are all faults, once as they are and once with the server killed.
func rows(faults []fault) []row {
	var all []row
	for _, f := range faults {
		if !f.killOnly {
			all = append(all, row{f, false})
		}
		all = append(all, row{f, true})
	}
	return all
}

// TestFaults makes one fault after the other, each with traffic flowing before,
// while it lasts, and after it, and judges after each.
func TestFaults(t *testing.T) {
	s := start(t, crowd)
	made := 0
	all := rows(faults(short))
	for _, r := range all {
		if !t.Run(r.String(), func(t *testing.T) {
			s.suffer(t, r, short)
			made++
		}) {
			break // What comes after the first evidence only hides it.
		}
	}
	if t.Failed() {
		return
	}
	if made == len(all) { // and not some of them, by -run
		s.await("the rest", wantAcked-s.users.Acked())
	}
	s.users.Judge(complaints...)
	t.Logf("progress: %d faults", made)
}

// suffer makes a fault, lets it last, mends it, and prints what became of it.
func (s *system) suffer(t *testing.T, r row, last lengths) {
	defer s.of(t)()
	s.settle()
	s.await("before", last.between)
	before := s.users.Tally()
	r.make(s)
	began := time.Now()
	if r.killed {
		s.killAnyMoment()
		if r.opens {
			s.startAgain()
		}
	}
	s.meanwhile(r, before)
	<-time.After(time.Until(began.Add(r.lasts))) // what it tests is how long it lasts
	meanwhile, lasted := s.users.Tally().Since(before), time.Since(began)
	if r.undisturbed && !r.killed && meanwhile.Unknown+meanwhile.TurnedAway+meanwhile.Failed > 0 {
		t.Errorf("%d sends unknown, %d refused, %d polls failed; want all of them to go on", meanwhile.Unknown, meanwhile.TurnedAway, meanwhile.Failed)
	}
	r.heal(s)
	healed := time.Now()
	if r.killed && !r.opens {
		s.startAgain()
	}
	s.await("after", afterwards)
	recovery := time.Since(healed)
	all := s.users.Tally().Since(before)
	report := s.users.Pause(hangLimit)
	t.Logf("progress: %v: acknowledged %d (%d in the %.1f s that it lasted), unknown %d, refused %d, "+
		"lost %d, duplicated %d, reordered %d, gaps %d, %d of %d polls failed; the next %d acknowledged %.1f s after it was mended",
		r, all.Acked, meanwhile.Acked, lasted.Seconds(), all.Unknown, all.TurnedAway,
		report.Count(checker.Lost), report.Count(checker.Duplicated), report.Count(checker.Reordered), report.Count(checker.Gap),
		all.Failed, all.Failed+all.Answered, afterwards, recovery.Seconds())
	if !report.OK() {
		t.Errorf("guarantees were broken:\n%s", report.Explain())
	}
}

// meanwhile checks what holds while a fault lasts.
func (s *system) meanwhile(r row, before workload.Tally) {
	s.t.Helper()
	if r.killed && !r.opens {
		return
	}
	if r.goesOn > 0 {
		s.await("meanwhile", r.goesOn)
	}
	if r.drops {
		s.awaitThat("records are dropped from memory", func() bool { return s.server.Metric("tegami_records_dropped") > 0 })
	}
	if r.doubtful {
		s.awaitThat("outcomes are unknown", func() bool { return s.users.Tally().Unknown > before.Unknown })
	}
	if r.check != nil {
		r.check(s)
	}
}
