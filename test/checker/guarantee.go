package checker

import "math"

// Guarantee is one promise of the server, checked over a whole history.
type Guarantee struct {
	Name string
	// Valid and Invalid describe histories that keep and break it.
	Valid, Invalid string
	check          func(*History)
}

// Guarantees are all that Check checks. What breaks them on sight, a gap or a
// changed answer, was noted when it was reported; the functions here judge
// what only the end of a run can tell.
var Guarantees = []Guarantee{
	{
		Name:    "delivered once",
		Valid:   "acknowledged, in both mailboxes once; unknown, in both or in neither",
		Invalid: "acknowledged and missing; in one mailbox twice; unknown and only the sender has it",
		check:   (*History).checkDelivery,
	},
	{
		Name:    "dense revisions",
		Valid:   "1 2 3; 1 2, then again from 0: 1 2 3 with the same content",
		Invalid: "1 3; 1 2 2; 2 with another message than before; log time that goes back",
		check:   (*History).checkRows,
	},
	{
		Name:    "all devices alike",
		Valid:   "the phone read up to 7, the tablet up to 7",
		Invalid: "the phone read up to 7, the tablet stopped at 5",
		check:   (*History).checkDevices,
	},
	{
		Name:    "conversation order",
		Valid:   "a was answered before b was sent: a b; a and b overlapped: b a",
		Invalid: "a was answered before b was sent: b a",
		check:   (*History).checkOrder,
	},
	{
		Name:    "refused stays refused",
		Valid:   "refused, in no mailbox",
		Invalid: "refused, or turned away each time, and somebody received it",
		check:   (*History).checkRefused,
	},
}

// Check judges the history. It may be called again when more has happened.
func (h *History) Check() *Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	noted := h.mu.breaches.clone()
	for _, g := range Guarantees {
		g.check(h)
	}
	report := h.report()
	h.mu.breaches = noted
	return report
}

func (h *History) checkDelivery() {
	for _, c := range h.mu.commands {
		want := 0
		if c.answered() != nil {
			want = 1
		}
		one := h.inOnePlace(c.key)
		h.expect(c, "recipient", c.received, want)
		if !one {
			h.expect(c, "sender", c.sent, want)
		}
		if want == 0 && !one && c.received <= 1 && c.sent <= 1 && c.received != c.sent {
			h.mu.breaches.add(Half, "%v, of unknown outcome: recipient has %d, sender has %d", c.key, c.received, c.sent)
		}
	}
}

func (h *History) expect(c *command, side string, got, want int) {
	switch {
	case got > 1:
		h.mu.breaches.add(Duplicated, "%v: %s has it %d times", c.key, side, got)
	case got < want:
		h.mu.breaches.add(Lost, "%v: acknowledged, %s does not have it", c.key, side)
	}
}

func (h *History) checkRows() {
	for user, m := range h.mu.mailboxes {
		last := int64(math.MinInt64)
		for i, r := range m.rows {
			if r.command == nil {
				continue // No device saw it: the gap was noted.
			}
			if r.time < last {
				h.mu.breaches.add(Backwards, "%s revision %d: log time %d after %d", user, i+1, r.time, last)
			}
			last = r.time
		}
	}
}

func (h *History) checkDevices() {
	for _, d := range h.mu.devices {
		if missing := int64(len(d.mailbox.rows)) - d.cursor; missing > 0 {
			h.mu.breaches.add(Lost, "%s/%s stopped at revision %d, %d before the newest", d.user, d.name, d.cursor, missing)
		}
	}
}

// checkOrder walks each mailbox from its end and remembers, for each
// conversation, the earliest answer of what lies behind. A row that was sent
// only after that answer is on the wrong side of it.
func (h *History) checkOrder() {
	for user, m := range h.mu.mailboxes {
		earliest := map[string]*row{}
		for i := len(m.rows) - 1; i >= 0; i-- {
			r := &m.rows[i]
			if r.variant == nil {
				continue
			}
			peer := r.command.key.from
			if peer == user || h.mu.chats[user] {
				peer = r.command.key.to
			}
			behind := earliest[peer]
			if behind != nil && behind.variant.answered < r.variant.invoked {
				h.mu.breaches.add(Reordered, "%s revision %d: %v was sent after %v was answered, and stands before it",
					user, i+1, r.command.key, behind.command.key)
			}
			if behind == nil || r.variant.answered < behind.variant.answered {
				earliest[peer] = r
			}
		}
	}
}

func (h *History) checkRefused() {
	for user, m := range h.mu.mailboxes {
		for i, r := range m.rows {
			if r.variant != nil && (r.variant.refused || r.variant.open == 0) {
				h.mu.breaches.add(Appeared, "%s revision %d: %v was refused", user, i+1, r.command.key)
			}
		}
	}
}
