package server

import (
	"math/rand/v2"
	"time"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/limit"
)

// Class is what a request is, when there are more than can be served: the first
// are refused first.
type Class uint8

// The classes, and what is refused before it is a request.
const (
	// Receipts are marks and reactions: the next one makes up for them.
	Receipts Class = iota
	// History is what somebody looks at who looks back or around.
	History
	// CatchUp is a FetchOps that is not held: of one who was away.
	CatchUp
	// Polls are FetchOps that are held, and what it takes to come that far.
	Polls
	// Sends are messages, and changes of them.
	Sends
	// Connections are those above the bound, Handshakes those of TLS.
	Connections
	Handshakes
)

func (c Class) String() string {
	return [...]string{"receipts", "history", "catch_up", "polls", "sends", "connections", "handshakes"}[c]
}

// shares says up to which part of the room each class is let in.
var shares = []float64{Receipts: 0.5, History: 0.625, CatchUp: 0.75, Polls: 0.875, Sends: 1}

// classes has the class of each method that Connect's handlers serve, but for the
// two that enter by themselves, and operators' methods, which are not refused. All
// others are History.
var classes = map[string]Class{
	tegamiv1connect.TalkServiceMarkReadProcedure:           Receipts,
	tegamiv1connect.TalkServiceReactToMessageProcedure:     Receipts,
	tegamiv1connect.TalkServiceUpdateConversationProcedure: Receipts,
	tegamiv1connect.AuthServiceLoginProcedure:              Polls,
	tegamiv1connect.AuthServiceRefreshProcedure:            Polls,
	tegamiv1connect.GatewayServiceListGatewaysProcedure:    Polls,
	tegamiv1connect.TalkServiceForwardMessageProcedure:     Sends,
	tegamiv1connect.TalkServiceEditMessageProcedure:        Sends,
	tegamiv1connect.TalkServiceUnsendMessageProcedure:      Sends,
}

// classOf returns the class of a method that Connect's handlers serve; ok is false
// for one that is not refused here.
func classOf(procedure string) (class Class, ok bool) {
	switch {
	case procedure == tegamiv1connect.TalkServiceSendMessageProcedure,
		procedure == tegamiv1connect.TalkServiceFetchOpsProcedure,
		rules[procedure] == operator:
		return 0, false
	}
	class, known := classes[procedure]
	if !known {
		class = History
	}
	return class, true
}

// shedSpread spreads those who were refused.
const shedSpread = 3 * time.Second

// enter lets a request in, or refuses it because there are too many. leave must
// follow where it does not fail.
func (s *Server) enter(class Class) error {
	if s.inFlight.Enter(int(class)) {
		return nil
	}
	return s.shed(class)
}

func (s *Server) leave() { s.inFlight.Leave() }

// shed counts one that is refused, and returns what it is told.
func (s *Server) shed(class Class) error {
	s.opts.Hooks.shed(class)
	return refusal.After(refusal.Busy, time.Second+rand.N(shedSpread)) //nolint:gosec // spreads load
}

// enterPoll lets a poll in: one that is held is not in flight, and has a bound of
// its own.
func (s *Server) enterPoll(held bool) (leave func(), err error) {
	if !held {
		return s.leave, s.enter(CatchUp)
	}
	if err := s.enter(Polls); err != nil {
		return nil, err
	}
	s.leave() // there is room
	if !s.polls.Enter(0) {
		return nil, s.shed(Polls)
	}
	return s.polls.Leave, nil
}

func newGates(l Limits) (inFlight, polls *limit.Gate) {
	return limit.NewGate(l.Requests, shares...), limit.NewGate(l.HeldPolls, 1)
}
