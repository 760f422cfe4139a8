package node

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
)

// chatty joins what it is invited to, and answers whatever it is told, where it is
// told.
type chatty struct{}

func (chatty) Handle(c *behaviour.Context, state *wrapperspb.Int64Value, event behaviour.Event) error {
	switch e := event.(type) {
	case *behaviour.Membership:
		if e.Is == behaviour.Invited {
			c.Join(e.Chat)
		}
	case *behaviour.Message:
		state.Value++
		to := e.Chat
		if to == "" {
			to = e.From
		}
		c.Send(to, fmt.Sprintf("%d: %s", state.Value, e.Text()))
	case *behaviour.Call:
		c.Send(string(e.Body), "hello")
	}
	return nil
}

func chattering(users ...string) (all []Behaviour) {
	for _, user := range users {
		all = append(all, Behaviour{User: user, Kind: behaviour.New("chatty", chatty{})})
	}
	return all
}

// accounts waits until the accounts of behaviours are there.
func (c cell) accounts(users ...string) {
	c.t.Helper()
	c.until("accounts of "+strings.Join(users, ", "), func() bool {
		return !slices.ContainsFunc(users, func(user string) bool {
			_, err := c.Account(c.context(), user)
			return err != nil
		})
	})
}

// members waits until a chat has so many.
func (c cell) members(owner, chat string, count int32) {
	c.t.Helper()
	c.until(fmt.Sprint(count, " members"), func() bool {
		known, err := c.Chat(c.context(), owner, chat)
		return err == nil && known.GetMembership().GetChat().GetMembers() == count
	})
}

// A behaviour that answers whatever it is told is told something by another, which
// was called by way of a gateway: they answer one another, and fall silent.
func TestBehavioursFallSilent(t *testing.T) {
	f := newFleet(t)
	f.options.Behaviours = chattering("echo-1", "echo-2")
	var handled, tooFar atomic.Int64
	f.options.Observe.Behaviours.Outcome = func(_ string, o behaviour.Outcome) {
		switch o {
		case behaviour.Handled:
			handled.Add(1)
		case behaviour.Hops:
			tooFar.Add(1)
		default:
		}
	}
	f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	gateway.accounts("echo-1", "echo-2")
	for range 2 {
		if err := gateway.Call(gateway.context(), "echo-1", "id", []byte("echo-2")); err != nil {
			t.Fatal(err)
		}
	}
	gateway.until("silent", func() bool { return tooFar.Load() == 1 })
	if got := handled.Load(); got != 1+behaviour.MaxHops {
		t.Errorf("%d events were handled", got)
	}
}

// Two behaviours in a chat that answer whatever is written there answer one another,
// and fall silent. The chat, their mailboxes and the gateway are on several nodes.
func TestBehavioursInAChatFallSilent(t *testing.T) {
	f := newFleet(t)
	f.options.Behaviours = chattering("echo-1", "echo-2")
	var tooFar atomic.Int64
	f.options.Observe.Behaviours.Outcome = func(_ string, o behaviour.Outcome) {
		if o == behaviour.Hops {
			tooFar.Add(1)
		}
	}
	f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join("alice", "bob")
	gateway.accounts("echo-1", "echo-2")
	chat, err := gateway.CreateChat(gateway.context(), users["alice"], talk.NewChat{ClientID: "chat", Name: "echo", Invite: []string{"bob", "echo-1", "echo-2"}})
	if err != nil {
		t.Fatal(err)
	}
	gateway.members("alice", chat, 3)
	large := strings.Repeat("x", 2*mailbox.MaxCopiedBody)
	if _, err := gateway.send(users["alice"], chat, "hello", large); err != nil {
		t.Fatal(err)
	}
	gateway.until("silent", func() bool { return tooFar.Load() == 2 })

	answers, _ := gateway.poll(users["alice"], 0, patience)
	page := gateway.await(answers).page
	said := 0
	for _, text := range gateway.textsOf("alice", gateway.decoded(page)) {
		if strings.HasSuffix(text, large) && text != large {
			said++
		}
	}
	if want := 2 * behaviour.MaxHops; said != want {
		t.Errorf("they said %d things, want %d", said, want)
	}
}

// What is there is read at once when there is no time to wait.
func TestHostsReadWithoutWaiting(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bot")
	h := c.homeOf("bot")
	if got, err := h.Read(c.context(), 0, time.Now().Add(-time.Hour)); len(got) != 0 || err != nil {
		t.Errorf("read %v, %v", got, err)
	}
	if _, err := c.send(users["alice"], "bot", "hello", "hello"); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Read(c.context(), 0, time.Now().Add(-time.Hour)); len(got) != 1 || err != nil {
		t.Errorf("read %v, %v", got, err)
	}
}

// An answer that comes late takes no newer one's place.
func TestLateAnswersToHosts(t *testing.T) {
	c := start(t, Options{})
	h := c.homeOf("bot")
	for _, token := range []uint64{3, 5, 4} {
		c.system.Root.Send(h.pid, &shard.Fetched{Token: token})
	}
	if err := c.system.Root.PoisonFuture(h.pid).Wait(); err != nil {
		t.Fatal(err)
	}
	if m := <-h.fetched; m.Token != 5 {
		t.Errorf("the answer to fetch %d is there", m.Token)
	}
}

// A step into a chat waits until every node knows of such steps; others do not.
func TestStepsIntoChatsWaitForTheCluster(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bot")
	chat, err := c.CreateChat(c.context(), users["alice"], talk.NewChat{ClientID: "chat", Name: "chat", Invite: []string{"bot"}})
	if err != nil {
		t.Fatal(err)
	}
	c.apply.Store(8)
	h := c.homeOf("bot")
	step := func(id string, after string, sends ...*record.Effect) error {
		return h.Commit(c.context(), &behaviour.Step{ID: []byte(id), After: []byte(after), Memory: new(record.Memory), Sends: sends})
	}
	join := &record.Effect{To: chat, Id: make([]byte, persistence.MessageIDSize), Join: true}
	if err := step("first", ""); err != nil {
		t.Error(err)
	}
	if err := step("second", "first", join); !reasonIs(err, refusal.Upgrading) {
		t.Errorf("it was not waited for: %v", err)
	}
	c.apply.Store(mailbox.ApplyVersion)
	if err := step("second", "first", join); err != nil {
		t.Error(err)
	}
	c.members("alice", chat, 2)
}

// homeOf returns the home of a behaviour that does not run.
func (c cell) homeOf(user string) *home {
	h := &home{node: c.Node, user: user, fetched: make(chan *shard.Fetched, 1)}
	h.pid = c.system.Root.Spawn(actor.PropsFromFunc(h.receive))
	return h
}
