package main

import (
	"strings"
	"testing"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/client"
	"github.com/tegami-im/tegami/internal/terminal"
)

func newTestChat(t *testing.T) (*chat, *strings.Builder) {
	t.Helper()
	screen := new(strings.Builder)
	console, err := terminal.Open(strings.NewReader(""), screen)
	if err != nil {
		t.Fatal(err)
	}
	return &chat{console: console, me: "alice", mine: make(map[string]bool)}, screen
}

func message(from, to, id, text string) *client.Message {
	return &client.Message{From: from, To: to, ClientMessageId: id, Body: &tegamiv1.Message_Text{Text: text}}
}

func received(m *client.Message) *client.Operation {
	return &client.Operation{Kind: &tegamiv1.Operation_ReceiveMessage{ReceiveMessage: m}}
}

func sent(m *client.Message) *client.Operation {
	return &client.Operation{Kind: &tegamiv1.Operation_SendMessage{SendMessage: m}}
}

func TestChatShowsWhatWasNotTypedHere(t *testing.T) {
	c, screen := newTestChat(t)
	c.typedHere("here", true)
	for _, op := range []*client.Operation{
		sent(message("alice", "bob", "here", "typed here")),
		sent(message("alice", "bob", "elsewhere", "typed on the phone")),
		received(message("bob", "alice", "b1", "from bob")),
		received(message("alice", "alice", "note", "to myself")),
		{Revision: 5}, // of a kind that a later version made
	} {
		if err := c.show(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	want := "alice → bob: typed on the phone\nbob: from bob\nalice: to myself\n"
	if screen.String() != want {
		t.Errorf("shown:\n%s", screen)
	}
	if len(c.mine) != 0 {
		t.Errorf("still remembers %v", c.mine)
	}
}

func TestChatAnswersWhoeverWritesFirst(t *testing.T) {
	c, _ := newTestChat(t)
	for _, op := range []*client.Operation{
		received(message("alice", "alice", "note", "to myself")),
		received(message("bob", "alice", "b1", "first")),
		received(message("carol", "alice", "c1", "second")),
	} {
		if err := c.show(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	if c.partner() != "bob" {
		t.Errorf("talks with %q", c.partner())
	}
}
