package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// However far below the mark the newest of the peer's messages lies, the peer
// learns that it was read.
func TestReceiptReachesBackBehindManyOfOnesOwn(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bob")
	sent, err := c.send(users["alice"], "bob", "question", "how are you?")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2*markPage + 1 {
		if _, err := c.send(users["bob"], "alice", fmt.Sprint(i), "and another thing"); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.MarkRead(c.context(), users["bob"], "alice", persistence.MaxRevision); err != nil {
		t.Fatal(err)
	}
	bob, err := c.Conversation(c.context(), "bob", "alice")
	if err != nil || bob.Read != 1 || bob.ReadRevision != bob.LastRevision {
		t.Errorf("bob has %v, error %v", bob, err)
	}
	alice, err := c.Conversation(c.context(), "alice", "bob")
	if err != nil || string(alice.PeerReadId) != string(sent.MessageID[:]) {
		t.Errorf("alice has %v, error %v", alice, err)
	}
}

// What is unread can be marked read though the messages are kept no longer.
func TestWhatIsGoneCanBeMarkedRead(t *testing.T) {
	var options Options
	options.setDefaults()
	options.Limits.WriteAge = time.Millisecond
	options.Limits.TailOperations = 1
	options.Retention.Operations = 4
	c := start(t, options)
	users := c.join("alice", "bob", "carol")
	for _, from := range []string{"alice", "carol"} {
		for i := range 20 {
			if _, err := c.send(users[from], "bob", fmt.Sprint(i), "hello"); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.until("gone", func() bool {
		history, err := c.Messages(c.context(), "bob", "alice", 0, 1)
		return err == nil && len(history.Operations) == 0
	})
	if err := c.MarkRead(c.context(), users["bob"], "alice", 20); err != nil {
		t.Fatal(err)
	}
	if bob, err := c.Conversation(c.context(), "bob", "alice"); err != nil || bob.Received != 20 || bob.Read != 20 {
		t.Errorf("bob has %v, error %v", bob, err)
	}
}

// A page of conversations ends before it is too large, and the next goes on
// there, wherever the bodies of their messages lie.
func TestPagesOfConversationsAreBoundedInBytes(t *testing.T) {
	const size = listBytes / 16
	c := start(t, Options{})
	names := []string{"bob"}
	for i := range 40 {
		names = append(names, fmt.Sprintf("friend%02d", i))
	}
	users := c.join(names...)
	var peers []string
	for _, from := range names[1:] {
		if _, err := c.send(users[from], "bob", from, strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
		chat := c.gather(users, from, "bob")
		if _, err := c.send(users[from], chat, from, strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, from, chat)
	}
	var got []string
	query := &record.ConversationsQuery{ByPeer: true, Limit: 1000}
	for more := true; more; {
		page, err := c.Conversations(c.context(), "bob", query)
		if err != nil || len(page.Conversations) == 0 {
			t.Fatalf("%v, error %v", page, err)
		}
		if len(page.Conversations) > 16 {
			t.Errorf("a page has %d large messages", len(page.Conversations))
		}
		for _, conversation := range page.Conversations {
			got = append(got, conversation.Peer)
			if text := c.textsOf("bob", []*record.Operation{conversation.Last})[0]; len(text) != size {
				t.Errorf("the newest message with %s has %d bytes", conversation.Peer, len(text))
			}
		}
		query.After, more = got[len(got)-1], page.HasMore
	}
	slices.Sort(peers)
	if !slices.Equal(got, peers) {
		t.Errorf("the pages have %v", got)
	}
}
