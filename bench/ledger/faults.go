package ledger

import "fmt"

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
// end.
func (l *Ledger) Faults() Faults {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.mu.faults
	for i := range l.mu.messages {
		m := &l.mu.messages[i]
		if m.acked == 0 {
			continue
		}
		if m.received == 0 {
			found.Lost++
		}
		if m.copied == 0 && m.from != m.to {
			found.Lost++
		}
	}
	for user := range l.mu.mailboxes {
		found.Reordered += l.reordered(int32(user))
	}
	return found
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
		}
		if before == nil || before.started < m.started {
			latest[peer] = m
		}
	}
	return count
}
