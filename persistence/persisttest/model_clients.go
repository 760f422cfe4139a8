package persisttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

var background = context.Background()

// clients are all clients of a run.
type clients struct {
	messages []*message
	retries  int
	minted   int
}

// message is what a client wants delivered. It is sent again, with another
// record and message id each time, until it is answered, and now and then
// after that; in rare cases with another body, which a client must not do.
type message struct {
	from, to, id string
	made         int // when it was first sent, in steps
	// answers by the body that was sent.
	answers map[string]mailbox.Answer
	// accepted is when it was first answered with accepting; never below 0.
	accepted int
	as       mailbox.Answer
}

// call is one attempt of a client that waits for an answer.
type call struct {
	message *message
	body    string
}

// modelRecord is a record on its way to a journal, with whoever waits for it.
type modelRecord struct {
	*record.Record
	call *call
}

const (
	body  = "body"
	never = -1
)

// pairs write to each other; so that order matters, the same ones often.
var pairs = [...][2]string{
	{"ann", "ben"}, {"ben", "ann"}, {"ann", "ben"}, {"ben", "ann"}, {"cat", "dan"}, {"ann", "dan"}, {"ann", "cat"}, {"ben", "ben"},
}

// send has a client send something new.
func (w *world) send(o *owner) {
	if len(w.messages) == modelSends {
		return
	}
	pair := pairs[w.rng.IntN(len(pairs))]
	m := &message{
		from: pair[0], to: pair[1], id: fmt.Sprint("m", len(w.messages)),
		made: w.clock, accepted: never, answers: map[string]mailbox.Answer{},
	}
	w.messages = append(w.messages, m)
	w.attemptOrDie(o, m, body)
}

// sendAgain has a client send something again, in rare cases with another body.
func (w *world) sendAgain(o *owner) {
	if len(w.messages) == 0 || w.retries == modelRetries {
		return
	}
	w.retries++
	m := w.messages[w.rng.IntN(len(w.messages))]
	if w.chance(100) {
		w.attemptOrDie(o, m, "another "+body)
	} else {
		w.attemptOrDie(o, m, body)
	}
}

// attemptOrDie sends a message to an owner that may be killed before it
// appends anything.
func (w *world) attemptOrDie(o *owner, m *message, body string) {
	if !w.chance(50) {
		w.attempt(o, m, body)
	}
}

// attempt sends a message to an owner of the recipient's mailbox.
func (w *world) attempt(o *owner, m *message, body string) {
	w.minted++
	r := command(m.to, fmt.Sprint("send/", w.minted), m.from+"/"+m.id, body)
	r.Kind = &record.Record_Send{Send: &record.Send{
		MessageId:       digest(persistence.MessageIDSize, "message", w.minted),
		From:            m.from,
		ClientMessageId: m.id,
		SealedBody:      []byte("for " + m.to + ": " + body),
		SealedCopy:      []byte("for " + m.from + ": " + body),
	}}
	o.append(modelShardOf(m.to), []modelRecord{{r, &call{message: m, body: body}}})
}

func newAccount(user string) modelRecord {
	r := command(user, "account/"+user, "account/"+user, "")
	r.Kind = &record.Record_CreateAccount{CreateAccount: &record.CreateAccount{DisplayName: user}}
	return modelRecord{Record: r}
}

func command(to, id, key, body string) *record.Record {
	return &record.Record{
		Id:       digest(16, id),
		Mailbox:  to,
		MintTime: time.Now().UnixMilli(),
		DedupKey: digest(persistence.DedupKeySize, "key", key),
		BodyHash: digest(persistence.BodyHashSize, "body", body),
	}
}

func digest(n int, parts ...any) []byte {
	sum := sha256.Sum256([]byte(fmt.Sprintln(parts...)))
	return sum[:n:n]
}

// answered takes an owner's answer to a call. However often a client asks, it
// gets the same one.
func (w *world) answered(c *call, a mailbox.Answer) {
	if a.Reason == refusal.OutcomeUnknown {
		return // it may be sent again
	}
	m := c.message
	if first, again := m.answers[c.body]; again {
		w.tally.AnsweredAgain++
		if first != a {
			w.violate("a retry of %s from %s got another answer: %+v, at first %+v", m.id, m.from, a, first)
		}
		return
	}
	w.tally.Answered++
	m.answers[c.body] = a
	if a.Reason != refusal.None {
		return
	}
	if m.accepted != never {
		w.violate("%s from %s was accepted with two bodies", m.id, m.from)
	}
	m.accepted, m.as = w.clock, a
}

// forgetUnsynced has the clients forget the answers that a power cut, with
// durability os, has undone, and the order of what was sent before and after.
func (w *world) forgetUnsynced() {
	w.shown = map[revision]string{}
	survivors := w.replay()
	for user, s := range survivors {
		for _, op := range s.operations {
			w.shown[revision{user, op.Revision}] = identity(op)
		}
	}
	for _, m := range w.messages {
		m.made = w.clock
		for body, a := range m.answers {
			survives := slices.ContainsFunc(survivors[m.to].operations, func(op *record.Operation) bool {
				return bytes.Equal(op.GetReceiveMessage().GetMessageId(), a.MessageID[:])
			})
			if a.Reason == refusal.None && survives {
				m.accepted = modelSteps // in an order that nobody was promised
				continue
			}
			delete(m.answers, body)
			if a.Reason == refusal.None {
				m.accepted, m.as = never, mailbox.Answer{}
			}
		}
	}
}

func decodeRecord(data []byte) (*record.Record, error) {
	r := new(record.Record)
	return r, proto.Unmarshal(data, r)
}
