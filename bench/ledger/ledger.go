// Package ledger keeps the books of a load run: which message was sent when,
// acknowledged when, and read where. At the end it tells how fast that was,
// and whether anything was lost, doubled or out of order.
//
// It holds some 80 bytes for a message and nothing of its text: a message's
// text follows from its number, so what arrives is compared with what must
// have been sent.
package ledger

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Ledger keeps the books of one run. Its methods are safe for concurrent use.
// Users are numbered from 0; times are of the monotonic clock.
type Ledger struct {
	run   string
	size  int
	names []string
	began time.Time

	mu struct {
		sync.Mutex
		messages  []message
		mailboxes []mailbox
		faults    Faults
		evidence  []string // of the first faults
		acked     int      // messages
		delivered int      // acknowledged or not, first deliveries only
		missing   int      // acknowledged, and not delivered yet
	}
}

// message is one send. Times count from Ledger.began; 0 is never.
type message struct {
	from, to                          int32
	intended, started, acked, arrived time.Duration
	received, copied                  uint8
}

// mailbox is what one user has read.
type mailbox struct {
	revision int64
	numbers  []int32 // the messages, in order of revisions
}

// New opens the books of a run between users. run marks its messages: it must
// differ from that of any earlier run with the same users. size is the length
// of a text in bytes; a text is never shorter than what identifies it, some 40
// bytes.
func New(run string, users []string, size int) *Ledger {
	l := &Ledger{run: run, size: size, names: users, began: time.Now()}
	l.mu.mailboxes = make([]mailbox, len(users))
	return l
}

// Send notes a message that is about to be sent and returns its number.
// intended is when the schedule wanted it sent: latencies count from there.
func (l *Ledger) Send(from, to int, intended time.Time) int {
	started := time.Since(l.began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.messages = append(l.mu.messages, message{
		from: int32(from), to: int32(to),
		intended: intended.Sub(l.began), started: started,
	})
	return len(l.mu.messages) - 1
}

// ID is the client message id of a message.
func (l *Ledger) ID(number int) string { return l.run + "-" + strconv.Itoa(number) }

// Text is the text of a message: its id, its sender, when it was sent, and
// filler.
func (l *Ledger) Text(number int) string {
	l.mu.Lock()
	m := l.mu.messages[number]
	l.mu.Unlock()
	return l.text(number, m)
}

func (l *Ledger) text(number int, m message) string {
	var b strings.Builder
	b.Grow(l.size)
	fmt.Fprintf(&b, "%s-%d from %s at %d ", l.run, number, l.names[m.from], m.started.Microseconds())
	for b.Len() < l.size {
		b.WriteByte('a' + byte((number+b.Len())%26))
	}
	return b.String()
}

// Ack notes that a message was acknowledged.
func (l *Ledger) Ack(number int) {
	at := time.Since(l.began)
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.mu.messages[number]
	m.acked = at
	l.mu.acked++
	if m.received == 0 {
		l.mu.missing++
	}
}

// Operation is one entry of a mailbox, as it was read.
type Operation struct {
	Revision           int64
	Sent               bool // the sender's own copy
	From, To, ID, Text string
}

// Read notes an operation that a user's device was handed.
func (l *Ledger) Read(user int, op Operation) {
	at := time.Since(l.began)
	l.mu.Lock()
	defer l.mu.Unlock()
	box := &l.mu.mailboxes[user]
	if op.Revision != box.revision+1 {
		l.mu.faults.Gaps++
		l.note("gap: revision %d behind %d in the mailbox of %s", op.Revision, box.revision, l.names[user])
	}
	box.revision = op.Revision

	number, ok := l.number(op.ID)
	if !ok {
		l.foreign(user, op)
		return
	}
	m := &l.mu.messages[number]
	owner, seen := m.to, &m.received
	if op.Sent {
		owner, seen = m.from, &m.copied
	}
	if int(owner) != user || op.Sent && m.from == m.to ||
		op.From != l.names[m.from] || op.To != l.names[m.to] || op.Text != l.text(number, *m) {
		l.foreign(user, op)
		return
	}
	box.numbers = append(box.numbers, int32(number))
	if *seen++; *seen > 1 {
		*seen = 2
		l.mu.faults.Duplicated++
		l.note("duplicated: %s is in the mailbox of %s again, at revision %d", l.describe(number), l.names[user], op.Revision)
		return
	}
	if !op.Sent {
		m.arrived = at
		l.mu.delivered++
		if m.acked != 0 {
			l.mu.missing--
		}
	}
}

// foreign notes an operation that nobody caused. It is called with the lock
// held.
func (l *Ledger) foreign(user int, op Operation) {
	l.mu.faults.Foreign++
	l.note("foreign: revision %d in the mailbox of %s holds %q from %q to %q: %.100q", op.Revision, l.names[user], op.ID, op.From, op.To, op.Text)
}

func (l *Ledger) number(id string) (int, bool) {
	digits, ok := strings.CutPrefix(id, l.run+"-")
	if !ok {
		return 0, false
	}
	number, err := strconv.Atoi(digits)
	return number, err == nil && number >= 0 && number < len(l.mu.messages)
}

// Missing is how many messages are acknowledged and not delivered yet.
func (l *Ledger) Missing() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.missing
}

// Counts returns how many messages were acknowledged and delivered so far.
func (l *Ledger) Counts() (acked, delivered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.acked, l.mu.delivered
}
