// Package reminder is a behaviour that reminds users of what they ask it to, by
// timers that survive whatever the server goes through.
//
//	in 10m drink tea     →  1: in 10m0s
//	cancel 1             →  1 is cancelled
package reminder

import (
	"fmt"
	"strings"
	"time"

	"github.com/tegami-im/tegami/actors/behaviour"
)

// Kind is the kind "reminder".
func Kind() *behaviour.Kind { return behaviour.New("reminder", bot{}) }

const (
	longest = 366 * 24 * time.Hour
	usage   = `Write "in 10m drink tea", or "cancel 1".`
)

type bot struct{}

// Handle implements behaviour.Handler.
func (bot) Handle(c *behaviour.Context, state *State, event behaviour.Event) error {
	switch e := event.(type) {
	case *behaviour.Timer:
		if reminder, ok := e.Payload.(*Reminder); ok {
			c.Send(reminder.To, reminder.Text)
		}
	case *behaviour.Message:
		c.Send(e.From, answer(c, state, e))
	}
	return nil
}

// answer does what a message asks for and returns what to say to it.
func answer(c *behaviour.Context, state *State, m *behaviour.Message) string {
	verb, rest, _ := strings.Cut(strings.TrimSpace(m.Text()), " ")
	switch verb {
	case "in":
		after, text, _ := strings.Cut(rest, " ")
		wait, err := time.ParseDuration(after)
		text = strings.TrimSpace(text)
		switch {
		case err != nil || text == "":
			return usage
		case wait < 0 || wait > longest:
			return "That is too far away."
		case len(text) > behaviour.MaxPayload/2:
			return "That is too long."
		}
		state.Newest++
		c.SetTimer(name(m.From, fmt.Sprint(state.Newest)), c.Now().Add(wait), &Reminder{To: m.From, Text: text})
		return fmt.Sprintf("%d: in %v", state.Newest, wait)
	case "cancel":
		number := strings.TrimSpace(rest)
		if number == "" || len(number) > 20 {
			return usage
		}
		c.CancelTimer(name(m.From, number))
		return number + " is cancelled"
	default:
		return usage
	}
}

// name names a user's timer, so that nobody cancels another's.
func name(user, number string) string { return user + "/" + number }
