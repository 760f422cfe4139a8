// Package poll is a behaviour that has the members of a group chat vote. It joins
// whatever chat it is invited to. What the members write there:
//
//	poll: Lunch? | Soba | Curry    asks, for a day
//	2                              votes for Curry, in place of an earlier vote
//	poll?                          shows the votes so far
//	poll: end                      ends it, by who asked
package poll

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/behaviour"
)

// Kind is the kind "poll".
func Kind() *behaviour.Kind { return behaviour.New("poll", bot{}) }

const (
	open       = 24 * time.Hour
	maxChoices = 10
	maxLength  = 300 // of question and choices, in bytes
	// full is the size of the state, in bytes, at which nothing is added: below
	// the limit by more than the largest poll and the longest name take.
	full  = behaviour.MaxState - 1_000
	usage = `Write "poll: Lunch? | Soba | Curry" to ask, a number to vote, "poll?" to see the votes, "poll: end" to end.`
)

type bot struct{}

// Handle implements behaviour.Handler.
func (bot) Handle(c *behaviour.Context, state *State, event behaviour.Event) error {
	switch e := event.(type) {
	case *behaviour.Membership:
		switch e.Is {
		case behaviour.Invited:
			c.Join(e.Chat)
		case behaviour.Joined:
			c.Send(e.Chat, usage)
		case behaviour.Alone, behaviour.Gone:
			drop(c, state, e.Chat)
		}
	case *behaviour.Message:
		if e.FromBehaviour() { // it may say "poll:" without meaning it
			return nil
		}
		if e.Chat == "" {
			c.Send(e.From, "Invite me to a chat. "+usage)
		} else if answer := answer(c, state, e); answer != "" {
			c.Send(e.Chat, answer)
		}
	case *behaviour.Timer:
		if ended, ok := e.Payload.(*End); ok {
			if poll := drop(c, state, ended.Chat); poll != nil {
				c.Send(ended.Chat, "The poll has ended. "+tally(poll))
			}
		}
	}
	return nil
}

// answer does what a member writes and returns what is to be said to the chat.
func answer(c *behaviour.Context, state *State, m *behaviour.Message) string {
	text, poll := strings.TrimSpace(m.Text()), state.Chats[m.Chat]
	verb, rest := text[:min(len(text), 5)], strings.TrimSpace(text[min(len(text), 5):])
	asks, shows := strings.EqualFold(verb, "poll:"), strings.EqualFold(text, "poll?")
	switch {
	case asks && !strings.EqualFold(rest, "end"):
		return ask(c, state, m, rest)
	case poll == nil && (asks || shows):
		return "No poll is open. " + usage
	case poll == nil: // the members talk among themselves
		return ""
	case asks && poll.Asker != m.From:
		return "That is up to " + poll.Asker + "."
	case asks:
		return "The poll has ended. " + tally(drop(c, state, m.Chat))
	case shows:
		return tally(poll)
	}
	choice, err := strconv.ParseInt(text, 10, 32)
	if err != nil || choice < 1 || int(choice) > len(poll.Choices) {
		return ""
	}
	if poll.Votes[m.From] == 0 && proto.Size(state) > full {
		return "I cannot count any more votes."
	}
	if poll.Votes == nil {
		poll.Votes = map[string]int32{}
	}
	poll.Votes[m.From] = int32(choice)
	return ""
}

func ask(c *behaviour.Context, state *State, m *behaviour.Message, text string) string {
	parts := strings.Split(text, "|")
	for i, part := range parts {
		if parts[i] = strings.TrimSpace(part); parts[i] == "" {
			return usage
		}
	}
	switch {
	case len(parts) < 3:
		return usage
	case len(parts)-1 > maxChoices || len(text) > maxLength:
		return "That is too much of a question."
	case state.Chats[m.Chat] != nil:
		return "A poll is open: " + tally(state.Chats[m.Chat])
	case proto.Size(state) > full:
		return "Too many polls are open."
	}
	if state.Chats == nil {
		state.Chats = map[string]*Poll{}
	}
	state.Chats[m.Chat] = &Poll{Asker: m.From, Question: parts[0], Choices: parts[1:]}
	c.SetTimer(m.Chat, c.Now().Add(open), &End{Chat: m.Chat})
	var lines strings.Builder
	lines.WriteString(parts[0])
	for i, choice := range parts[1:] {
		fmt.Fprintf(&lines, "\n%d: %s", i+1, choice)
	}
	return lines.String()
}

// drop ends the poll of a chat and returns it; nil for none.
func drop(c *behaviour.Context, state *State, chat string) *Poll {
	poll := state.Chats[chat]
	delete(state.Chats, chat)
	c.CancelTimer(chat)
	return poll
}

func tally(poll *Poll) string {
	votes := make([]int, len(poll.Choices))
	for _, choice := range poll.Votes {
		votes[choice-1]++
	}
	var lines strings.Builder
	lines.WriteString(poll.Question)
	for i, choice := range poll.Choices {
		fmt.Fprintf(&lines, "\n%s: %d", choice, votes[i])
	}
	return lines.String()
}
