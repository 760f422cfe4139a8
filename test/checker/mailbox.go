package checker

import "hash/maphash"

// Kind is what an operation is to its mailbox.
type Kind uint8

// The kinds.
const (
	// Received: a message for the owner of the mailbox.
	Received Kind = iota + 1
	// Sent: the copy of a message that the owner sent.
	Sent
	// Other: no message. Message.Body is what it says, in any form, as long as it
	// is the same everywhere; whether it ought to be there is not judged.
	Other
)

// Operation is one operation as a device was handed it.
type Operation struct {
	Revision int64
	Kind     Kind
	// Time is that of the operation, Message.Created that of the message, both
	// in any unit, as long as it is the same everywhere.
	Time      int64
	MessageID string
	Created   int64
	Message   Message
}

// mailbox is what all devices of a user saw together.
type mailbox struct {
	user string
	// rows by revision less 1; a row without a command was not seen.
	rows []row
}

// row is one operation of a mailbox.
type row struct {
	kind    Kind
	command *command
	// variant is nil when nobody sent such a body.
	variant       *variant
	body          uint64
	id            string
	created, time int64
}

// Device is one device of a user and the place up to which it has read. It
// belongs to one goroutine.
type Device struct {
	history    *History
	user, name string
	mailbox    *mailbox
	cursor     int64
}

// Device adds a device that starts to read after a revision.
func (h *History) Device(user, name string, after int64) *Device {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &Device{history: h, user: user, name: name, cursor: after, mailbox: h.mailboxOf(user)}
	h.mu.devices = append(h.mu.devices, d)
	return d
}

// mailboxOf returns a user's mailbox. h.mu is held.
func (h *History) mailboxOf(user string) *mailbox {
	m := h.mu.mailboxes[user]
	if m == nil {
		m = &mailbox{user: user}
		h.mu.mailboxes[user] = m
	}
	return m
}

// Cursor is the revision of the last operation that the device saw.
func (d *Device) Cursor() int64 { return d.cursor }

// Rewind has the device read again from after a revision.
func (d *Device) Rewind(after int64) { d.cursor = after }

// farAhead bounds what a nonsensical revision can make the checker allocate.
const farAhead = 1 << 20

// Saw reports the next operation that the device was handed.
func (d *Device) Saw(op Operation) {
	h := d.history
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.clock++
	breaches := &h.mu.breaches
	switch {
	case op.Revision <= d.cursor:
		breaches.add(Backwards, "%s/%s was handed revision %d after %d", d.user, d.name, op.Revision, d.cursor)
	case op.Revision > d.cursor+1:
		breaches.add(Gap, "%s/%s was handed revision %d after %d", d.user, d.name, op.Revision, d.cursor)
	}
	m := d.mailbox
	if op.Revision < 1 || op.Revision > int64(len(m.rows))+farAhead {
		return
	}
	d.cursor = op.Revision

	for int64(len(m.rows)) < op.Revision {
		m.rows = append(m.rows, row{})
	}
	seen := h.rowOf(op)
	known := &m.rows[op.Revision-1]
	if known.command != nil {
		if *known != seen {
			breaches.add(Changed, "%s revision %d was %v (%s), now %v (%s)",
				d.user, op.Revision, known.command.key, known.id, seen.command.key, seen.id)
		}
		return
	}
	*known = seen
	h.enter(m, op, seen)
}

// other stands for the commands of operations that carry no message.
var other = new(command)

// rowOf finds the command that an operation carries. h.mu is held.
func (h *History) rowOf(op Operation) row {
	if op.Kind == Other {
		return row{kind: Other, command: other, body: maphash.String(h.seed, op.Message.Body), time: op.Time}
	}
	k := key{op.Message.From, op.Message.To, op.Message.ClientID}
	c := h.mu.commands[k]
	if c == nil {
		c = &command{key: k} // Nobody sent it.
		h.mu.commands[k] = c
	}
	body := maphash.String(h.seed, op.Message.Body)
	return row{
		kind: op.Kind, command: c, variant: c.variant(body), body: body,
		id: op.MessageID, created: op.Created, time: op.Time,
	}
}

// enter counts a row that no device had seen before. h.mu is held.
func (h *History) enter(m *mailbox, op Operation, r row) {
	switch {
	case op.Kind == Other:
		return
	case r.variant == nil:
		h.mu.breaches.add(Alien, "%s revision %d: nobody sent %v with this body", m.user, op.Revision, r.command.key)
	case op.Kind == Received && op.Message.To != m.user,
		op.Kind == Sent && (op.Message.From != m.user || op.Message.To == m.user),
		op.Kind != Received && op.Kind != Sent:
		h.mu.breaches.add(Alien, "%s revision %d: %v does not belong there", m.user, op.Revision, r.command.key)
	}
	if r.variant != nil {
		h.identify(r.command, r.variant, "the mailbox of "+m.user, r.id, r.created)
	}
	if op.Kind == Received {
		r.command.received++
	} else {
		r.command.sent++
	}
}
