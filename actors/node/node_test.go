package node

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// patience bounds every wait of these tests: at least ten times what it takes.
const patience = 10 * time.Second

// cell is a node over stores in memory, with users that have a device each.
type cell struct {
	*Node
	t *testing.T
}

func start(t *testing.T, options Options) cell {
	t.Helper()
	if options.Journal == nil {
		options.Journal = memory.NewJournal(persistence.DurabilityFsync)
		options.Store = memory.NewStore()
		options.Keys = memory.NewKeys()
	}
	options.Shards = 4
	options.Logger = nil
	n, err := Start(options)
	if err != nil {
		t.Fatal(err)
	}
	c := cell{n, t}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	c.until("ready", n.Ready)
	return c
}

// until waits for a condition.
func (c cell) until(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			c.t.Fatalf("not %s in time", what)
		}
		<-time.After(time.Millisecond)
	}
}

func (c cell) context() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

// join registers users and signs each in on a device named after the user.
func (c cell) join(users ...string) map[string]talk.Session {
	c.t.Helper()
	sessions := map[string]talk.Session{}
	for _, user := range users {
		if _, err := c.CreateAccounts(c.context(), []talk.NewAccount{{User: user}}); err != nil {
			c.t.Fatal(err)
		}
		session, err := c.SignIn(c.context(), user, user+"-phone", [32]byte{1})
		if err != nil {
			c.t.Fatal(err)
		}
		sessions[user] = session
	}
	return sessions
}

func (c cell) send(from talk.Session, to, id, text string) (talk.Sent, error) {
	c.t.Helper()
	type result struct {
		sent talk.Sent
		err  error
	}
	results := make(chan result, 1)
	c.Send(c.context(), talk.Send{
		From: from.User, FromDevice: from.Device, To: to, ClientMessageID: id, Body: talk.Body{Text: text},
		Answer: func(sent talk.Sent, err error) { results <- result{sent, err} },
	})
	select {
	case r := <-results:
		return r.sent, r.err
	case <-time.After(patience):
		c.t.Fatal("no answer to a send")
		return talk.Sent{}, nil
	}
}

type pageOr struct {
	page    talk.Page
	refused *refusal.Refusal
}

func (c cell) poll(session talk.Session, after int64, timeout time.Duration) (<-chan pageOr, func()) {
	answers := make(chan pageOr, 1)
	cancel := c.Poll(talk.Poll{
		Session: session, After: after, Limit: 100, Timeout: timeout,
		Answer: func(page talk.Page, refused *refusal.Refusal) { answers <- pageOr{page, refused} },
	})
	return answers, cancel
}

func (c cell) await(answers <-chan pageOr) pageOr {
	c.t.Helper()
	select {
	case answer := <-answers:
		return answer
	case <-time.After(patience):
		c.t.Fatal("no answer to a poll")
		return pageOr{}
	}
}

// texts opens what a page holds.
func (c cell) texts(user string, page talk.Page) []string {
	c.t.Helper()
	return c.textsOf(user, c.decoded(page))
}

func (c cell) textsOf(user string, operations []*record.Operation) []string {
	c.t.Helper()
	bodies, err := c.Open(c.context(), user, operations)
	if err != nil {
		c.t.Fatal(err)
	}
	var texts []string
	for _, body := range bodies {
		texts = append(texts, body.Text)
	}
	return texts
}

// decoded returns the operations of a page.
func (c cell) decoded(page talk.Page) []*record.Operation {
	c.t.Helper()
	operations, err := record.DecodeOperations(page.Operations)
	if err != nil {
		c.t.Fatal(err)
	}
	return operations
}

func TestSendReachesHeldPoll(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bob")
	answers, _ := c.poll(users["bob"], 0, time.Minute)

	sent, err := c.send(users["alice"], "bob", "1", "ご飯食べた？")
	if err != nil {
		t.Fatal(err)
	}
	got := c.await(answers)
	if got.refused != nil {
		t.Fatal(got.refused)
	}
	if texts := c.texts("bob", got.page); len(texts) != 1 || texts[0] != "ご飯食べた？" {
		t.Errorf("Bob reads %q", texts)
	}
	message := c.decoded(got.page)[0].GetReceiveMessage()
	if string(message.GetMessageId()) != string(sent.MessageID[:]) || message.GetTime() != sent.Time {
		t.Errorf("Bob's message is not the one that was acknowledged")
	}
	if got.page.Revision != 1 || got.page.Reason != talk.Operations {
		t.Errorf("page ends at revision %d for reason %d", got.page.Revision, got.page.Reason)
	}

	// Alice's other devices get the copy, which is durable since the answer.
	tablet, err := c.SignIn(c.context(), "alice", "tablet", [32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	answers, _ = c.poll(tablet, 0, 0)
	if texts := c.texts("alice", c.await(answers).page); len(texts) != 1 || texts[0] != "ご飯食べた？" {
		t.Errorf("Alice's tablet reads %q", texts)
	}
}

func TestRetryGetsTheFirstAnswer(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bob")
	first, err := c.send(users["alice"], "bob", "same", "hello")
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.send(users["alice"], "bob", "same", "hello")
	if err != nil || again != first {
		t.Errorf("retry got %v, %v; the first answer was %v", again, err, first)
	}
	_, err = c.send(users["alice"], "bob", "same", "goodbye")
	if refused := refusal.From(err); refused == nil || refused.Reason != refusal.DifferentBody {
		t.Errorf("same id with another body: %v", err)
	}
	if head, err := c.Head(c.context(), "bob"); err != nil || head.Revision != 1 {
		t.Errorf("Bob's head is %v, %v; want 1", head, err)
	}
}

func TestUnknownRecipientIsRefused(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice")
	_, err := c.send(users["alice"], "nobody", "1", "hello?")
	var refused *refusal.Refusal
	if !errors.As(err, &refused) || refused.Reason != refusal.UnknownRecipient || refused.Field != "to" {
		t.Errorf("got %v", err)
	}
}

func TestPollEnds(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice")
	t.Run("at its timeout, with the same cursor", func(t *testing.T) {
		answers, _ := c.poll(users["alice"], 0, 20*time.Millisecond)
		if got := c.await(answers); got.refused != nil || got.page.Reason != talk.Timeout || got.page.Revision != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("when a newer one takes over", func(t *testing.T) {
		older, _ := c.poll(users["alice"], 0, time.Minute)
		newer, cancel := c.poll(users["alice"], 0, time.Minute)
		if got := c.await(older); got.refused != nil || got.page.Reason != talk.Superseded {
			t.Errorf("the older got %+v", got)
		}
		third, _ := c.poll(users["alice"], 0, time.Minute)
		if got := c.await(third); got.refused == nil || got.refused.Reason != refusal.PollTooOften {
			t.Errorf("a third within a second got %+v", got)
		}
		cancel()
		select {
		case got := <-newer:
			t.Errorf("a cancelled poll got %+v", got)
		default:
		}
	})
	t.Run("when its cursor lies beyond the head", func(t *testing.T) {
		answers, _ := c.poll(users["alice"], 7, time.Minute)
		if got := c.await(answers); got.refused == nil || got.refused.Reason != refusal.CursorAhead || got.refused.ResumeRevision != 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("when its device is signed out", func(t *testing.T) {
		answers, _ := c.poll(users["alice"], 0, time.Minute)
		c.until("subscribed", func() bool { return c.CheckSession(c.context(), users["alice"]) == nil })
		if err := c.SignOut(c.context(), users["alice"]); err != nil {
			t.Fatal(err)
		}
		got := c.await(answers)
		if got.refused == nil || got.refused.Reason.Code() != refusal.CodeUnauthenticated {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("when the node drains", func(t *testing.T) {
		bob := c.join("bob")["bob"]
		answers, _ := c.poll(bob, 0, time.Minute)
		if err := c.Drain(c.context()); err != nil {
			t.Fatal(err)
		}
		if got := c.await(answers); got.refused != nil || got.page.Reason != talk.Draining {
			t.Errorf("got %+v", got)
		}
	})
}

func TestOwnOperationsDoNotEndThePollOfTheirDevice(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bob")
	fetched := make(chan *shard.Fetched, 1)
	phone := c.system.Root.Spawn(actor.PropsFromFunc(func(ctx actor.Context) {
		if m, ok := ctx.Message().(*shard.Fetched); ok {
			fetched <- m
		}
	}))
	// Sent from here, the fetch comes to the mailbox before what follows.
	c.system.Root.Send(c.shards[c.places.Shard("alice")], &shard.Fetch{
		Session: users["alice"], Limit: 100, Hold: true, Subscriber: phone, Token: 1,
	})
	if _, err := c.Head(c.context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.send(users["alice"], "bob", "1", "mine"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.send(users["bob"], "alice", "1", "yours"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-fetched:
		if texts := c.texts("alice", got.Page); fmt.Sprint(texts) != "[mine yours]" {
			t.Errorf("the poll ended with %q: want both, once the second came", texts)
		}
	case <-time.After(patience):
		t.Error("the poll did not end")
	}
}

func TestNothingIsLostOverARestart(t *testing.T) {
	for name, stop := range map[string]func(cell){
		"drained": func(c cell) {
			if err := c.Drain(c.context()); err != nil {
				t.Fatal(err)
			}
		},
		"killed": func(cell) {},
	} {
		t.Run(name, func(t *testing.T) {
			options := Options{
				Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys(),
			}
			before := start(t, options)
			users := before.join("alice", "bob")
			var want []string
			for i := range 200 {
				text := fmt.Sprintf("message %d", i)
				if _, err := before.send(users["alice"], "bob", text, text); err != nil {
					t.Fatal(err)
				}
				want = append(want, text)
			}
			stop(before)
			if err := before.Close(); err != nil {
				t.Fatal(err)
			}

			after := start(t, options)
			for user, peer := range map[string]string{"bob": "alice", "alice": "bob"} {
				history, err := after.Messages(after.context(), user, peer, 0, 1000)
				if err != nil {
					t.Fatal(err)
				}
				got := after.textsOf(user, history.Operations)
				if len(got) != len(want) {
					t.Fatalf("%s has %d messages, want %d", user, len(got), len(want))
				}
				for i := range got {
					if got[i] != want[len(want)-1-i] {
						t.Fatalf("%s: message %d from the end is %q, want %q", user, i, got[i], want[len(want)-1-i])
					}
				}
			}
			if sent, err := after.send(users["alice"], "bob", "message 7", "message 7"); err != nil || sent.Time == 0 {
				t.Errorf("retry after the restart: %v, %v", sent, err)
			}
			if head, err := after.Head(after.context(), "bob"); err != nil || head.Revision != 200 {
				t.Errorf("Bob's head is %v, %v; want 200", head, err)
			}
		})
	}
}

func TestIdleMailboxesLeaveMemoryAndComeBack(t *testing.T) {
	options := Options{}
	options.setDefaults()
	options.Limits.MailboxesPerShard = 1
	options.Limits.WriteAge = time.Millisecond
	c := start(t, options)
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("user%02d", i))
	}
	users := c.join(names...)
	c.until("down to a mailbox a shard", func() bool { return c.loaded.Load() <= 4 })
	for i, name := range names {
		if _, err := c.send(users[names[(i+1)%len(names)]], name, "1", "are you there?"); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	c.until("down to a mailbox a shard", func() bool { return c.loaded.Load() <= 4 })
	for _, name := range names {
		if head, err := c.Head(c.context(), name); err != nil || head.Revision != 2 {
			t.Errorf("%s: head %v, %v; want 2: one received, one copy", name, head, err)
		}
	}
}

func TestShardDoesNotOpenOnAJournalThatWentBack(t *testing.T) {
	store := memory.NewStore()
	const shardID = 0
	batch := persistence.Batch{Highest: persistence.Position{Generation: 1, Offset: 90}}
	if err := store.Write(t.Context(), shardID, batch); err != nil {
		t.Fatal(err)
	}
	if err := store.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := Start(Options{
		Shards: 4, Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := cell{n, t}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	c.until("halted", func() bool { return len(n.Halted()) == 1 })
	if n.Ready() {
		t.Error("ready with a shard that waits for an operator")
	}
}

// What the checkpoint of an earlier generation covers is replayed, and stored
// as far as it can be.
func TestShardOfANewGenerationDrains(t *testing.T) {
	const shardID = 0
	journal, store := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore()
	data, err := proto.Marshal(&record.Record{Mailbox: "nobody", Kind: &record.Record_Trim{Trim: &record.Trim{}}})
	if err != nil {
		t.Fatal(err)
	}
	appended := make(chan error, 1)
	journal.Append(shardID, [][]byte{data, data}, func(_ persistence.Appended, err error) { appended <- err })
	checkpoint := persistence.Position{Generation: 1, Offset: 90}
	if err := errors.Join(
		<-appended,
		store.Write(t.Context(), shardID, persistence.Batch{Highest: checkpoint, Checkpoint: checkpoint}),
		store.Sync(t.Context()),
		journal.StartGeneration(t.Context(), shardID),
	); err != nil {
		t.Fatal(err)
	}
	c := start(t, Options{Journal: journal, Store: store, Keys: memory.NewKeys()})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := c.Drain(ctx); err != nil {
		t.Error(err)
	}
}

func TestRetentionLetsGoOfTheOldest(t *testing.T) {
	var options Options
	options.setDefaults()
	options.Limits.WriteAge = time.Millisecond
	options.Retention.Operations = 10
	c := start(t, options)
	users := c.join("alice", "bob")
	for i := range 40 {
		if _, err := c.send(users["alice"], "bob", fmt.Sprint(i), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var head talk.Head
	c.until("trimmed", func() bool {
		var err error
		head, err = c.Head(c.context(), "bob")
		return err == nil && head.Revision-head.First < 11
	})
	answers, _ := c.poll(users["bob"], 5, 0)
	got := c.await(answers)
	if got.refused == nil || got.refused.Reason != refusal.CursorTooOld || got.refused.ResumeRevision != head.First-1 {
		t.Fatalf("a cursor before what is kept got %+v", got)
	}
	answers, _ = c.poll(users["bob"], got.refused.ResumeRevision, 0)
	if got := c.await(answers); got.refused != nil || c.decoded(got.page)[0].GetRevision() != head.First {
		t.Errorf("the cursor to resume from got %+v", got)
	}
}
