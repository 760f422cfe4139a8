package checker

import (
	"hash/maphash"
	"math"
	"sync"
)

// Message is what a client asked to be delivered. The body is compared as a
// whole; a caller with several kinds of bodies folds the kind into it.
type Message struct {
	From, To, ClientID string
	Body               string
}

// never is later than every event.
const never = math.MaxInt64

// History collects the events of one run.
type History struct {
	seed maphash.Seed

	mu struct {
		sync.Mutex
		// clock numbers the events.
		clock     int64
		inFlight  int
		commands  map[key]*command
		ids       map[string]*command
		mailboxes map[string]*mailbox
		chats     map[string]bool
		devices   []*Device
		breaches  breaches
	}
}

// New returns an empty history.
func New() *History {
	h := &History{seed: maphash.MakeSeed()}
	h.mu.commands = map[key]*command{}
	h.mu.ids = map[string]*command{}
	h.mu.mailboxes = map[string]*mailbox{}
	h.mu.chats = map[string]bool{}
	return h
}

// Chat says that a name is that of a chat. What is sent to it lies in one place,
// which devices read as a mailbox of that name, and has one order there, whoever
// sent it.
func (h *History) Chat(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.chats[name] = true
}

// inOnePlace reports whether a message lies in one mailbox alone: one to a chat,
// or to oneself. h.mu is held.
func (h *History) inOnePlace(k key) bool { return k.from == k.to || h.mu.chats[k.to] }

// key is what makes two sends the same command.
type key struct{ from, to, clientID string }

// command is everything that was sent under one key: one variant, unless a
// client used the id again with another body.
type command struct {
	key      key
	variants []*variant
	// received and sent count the rows of the two mailboxes that carry it.
	received, sent int
}

// variant is one body sent under a key.
type variant struct {
	body uint64
	// invoked is the first time that it was sent, answered the first time that
	// it was acknowledged.
	invoked, answered int64
	// id and created are as first seen, in an answer or in a mailbox.
	id      string
	created int64
	refused bool
	// open counts the attempts that may have done something.
	open int
}

func (c *command) variant(body uint64) *variant {
	for _, v := range c.variants {
		if v.body == body {
			return v
		}
	}
	return nil
}

// identify notes the id and time that a message has in an answer or in a
// mailbox: they are the same everywhere. h.mu is held.
func (h *History) identify(c *command, v *variant, where, id string, created int64) {
	if v.id == "" {
		v.id, v.created = id, created
	}
	if v.id != id || v.created != created {
		h.mu.breaches.add(Unstable, "%v in %s is %s of %d, before it was %s of %d", c.key, where, id, created, v.id, v.created)
	}
	if other := h.mu.ids[id]; other != nil && other != c {
		h.mu.breaches.add(Unstable, "%s names both %v and %v", id, c.key, other.key)
	}
	h.mu.ids[id] = c
}

// answered returns the variant that was acknowledged, or nil.
func (c *command) answered() *variant {
	for _, v := range c.variants {
		if v.answered != never {
			return v
		}
	}
	return nil
}

// Attempt is one request that is under way. Exactly one of its methods is
// called, once; an attempt that is left alone counts as unknown.
type Attempt struct {
	history *History
	command *command
	variant *variant
}

// Invoke reports that a send is about to be made.
func (h *History) Invoke(m Message) *Attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.clock++
	h.mu.inFlight++
	k := key{m.From, m.To, m.ClientID}
	c := h.mu.commands[k]
	if c == nil {
		c = &command{key: k}
		h.mu.commands[k] = c
	}
	body := maphash.String(h.seed, m.Body)
	v := c.variant(body)
	if v == nil {
		v = &variant{body: body, invoked: h.mu.clock, answered: never}
		c.variants = append(c.variants, v)
	}
	v.open++
	return &Attempt{history: h, command: c, variant: v}
}

// end closes an attempt and hands over its time.
func (a *Attempt) end(then func(now int64)) {
	h := a.history
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.clock++
	h.mu.inFlight--
	then(h.mu.clock)
}

// OK reports that the server acknowledged the send. It returns whether this is
// the first time that the message was acknowledged.
func (a *Attempt) OK(messageID string, createTime int64) (first bool) {
	a.end(func(now int64) {
		breaches := &a.history.mu.breaches
		before := a.command.answered()
		if before != nil && before != a.variant {
			breaches.add(Unstable, "%v acknowledged with two bodies", a.command.key)
		}
		if a.variant.refused {
			breaches.add(Unstable, "%v acknowledged after it was refused", a.command.key)
		}
		a.history.identify(a.command, a.variant, "an answer", messageID, createTime)
		a.variant.answered = min(a.variant.answered, now)
		first = before == nil
	})
	return first
}

// Refused reports that the server decided against the send for good.
func (a *Attempt) Refused() {
	a.end(func(int64) {
		if a.variant.answered != never {
			a.history.mu.breaches.add(Unstable, "%v refused after it was acknowledged", a.command.key)
		}
		a.variant.refused = true
		a.variant.open--
	})
}

// NotTaken reports that this attempt surely did nothing. Others of the same
// message decide what became of it.
func (a *Attempt) NotTaken() { a.end(func(int64) { a.variant.open-- }) }

// Unknown reports that nothing is known of the attempt.
func (a *Attempt) Unknown() { a.end(func(int64) {}) }

// InFlight returns how many attempts are under way.
func (h *History) InFlight() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.inFlight
}

// Broken reports whether a guarantee was broken on sight: by an operation or an
// answer that no end of the run can make right.
func (h *History) Broken() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.breaches.count != [numBreaches]int{}
}

// Unsettled returns how many messages lie in one of their two mailboxes and
// not yet in the other, or are acknowledged and not yet seen in both. A run
// waits for none before it reads for the last time, with a deadline: what then
// is unsettled, the check finds.
func (h *History) Unsettled() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	unsettled := 0
	for _, c := range h.mu.commands {
		switch {
		case h.inOnePlace(c.key):
			if c.answered() != nil && c.received == 0 {
				unsettled++
			}
		case c.received != c.sent, c.answered() != nil && c.received == 0:
			unsettled++
		}
	}
	return unsettled
}

// LoseAll says that everything so far may be lost, as after a power cut
// without fsync. What was acknowledged becomes unknown, mailboxes are forgotten
// and devices start again at 0; what happens from here on is judged as ever.
func (h *History) LoseAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.mu.commands {
		c.received, c.sent = 0, 0
		for _, v := range c.variants {
			v.answered, v.id, v.created, v.refused = never, "", 0, false
		}
	}
	h.mu.ids = map[string]*command{}
	h.mu.mailboxes = map[string]*mailbox{}
	for _, d := range h.mu.devices {
		d.cursor, d.mailbox = 0, h.mailboxOf(d.user)
	}
}
