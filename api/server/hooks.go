package server

import "time"

// Stage is a part of the life of a hot call at the edge.
type Stage uint8

// The stages of a hot call, one after the other.
const (
	// Accepted: from the request's header until the talk tier has it.
	Accepted Stage = iota + 1
	// Waited: until the talk tier answered.
	Waited
	// Answered: until the answer was encoded and handed to the connection.
	Answered
)

func (s Stage) String() string {
	switch s {
	case Accepted:
		return "accepted"
	case Waited:
		return "waited"
	case Answered:
		return "answered"
	default:
		return "unknown"
	}
}

// Hooks are called as requests go through, from many goroutines; they must not
// block. Each may be nil.
type Hooks struct {
	// Request is called after each request with the method's path, such as
	// /tegami.v1.TalkService/FetchOps ("other" for paths that are none of
	// ours), Connect's code ("ok" for success) and how long it took.
	Request func(procedure, code string, elapsed time.Duration)
	// Held is called with +1 and -1 as polls begin and cease to be held.
	Held func(delta int)
	// Shed is called for each request, and each connection, that is refused because
	// there are too many.
	Shed func(Class)
	// Stage is called for each stage of the hot calls that took the Connect
	// protocol.
	Stage func(procedure string, stage Stage, elapsed time.Duration)
}

func (h *Hooks) request(procedure, code string, elapsed time.Duration) {
	if h.Request != nil {
		h.Request(procedure, code, elapsed)
	}
}

func (h *Hooks) held(delta int) {
	if h.Held != nil {
		h.Held(delta)
	}
}

func (h *Hooks) shed(class Class) {
	if h.Shed != nil {
		h.Shed(class)
	}
}

func (h *Hooks) stage(procedure string, stage Stage, elapsed time.Duration) {
	if h.Stage != nil {
		h.Stage(procedure, stage, elapsed)
	}
}
