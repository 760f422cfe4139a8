package shard

import (
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/talk"
)

// subscriber is a held poll.
type subscriber struct {
	pid     *actor.PID
	token   uint64
	session talk.Session
	after   int64
	limit   int
	began   time.Time
	renewed time.Time
}

// subscribers are the polls that a mailbox holds, one for each device. A user
// has a few; a chat may have those of thousands.
type subscribers struct {
	polls []subscriber
	// places finds a device's among many; nil while they are few.
	places map[device]int
}

type device struct{ user, id string }

// fewPolls are looked through faster than looked up.
const fewPolls = 16

func (s *subscribers) len() int { return len(s.polls) }

// find returns the place of a device's poll, -1 for none.
func (s *subscribers) find(user, id string) int {
	if s.places != nil {
		if i, ok := s.places[device{user, id}]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(s.polls, func(p subscriber) bool { return p.session.Device == id && p.session.User == user })
}

// put adds a poll, in place of an earlier one of its device.
func (s *subscribers) put(p subscriber) {
	if i := s.find(p.session.User, p.session.Device); i >= 0 {
		s.polls[i] = p
		return
	}
	s.polls = append(s.polls, p)
	if s.places != nil {
		s.places[device{p.session.User, p.session.Device}] = len(s.polls) - 1
	} else if len(s.polls) > fewPolls {
		s.index()
	}
}

// remove removes the poll at a place; another takes it.
func (s *subscribers) remove(i int) {
	last := len(s.polls) - 1
	if s.places != nil {
		delete(s.places, device{s.polls[i].session.User, s.polls[i].session.Device})
		if i != last {
			s.places[device{s.polls[last].session.User, s.polls[last].session.Device}] = i
		}
	}
	s.polls[i] = s.polls[last]
	s.polls[last] = subscriber{}
	s.polls = s.polls[:last]
}

// removeFunc removes those polls of which a function says so.
func (s *subscribers) removeFunc(remove func(subscriber) bool) {
	before := len(s.polls)
	if s.polls = slices.DeleteFunc(s.polls, remove); len(s.polls) == before {
		return
	}
	if len(s.polls) == 0 { // give the array back
		s.polls = nil
	}
	if s.places != nil {
		s.index()
	}
}

// index notes the places, if there are many.
func (s *subscribers) index() {
	s.places = nil
	if len(s.polls) <= fewPolls {
		return
	}
	s.places = make(map[device]int, len(s.polls))
	for i := range s.polls {
		s.places[device{s.polls[i].session.User, s.polls[i].session.Device}] = i
	}
}
