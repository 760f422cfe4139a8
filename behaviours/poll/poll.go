// Package poll is a behaviour that asks several users a question and tells them
// what came of it.
//
//	ask bob carol: Lunch? pizza / sushi    asks all three, for a day
//	1 2                                    votes in poll 1 for sushi
//	close 1                                ends it, by who asked
package poll

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tegami-im/tegami/actors/behaviour"
)

// Kind is the kind "poll".
func Kind() *behaviour.Kind { return behaviour.New("poll", bot{}) }

const (
	open       = 24 * time.Hour
	maxPolls   = 100
	maxVoters  = 20
	maxChoices = 10
	maxLength  = 300 // of question and choices, in bytes
	usage      = `Write "ask bob carol: Lunch? pizza / sushi".`
)

type bot struct{}

// Handle implements behaviour.Handler.
func (bot) Handle(c *behaviour.Context, state *State, event behaviour.Event) error {
	switch e := event.(type) {
	case *behaviour.Message:
		if answer := answer(c, state, e.From, strings.TrimSpace(e.Text())); answer != "" {
			c.Send(e.From, answer)
		}
	case *behaviour.Timer:
		if ended, ok := e.Payload.(*End); ok {
			end(c, state, ended.Poll)
		}
	}
	return nil
}

// answer does what a user writes and returns what is to be said to that user
// alone.
func answer(c *behaviour.Context, state *State, from, text string) string {
	if rest, asks := strings.CutPrefix(text, "ask "); asks {
		return ask(c, state, from, rest)
	}
	var number int64
	if _, err := fmt.Sscanf(text, "close %d", &number); err == nil {
		if state.Polls[number].GetAsker() != from {
			return "That poll is none of yours."
		}
		c.CancelTimer(fmt.Sprint(number))
		end(c, state, number)
		return ""
	}
	var choice int32
	if _, err := fmt.Sscanf(text, "%d %d", &number, &choice); err == nil {
		return vote(c, state, from, number, choice)
	}
	return usage
}

func ask(c *behaviour.Context, state *State, from, text string) string {
	users, rest, found := strings.Cut(text, ":")
	question, list, asked := strings.Cut(rest, "?")
	choices := strings.Split(list, "/")
	voters := append(strings.Fields(users), from)
	slices.Sort(voters)
	voters = slices.Compact(voters)
	switch {
	case !found || !asked || strings.TrimSpace(question) == "" || slices.ContainsFunc(choices, func(s string) bool { return strings.TrimSpace(s) == "" }):
		return usage
	case slices.Contains(voters, c.Self()) || len(voters) > maxVoters || len(choices) > maxChoices || len(rest) > maxLength || len(users) > 2*maxLength:
		return "That is too much of a question."
	case len(state.Polls) >= maxPolls:
		return "Too many polls are open."
	}
	state.Newest++
	poll := &Poll{Asker: from, Question: strings.TrimSpace(question) + "?", Voters: voters}
	var lines strings.Builder
	fmt.Fprintf(&lines, "Poll %d, of %s: %s", state.Newest, from, poll.Question)
	for i, choice := range choices {
		poll.Choices = append(poll.Choices, strings.TrimSpace(choice))
		fmt.Fprintf(&lines, "\n%d %d: %s", state.Newest, i+1, poll.Choices[i])
	}
	if state.Polls == nil {
		state.Polls = map[int64]*Poll{}
	}
	state.Polls[state.Newest] = poll
	c.SetTimer(fmt.Sprint(state.Newest), c.Now().Add(open), &End{Poll: state.Newest})
	for _, voter := range voters {
		c.Send(voter, lines.String())
	}
	return ""
}

// vote takes a vote, in place of an earlier one. The last one ends the poll.
func vote(c *behaviour.Context, state *State, from string, number int64, choice int32) string {
	poll := state.Polls[number]
	switch {
	case !slices.Contains(poll.GetVoters(), from):
		return "There is no such poll."
	case choice < 1 || int(choice) > len(poll.Choices):
		return "There is no such choice."
	}
	if poll.Votes == nil {
		poll.Votes = map[string]int32{}
	}
	poll.Votes[from] = choice
	if len(poll.Votes) == len(poll.Voters) {
		c.CancelTimer(fmt.Sprint(number))
		end(c, state, number)
		return ""
	}
	return fmt.Sprintf("You voted for %s.", poll.Choices[choice-1])
}

// end tells all what came of a poll.
func end(c *behaviour.Context, state *State, number int64) {
	poll := state.Polls[number]
	if poll == nil {
		return
	}
	delete(state.Polls, number)
	votes := make([]int, len(poll.Choices))
	for _, choice := range poll.Votes {
		votes[choice-1]++
	}
	var lines strings.Builder
	fmt.Fprintf(&lines, "Poll %d: %s", number, poll.Question)
	for i, choice := range poll.Choices {
		fmt.Fprintf(&lines, "\n%s: %d", choice, votes[i])
	}
	for _, voter := range poll.Voters {
		c.Send(voter, lines.String())
	}
}
