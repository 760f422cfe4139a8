package node

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// A client may give a chat and a message in it the same id: neither is taken for
// the other, and a retry of either is.
func TestIDsOfChatsAndMessagesAreApart(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice")
	create := talk.NewChat{ClientID: "1", Name: "notes"}
	chat, err := c.CreateChat(c.context(), users["alice"], create)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := c.send(users["alice"], chat, "1", "hello")
	if err != nil {
		t.Fatalf("a message with the id that the chat was made with: %v", err)
	}
	if again, err := c.CreateChat(c.context(), users["alice"], create); again != chat || err != nil {
		t.Errorf("a retry made %s, %v; the first %s", again, err, chat)
	}
	if again, err := c.send(users["alice"], chat, "1", "hello"); again != sent || err != nil {
		t.Errorf("a retry was answered %+v, %v; the first %+v", again, err, sent)
	}
}

// A user who is in as many chats as may be makes and joins no more; but what was
// answered before is answered so again, and those that the user is invited to are
// no more.
func TestChatsOfAUserAreBounded(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bob", "carol")
	other, err := c.CreateChat(c.context(), users["carol"], talk.NewChat{ClientID: "carol's", Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	code, err := c.CreateChatLink(c.context(), users["carol"], other)
	if err != nil {
		t.Fatal(err)
	}
	create := func(i int) (string, error) {
		return c.CreateChat(c.context(), users["bob"], talk.NewChat{ClientID: fmt.Sprint(i), Name: "chat", Invite: []string{"alice"}})
	}
	var last string
	for i := range mailbox.MaxChats {
		if last, err = create(i); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := create(mailbox.MaxChats - 1); again != last || err != nil {
		t.Errorf("a retry made %s, %v; the first %s", again, err, last)
	}
	accept := func(user, chat string) error {
		return c.ChangeChat(c.context(), users[user], chat, &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}})
	}
	for range 2 {
		if err := accept("alice", last); err != nil {
			t.Errorf("alice accepts: %v", err)
		}
	}
	_, create1001 := create(mailbox.MaxChats)
	_, join := c.JoinByLink(c.context(), users["alice"], code)
	for what, err := range map[string]error{"one more made": create1001, "one more joined": join} {
		if !reasonIs(err, refusal.TooManyChats) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What was answered before is answered so after a crash, once for all who come
// again: the chat, its messages, and what was refused.
func TestRetriesInAChatOutliveACrash(t *testing.T) {
	journal, store, keys := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore(), memory.NewKeys()
	options := Options{Journal: journal, Store: store, Keys: keys}
	first := start(t, options)
	users := first.join("alice", "bob", "carol")
	chat := first.gather(users, "alice", "bob")
	sent, err := first.send(users["alice"], chat, "1", "hello")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.send(users["carol"], chat, "1", "may I?"); !reasonIs(err, refusal.UnknownChat) {
		t.Fatalf("a stranger's message: %v", err)
	}
	if err := first.ChangeChat(first.context(), users["alice"], chat, &record.ChangeChat{Change: &record.ChangeChat_Remove{Remove: "bob"}}); err != nil {
		t.Fatal(err)
	}
	heads := func(c cell) (list []int64) {
		for _, name := range []string{"alice", "bob", "carol"} {
			head, err := c.Head(c.context(), name)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, head.Revision)
		}
		return list
	}
	before := heads(first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	options.Store = memory.NewStore() // nothing was stored: all is in the journal
	again := start(t, options)
	for range 2 {
		if made, err := again.CreateChat(again.context(), users["alice"], talk.NewChat{ClientID: "chat", Name: "friends", Invite: []string{"bob"}}); made != chat || err != nil {
			t.Errorf("a retry made %s, %v; the first %s", made, err, chat)
		}
		if got, err := again.send(users["alice"], chat, "1", "hello"); got != sent || err != nil {
			t.Errorf("a retry was answered %+v, %v; the first %+v", got, err, sent)
		}
		if _, err := again.send(users["carol"], chat, "1", "may I?"); !reasonIs(err, refusal.UnknownChat) {
			t.Errorf("a stranger's retry: %v", err)
		}
		if _, err := again.send(users["bob"], chat, "late", "me too"); !reasonIs(err, refusal.UnknownChat) {
			t.Errorf("a message of one who was removed: %v", err)
		}
	}
	if after := heads(again); !slices.Equal(after, before) {
		t.Errorf("the mailboxes have %v, before %v", after, before)
	}
}
