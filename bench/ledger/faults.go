package ledger

import (
	"fmt"
	"time"
)

// Faults counts what a run must not have.
type Faults struct {
	// Lost counts acknowledged messages that were not in the recipient's
	// mailbox when it was read to its end, or not in the sender's own.
	Lost int `json:"lost"`
	// Duplicated counts messages that were in a mailbox again.
	Duplicated int `json:"duplicated"`
	// Reordered counts operations that stand behind one of the same
	// conversation that was sent after their answer.
	Reordered int `json:"reordered"`
	// Gaps counts operations whose revision is not the last one plus one.
	Gaps int `json:"gaps"`
	// Foreign counts operations that are not what anybody sent, or in a
	// mailbox where they do not belong.
	Foreign int `json:"foreign"`
}

// Any reports whether there is any fault.
func (f Faults) Any() bool { return f != Faults{} }

func (f Faults) String() string {
	return fmt.Sprintf("%d lost, %d duplicated, %d reordered, %d gaps, %d foreign",
		f.Lost, f.Duplicated, f.Reordered, f.Gaps, f.Foreign)
}

// Faults closes the books: it is called once every mailbox was read to its
// end. The evidence describes the first few faults.
func (l *Ledger) Faults() (found Faults, evidence []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found = l.mu.faults
	for i := range l.mu.messages {
		m := &l.mu.messages[i]
		if m.acked == 0 {
			continue
		}
		if m.received == 0 {
			found.Lost++
			l.note("lost: %s is not in the mailbox of %s, which was read to revision %d", l.describe(i), l.names[m.to], l.mu.mailboxes[m.to].revision)
		}
		if m.copied == 0 && m.from != m.to {
			found.Lost++
			l.note("lost: %s is not in the mailbox of %s, which was read to revision %d", l.describe(i), l.names[m.from], l.mu.mailboxes[m.from].revision)
		}
	}
	for user := range l.mu.mailboxes {
		found.Reordered += l.reordered(int32(user))
	}
	return found, l.mu.evidence
}

// evidenceLimit is how many faults are described.
const evidenceLimit = 20

// note describes a fault, if it is one of the first. It is called with the
// lock held.
func (l *Ledger) note(format string, arguments ...any) {
	if len(l.mu.evidence) < evidenceLimit {
		l.mu.evidence = append(l.mu.evidence, fmt.Sprintf(format, arguments...))
	}
}

// describe tells what is known of a message. It is called with the lock held.
func (l *Ledger) describe(number int) string {
	m := &l.mu.messages[number]
	return fmt.Sprintf("%s from %s to %s (sent at %v, acknowledged at %v, delivered at %v)",
		l.ID(number), l.names[m.from], l.names[m.to],
		m.started.Round(time.Microsecond), m.acked.Round(time.Microsecond), m.arrived.Round(time.Microsecond))
}

// reordered counts a mailbox's operations that stand behind one which was
// started after they were acknowledged, conversation by conversation.
func (l *Ledger) reordered(user int32) int {
	count := 0
	latest := map[int32]*message{} // by peer: the message started last so far
	for _, number := range l.mu.mailboxes[user].numbers {
		m := &l.mu.messages[number]
		peer := m.from
		if peer == user {
			peer = m.to
		}
		before := latest[peer]
		if before != nil && m.acked != 0 && m.acked < before.started {
			count++
			l.note("reordered: %s stands behind one sent at %v in the mailbox of %s",
				l.describe(int(number)), before.started.Round(time.Microsecond), l.names[user])
		}
		if before == nil || before.started < m.started {
			latest[peer] = m
		}
	}
	return count
}
