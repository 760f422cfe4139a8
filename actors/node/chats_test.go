package node

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// gather makes a chat of users, the first of whom owns it, and returns its id.
func (c cell) gather(users map[string]talk.Session, names ...string) string {
	c.t.Helper()
	chat, err := c.CreateChat(c.context(), users[names[0]], talk.NewChat{ClientID: "chat", Name: "friends", Invite: names[1:]})
	for _, name := range names[1:] {
		if err == nil {
			err = c.ChangeChat(c.context(), users[name], chat, &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}})
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return chat
}

func (c cell) pollChat(session talk.Session, chat string, after int64, timeout time.Duration) <-chan pageOr {
	answers := make(chan pageOr, 1)
	c.Poll(talk.Poll{
		Session: session, Chat: chat, After: after, Limit: 100, Timeout: timeout,
		Answer: func(page talk.Page, refused *refusal.Refusal) { answers <- pageOr{page, refused} },
	})
	return answers
}

// heardInChat returns what a page has of a chat: the texts, and the kinds of changes.
func (c cell) heardInChat(user string, page talk.Page) (list []string) {
	c.t.Helper()
	operations := c.decoded(page)
	bodies, err := c.Open(c.context(), user, operations)
	if err != nil {
		c.t.Fatal(err)
	}
	for i, operation := range operations {
		words := fmt.Sprint(operation.GetChatRevision(), " ", bodies[i].Text)
		if changed := operation.GetChatChanged(); changed != nil {
			words += changed.GetKind().String()
		}
		list = append(list, words)
	}
	return list
}

// The members of a chat, the chat, and the gateway that they talk to are each on
// another node.
func TestGatewayServesChats(t *testing.T) {
	f := newFleet(t)
	f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(names...)
	chat := gateway.gather(users, names...)
	if again, err := gateway.CreateChat(gateway.context(), users[names[0]], talk.NewChat{ClientID: "chat", Name: "friends", Invite: names[1:]}); again != chat || err != nil {
		t.Errorf("a retry made %s, %v; the first %s", again, err, chat)
	}
	large := strings.Repeat("紙", 1000) // is read from the chat
	polls := map[string]<-chan pageOr{}
	for _, name := range names[1:] {
		head, err := gateway.Head(gateway.context(), name)
		if err != nil {
			t.Fatal(err)
		}
		polls[name], _ = gateway.poll(users[name], head.Revision, time.Minute)
	}
	inChat := gateway.pollChat(users[names[1]], chat, int64(len(names)), time.Minute)
	sent, err := gateway.send(users[names[0]], chat, "1", large)
	if err != nil {
		t.Fatal(err)
	}
	if sent.ChatRevision != int64(len(names))+1 {
		t.Errorf("the message is revision %d of the chat", sent.ChatRevision)
	}
	expected := []string{fmt.Sprint(sent.ChatRevision, " ", large)}
	for name, poll := range polls {
		got := gateway.await(poll)
		if got.refused != nil || !slices.Equal(gateway.heardInChat(name, got.page), expected) {
			t.Fatalf("%s's poll was answered %+v", name, got)
		}
		if len(got.page.Operations[0]) > 500 {
			t.Errorf("%s was given a copy of the body, with %d bytes", name, len(got.page.Operations[0]))
		}
	}
	if got := gateway.await(inChat); got.refused != nil || !slices.Equal(gateway.heardInChat(names[1], got.page), expected) {
		t.Errorf("the poll of the chat was answered %+v", got)
	}
	history, err := gateway.Messages(gateway.context(), names[2], chat, 0, 1)
	if err != nil || len(history.Operations) != 1 || !history.HasMore {
		t.Errorf("the history is %+v, %v", history, err)
	}
	members, err := gateway.Members(gateway.context(), chat, &record.MembersQuery{Reader: names[0], Limit: 3})
	if err != nil || len(members.Members) != 3 || !members.HasMore {
		t.Errorf("the members are %+v, %v", members, err)
	}
	chats, err := gateway.Chats(gateway.context(), names[3], &record.ChatsQuery{Limit: 10})
	if err != nil || len(chats.Chats) != 1 || chats.Chats[0].Chat != chat {
		t.Errorf("the chats are %+v, %v", chats, err)
	}
}

// countedJournal counts appends.
type countedJournal struct {
	persistence.Journal
	appends atomic.Int64
}

func (j *countedJournal) Append(shard uint32, records [][]byte, done func(persistence.Appended, error)) {
	j.appends.Add(1)
	j.Journal.Append(shard, records, done)
}

// A message to a chat is one append, and so are all copies of it that go to one
// shard, however many members it has.
func TestCopiesForAShardAreAppendedTogether(t *testing.T) {
	journal := &countedJournal{Journal: memory.NewJournal(persistence.DurabilityFsync)}
	c := start(t, Options{Journal: journal, Store: memory.NewStore(), Keys: memory.NewKeys()})
	var members []string
	for i := range 12 {
		members = append(members, fmt.Sprint("member", i))
	}
	chat := c.gather(c.join(members...), members...)
	shards := map[uint32]bool{}
	for _, member := range members {
		shards[c.places.Shard(member)] = true
	}
	before := journal.appends.Load()
	if _, err := c.send(talk.Session{User: members[0], Device: "phone"}, chat, "1", "hello"); err != nil {
		t.Fatal(err)
	}
	if got, want := journal.appends.Load()-before, int64(1+len(shards)); got != want {
		t.Errorf("%d appends for %d shards", got, len(shards))
	}
}

// In a chat that is not copied to its members, a message is one operation of the
// chat and the writer's mark, and ends the polls of the chat.
func TestALargeChatIsPolled(t *testing.T) {
	c := start(t, Options{ChatCopies: 2})
	users := c.join("alice", "bob", "carol", "dave")
	chat := c.gather(users, "alice", "bob", "carol")
	before, err := c.Head(c.context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	bob, carol := c.pollChat(users["bob"], chat, 3, time.Minute), c.pollChat(users["carol"], chat, 3, time.Minute)
	if _, err := c.send(users["alice"], chat, "1", "hello all"); err != nil {
		t.Fatal(err)
	}
	for name, poll := range map[string]<-chan pageOr{"bob": bob, "carol": carol} {
		if got := c.await(poll); got.refused != nil || !slices.Equal(c.heardInChat(name, got.page), []string{"4 hello all"}) {
			t.Errorf("%s's poll was answered %+v", name, got)
		}
	}
	if after, err := c.Head(c.context(), "bob"); err != nil || after != before {
		t.Errorf("bob's mailbox has %+v, before %+v, %v", after, before, err)
	}
	list, err := c.Conversations(c.context(), "bob", &record.ConversationsQuery{Limit: 10})
	if err != nil || len(list.Conversations) != 1 || list.Conversations[0].Conversation.Received != 1 || list.Conversations[0].Last == nil {
		t.Errorf("bob's conversations are %+v, %v", list, err)
	}
	if err := c.MarkRead(c.context(), users["bob"], chat, 4); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice", "bob"} {
		if got, err := c.Conversation(c.context(), name, chat); err != nil || got.Received != 1 || got.Read != 1 {
			t.Errorf("%s has read %v, %v", name, got, err)
		}
	}
	// Who leaves gets nothing more.
	alice := c.pollChat(users["alice"], chat, 4, time.Minute)
	bob = c.pollChat(users["bob"], chat, 4, time.Minute)
	if err := c.ChangeChat(c.context(), users["bob"], chat, &record.ChangeChat{Change: &record.ChangeChat_Leave{Leave: true}}); err != nil {
		t.Fatal(err)
	}
	if got := c.await(alice); got.refused != nil || !slices.Equal(c.heardInChat("alice", got.page), []string{"5 LEFT"}) {
		t.Errorf("alice's poll was answered %+v", got)
	}
	if got := c.await(bob); got.refused == nil || got.refused.Reason != refusal.UnknownChat {
		t.Errorf("bob's poll was answered %+v", got)
	}
	for what, err := range map[string]error{
		"a stranger's send": func() error { _, err := c.send(users["dave"], chat, "1", "hi"); return err }(),
		"no chat":           func() error { _, err := c.send(users["dave"], "C"+strings.Repeat("0", 32), "1", "hi"); return err }(),
		"a stranger's look": func() error { _, err := c.Messages(c.context(), "dave", chat, 0, 1); return err }(),
	} {
		if refusal.From(err).Reason != refusal.UnknownChat {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := c.await(c.pollChat(users["dave"], "alice", 0, 0)); got.refused == nil || got.refused.Reason != refusal.UnknownChat {
		t.Errorf("a mailbox read as a chat: %+v", got)
	}
}

// A chat has more polls than a few: none is forgotten, and each device has one.
func TestAChatHoldsManyPolls(t *testing.T) {
	c := start(t, Options{ChatCopies: 1})
	members := make([]string, 40)
	for i := range members {
		members[i] = fmt.Sprintf("user%02d", i)
	}
	users := c.join(members...)
	chat := c.gather(users, members...)
	head := int64(len(members))
	for round := range 3 {
		var polls []<-chan pageOr
		for _, name := range members[1:] {
			polls = append(polls, c.pollChat(users[name], chat, head, time.Minute))
		}
		if _, err := c.send(users[members[0]], chat, fmt.Sprint(round), "hello"); err != nil {
			t.Fatal(err)
		}
		head++
		for i, poll := range polls {
			if got := c.await(poll); got.refused != nil || got.page.Revision != head {
				t.Fatalf("round %d: %s's poll was answered %+v", round, members[i+1], got)
			}
		}
	}
}

// What is unread in a chat can be marked read though it is kept no longer, and a
// mark below what is kept, or may be read, is as any that is below another.
func TestWhatIsGoneFromAChatCanBeMarkedRead(t *testing.T) {
	for copies, what := range map[int]string{10: "a chat that is copied", 1: "a large chat"} {
		t.Run(what, func(t *testing.T) {
			var options Options
			options.setDefaults()
			options.ChatCopies = copies
			options.Limits.WriteAge, options.Limits.TailBytes = time.Millisecond, 1
			c := start(t, options)
			users := c.join("alice", "bob")
			chat := c.gather(users, "alice", "bob")
			for i := range 5 {
				if _, err := c.send(users["alice"], chat, fmt.Sprint(i), "hello"); err != nil {
					t.Fatal(err)
				}
			}
			mark := func(revision int64) *record.Conversation {
				t.Helper()
				if err := c.MarkRead(c.context(), users["bob"], chat, revision); err != nil {
					t.Fatalf("mark at %d: %v", revision, err)
				}
				conversation, err := c.Conversation(c.context(), "bob", chat)
				if err != nil {
					t.Fatal(err)
				}
				return conversation
			}
			if got := mark(1); got.Read != 0 {
				t.Errorf("bob, who joined at 2, has read %v", got)
			}
			r := c.newRecord(chat)
			r.Kind = &record.Record_Trim{Trim: &record.Trim{FirstRevision: 8}}
			if _, err := c.do(c.context(), r); err != nil {
				t.Fatal(err)
			}
			c.until("gone", func() bool {
				history, err := c.Messages(c.context(), "bob", chat, 0, 1)
				return err == nil && len(history.Operations) == 0
			})
			if got := mark(3); copies > 1 && got.Read != 0 {
				t.Errorf("with a mark at 3 bob has read %v", got)
			}
			if got := mark(7); got.Received != got.Read || copies > 1 && got.Read != 5 {
				t.Errorf("bob has %v", got)
			}
		})
	}
}

// With the key of a chat its bodies are gone; all else that its members have, they
// go on reading.
func TestAChatWithoutItsKeyHoldsUpNobody(t *testing.T) {
	keys := memory.NewKeys()
	c := start(t, Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: keys})
	users := c.join("alice", "bob")
	chat := c.gather(users, "alice", "bob")
	for i, text := range []string{"hello", strings.Repeat("x", 2*mailbox.MaxCopiedBody)} {
		if _, err := c.send(users["alice"], chat, fmt.Sprint(i), text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.send(users["alice"], "bob", "1", "are you there?"); err != nil {
		t.Fatal(err)
	}
	if err := keys.Delete(c.context(), chat); err != nil {
		t.Fatal(err)
	}
	answers, _ := c.poll(users["bob"], 0, 0)
	got := c.texts("bob", c.await(answers).page)
	if want := []string{"", "", "", "", "are you there?"}; !slices.Equal(got, want) {
		t.Errorf("bob reads %q, want %q", got, want)
	}
}
