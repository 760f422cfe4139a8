// Package event tells what a record meant to the rest of the world: it derives
// the domain events, api/proto/tegami/events/v1, from what a record came to.
package event

import (
	"github.com/google/uuid"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/persistence"
)

// Applied is a record that a mailbox applied.
type Applied struct {
	Shard    uint32
	Position persistence.Position
	Record   *record.Record
	Outcome  *mailbox.Outcome
	// Absent are the signed-in devices that held no poll then. What it shares
	// with the events must not change any more.
	Absent []string
}

// Of returns the events of a record, in order; mostly there is one, and none
// for what was refused, a duplicate or skipped. But for the absent devices they
// are the same in every replay and at every owner of the mailbox.
func Of(a Applied) []*eventsv1.Event {
	if mailbox.IsChat(a.Record.GetMailbox()) {
		return nil // its members have theirs
	}
	var events []*eventsv1.Event
	add := func(origin string) *eventsv1.Event {
		e := &eventsv1.Event{
			User:         a.Record.GetMailbox(),
			Shard:        a.Shard,
			Generation:   a.Position.Generation,
			Offset:       a.Position.Offset,
			Index:        uint32(len(events)),
			Time:         a.Outcome.Answer.Time,
			OriginDevice: origin,
		}
		events = append(events, e)
		return e
	}
	for _, operation := range a.Outcome.Operations {
		switch operation.GetKind().(type) {
		case *record.Operation_ReceiveMessage:
			received(add(operation.GetOriginDevice()), operation, a.Absent)
		case *record.Operation_SendMessage:
			sent(add(operation.GetOriginDevice()), operation)
		default: // no event tells of it
		}
	}
	// Sessions end by a sign-in, which is its device's doing, and by records
	// that do not tell whose doing they are.
	device := a.Record.GetSignIn().GetDeviceId()
	for _, session := range a.Outcome.Ended {
		add(device).Kind = &eventsv1.Event_SessionEnded{SessionEnded: &eventsv1.SessionEnded{
			Device: session.Device, Epoch: session.Epoch,
		}}
	}
	if !decided(a.Outcome) {
		return events
	}
	switch a.Record.GetKind().(type) {
	case *record.Record_CreateAccount:
		add("").Kind = &eventsv1.Event_AccountCreated{AccountCreated: &eventsv1.AccountCreated{}}
	case *record.Record_SignIn:
		session := a.Outcome.Answer.Session
		add(device).Kind = &eventsv1.Event_SessionStarted{SessionStarted: &eventsv1.SessionStarted{
			Device: session.Device, Epoch: session.Epoch,
		}}
	}
	return events
}

// decided reports whether a command was decided by this record and not
// refused: the answer of a duplicate was remembered before.
func decided(outcome *mailbox.Outcome) bool {
	return outcome.Answer.Reason == refusal.None && len(outcome.Write.Dedup) > 0
}

func received(e *eventsv1.Event, operation *record.Operation, absent []string) {
	m := operation.GetReceiveMessage()
	e.Kind = &eventsv1.Event_MessageReceived{MessageReceived: &eventsv1.MessageReceived{
		MessageId:       messageID(m),
		From:            m.GetFrom(),
		ClientMessageId: m.GetClientMessageId(),
		Revision:        operation.GetRevision(),
		BodyBytes:       int64(len(m.GetSealedBody())),
		AbsentDevices:   absent,
		Chat:            operation.GetChat(),
	}}
}

func sent(e *eventsv1.Event, operation *record.Operation) {
	m := operation.GetSendMessage()
	e.Kind = &eventsv1.Event_MessageSent{MessageSent: &eventsv1.MessageSent{
		MessageId:       messageID(m),
		To:              m.GetTo(),
		ClientMessageId: m.GetClientMessageId(),
		Revision:        operation.GetRevision(),
		BodyBytes:       int64(len(m.GetSealedBody())),
	}}
}

func messageID(m *record.Message) string {
	id, _ := uuid.FromBytes(m.GetMessageId()) // 16 bytes, as apply saw to
	return id.String()
}
