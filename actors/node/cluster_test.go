package node

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/link/linktest"
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// fleet is some nodes over the same stores, and a network between them.
type fleet struct {
	t       *testing.T
	network linktest.Network
	feed    cluster.Feed
	options Options
	views   map[string]*cluster.Feed // of nodes that do not see the feed itself
	nodes   map[string]cell
	ends    map[string]*linktest.Node

	mu      sync.Mutex // guards the following
	members []cluster.Member
	moves   map[uint32]string
	doubts  map[string]int // by name
}

func newFleet(t *testing.T) *fleet {
	return &fleet{
		t: t, views: map[string]*cluster.Feed{}, nodes: map[string]cell{}, ends: map[string]*linktest.Node{}, doubts: map[string]int{},
		options: Options{
			Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys(),
		},
	}
}

// fleetShards is how many shards a fleet has.
const fleetShards = 16

// start runs a node; talk nodes become members, that tell what they serve.
func (f *fleet) start(name string, role cluster.Role) cell {
	f.t.Helper()
	return f.startWith(name, role, f.options)
}

func (f *fleet) startWith(name string, role cluster.Role, options Options) cell {
	f.t.Helper()
	self := cluster.Member{
		ID: name + ".1", Name: name, Address: name, Role: role,
		State: cluster.StateActive, Weight: cluster.DefaultWeight, Apply: mailbox.ApplyVersion,
	}
	end := f.network.Node(name)
	one := &Cluster{Self: self, Membership: &f.feed, Network: end}
	if view := f.views[name]; view != nil {
		one.Membership = view
	}
	if role == cluster.RoleGateway {
		options = Options{}
	} else {
		self.Serves = cluster.NewShardSet(fleetShards, func(uint32) bool { return false })
		one.Teller, one.Doubter = member{f, name}, member{f, name}
	}
	options.Cluster, options.Shards = one, fleetShards
	n, err := Start(options)
	if err != nil {
		f.t.Fatal(err)
	}
	c := cell{n, f.t}
	f.nodes[name], f.ends[name] = c, end
	f.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			f.t.Error(err)
		}
		end.Close()
	})
	if role == cluster.RoleTalk {
		f.mu.Lock()
		f.members = append(f.members, self)
		f.publish()
		f.mu.Unlock()
	}
	return c
}

// publish has all nodes learn of the members. The caller holds mu.
func (f *fleet) publish() {
	s, err := cluster.NewSnapshot(f.feed.Snapshot().Revision+1, f.members)
	if err != nil {
		f.t.Error(err)
		return
	}
	s.Moves = maps.Clone(f.moves)
	f.feed.Publish(s)
}

// change changes what is known of a member.
func (f *fleet) change(name string, change func(*cluster.Member)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.members {
		if f.members[i].Name == name {
			change(&f.members[i])
			f.publish()
		}
	}
}

// leave has a node be no member any more.
func (f *fleet) leave(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = slices.DeleteFunc(f.members, func(m cluster.Member) bool { return m.Name == name })
	f.publish()
}

// member is a node's own part in the membership of a fleet.
type member struct {
	fleet *fleet
	name  string
}

// Tell implements cluster.Teller.
func (m member) Tell(serves cluster.ShardSet, unfit string) {
	m.fleet.change(m.name, func(member *cluster.Member) { member.Serves, member.Unfit = serves, unfit })
}

// Doubt implements cluster.Doubter.
func (m member) Doubt() {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.fleet.doubts[m.name]++
}

// places returns where the shards are by what is known.
func (f *fleet) places() *cluster.Map {
	f.t.Helper()
	places, err := cluster.NewMap(fleetShards, f.feed.Snapshot())
	if err != nil {
		f.t.Fatal(err)
	}
	return places
}

// serves returns how many shards a node serves by what is known.
func (f *fleet) serves(name string) int {
	m, _ := f.feed.Snapshot().Member(name + ".1")
	return m.Serves.Len()
}

func (f *fleet) ready() {
	f.t.Helper()
	for name, node := range f.nodes {
		node.until(name+" ready", node.Ready)
	}
}

// names are users whose mailboxes lie in different shards.
var names = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"}

// read polls a mailbox from its beginning until it has so many operations, and
// returns the texts that came in.
func (c cell) read(user talk.Session, revision int64) []string {
	c.t.Helper()
	var texts []string
	for after := int64(0); after < revision; {
		answers, _ := c.poll(user, after, patience)
		got := c.await(answers)
		if got.refused != nil {
			c.t.Fatalf("%s after %d: %v", user.User, after, got.refused)
		}
		for i, operation := range c.decoded(got.page) {
			if operation.GetRevision() != after+1+int64(i) {
				c.t.Fatalf("%s: revision %d follows %d", user.User, operation.GetRevision(), after+int64(i))
			}
		}
		after = got.page.Revision
		texts = append(texts, c.texts(user.User, got.page)...)
	}
	return texts
}

// traffic has every user send to the next, in order, until it is stopped.
type traffic struct {
	stop chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	sent map[string][]string // by recipient
	slow time.Duration       // the slowest since it was last asked
}

func (c cell) traffic(users map[string]talk.Session) *traffic {
	tr := &traffic{stop: make(chan struct{}), sent: map[string][]string{}}
	for i, from := range names {
		to := names[(i+1)%len(names)]
		tr.wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-tr.stop:
					return
				default:
				}
				text, began := fmt.Sprintf("%s-%d", from, n), time.Now()
				_, err := c.send(users[from], to, text, text)
				for again(err) {
					<-time.After(10 * time.Millisecond)
					_, err = c.send(users[from], to, text, text)
				}
				if err != nil {
					c.t.Errorf("send %s: %v", text, err)
					return
				}
				tr.mu.Lock()
				tr.sent[to] = append(tr.sent[to], text)
				tr.slow = max(tr.slow, time.Since(began))
				tr.mu.Unlock()
			}
		})
	}
	return tr
}

// again reports whether a client sends again under the same id: a new owner has
// much to store, or a node could not be heard for long.
func again(err error) bool {
	refused := refusal.From(err)
	return refused != nil && (refused.Reason == refusal.Busy || refused.Reason == refusal.OutcomeUnknown)
}

// slowest returns how long the slowest send took since the last call.
func (tr *traffic) slowest() time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	slow := tr.slow
	tr.slow = 0
	return slow.Round(time.Millisecond)
}

func (tr *traffic) count() (n int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, texts := range tr.sent {
		n += len(texts)
	}
	return n
}

// check reads every mailbox: each has what was sent to it, once and in order,
// and a copy of what its user sent.
func (tr *traffic) check(c cell, users map[string]talk.Session) {
	c.t.Helper()
	close(tr.stop)
	tr.wg.Wait()
	for i, to := range names {
		own := len(tr.sent[names[(i+1)%len(names)]])
		texts := c.read(users[to], int64(len(tr.sent[to])+own))
		received := slices.DeleteFunc(texts, func(text string) bool { return !slices.Contains(tr.sent[to], text) })
		if !slices.Equal(received, tr.sent[to]) {
			c.t.Errorf("%s was sent %d messages and received %d:\n%v\n%v", to, len(tr.sent[to]), len(received), tr.sent[to], received)
		}
	}
	c.t.Logf("%d messages", tr.count())
}

func TestGatewayServesTheMailboxesOfAllTalkNodes(t *testing.T) {
	f := newFleet(t)
	f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(names...)
	held, _ := gateway.poll(users["alice"], 0, time.Minute)
	if _, err := gateway.send(users["bob"], "alice", "1", "hello"); err != nil {
		t.Fatal(err)
	}
	got := gateway.await(held)
	if got.refused != nil || fmt.Sprint(gateway.texts("alice", got.page)) != "[hello]" {
		t.Fatalf("the poll was answered %+v", got)
	}
	if _, err := gateway.send(users["bob"], "nobody", "2", "hello"); refusal.From(err).Reason != refusal.UnknownRecipient {
		t.Errorf("a send to nobody: %v", err)
	}
	head, err := gateway.Head(gateway.context(), "bob")
	if err != nil || head.Revision != 1 {
		t.Errorf("bob's head is %+v, %v", head, err)
	}
	history, err := gateway.Messages(gateway.context(), "alice", "bob", 0, 10)
	if err != nil || len(history.Operations) != 1 {
		t.Errorf("alice's history is %+v, %v", history, err)
	}
	account, err := gateway.Account(gateway.context(), "alice")
	if err != nil {
		t.Errorf("alice's account is %+v, %v", account, err)
	}
	if err := gateway.SignOut(gateway.context(), users["bob"]); err != nil {
		t.Error(err)
	}
	if err := gateway.CheckSession(gateway.context(), users["bob"]); refusal.From(err).Reason != refusal.UnknownDevice {
		t.Errorf("a session that ended: %v", err)
	}
	gateway.until("divided", func() bool {
		one, two := f.nodes["talk-1"].Depths().Shards["open"], f.nodes["talk-2"].Depths().Shards["open"]
		return one > 0 && two > 0 && one+two == 16
	})
}

// Whatever users do about each other, and read of it, goes through a gateway as
// well.
func TestGatewayServesContacts(t *testing.T) {
	f := newFleet(t)
	f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(names...)
	ctx := gateway.context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, asks := range names[1:] {
		answers := names[i]
		must(gateway.Befriend(ctx, users[asks], answers, talk.RequestFriend))
		must(gateway.Befriend(ctx, users[answers], asks, talk.AcceptFriend))
		must(gateway.EditContact(ctx, users[answers], asks, talk.ContactEdit{Alias: new("friend " + asks)}))
		list, err := gateway.Contacts(ctx, answers, &record.ContactsQuery{Limit: 100})
		must(err)
		found := slices.IndexFunc(list.Contacts, func(c *record.ContactUpdate) bool { return c.UserId == asks })
		if found < 0 || list.Contacts[found].Contact.Alias != "friend "+asks {
			t.Fatalf("the contacts of %s are %v", answers, list)
		}
		contact, err := gateway.Contact(ctx, asks, answers)
		must(err)
		if contact.Relation != record.Relation_RELATION_FRIEND {
			t.Errorf("%s is %v to %s", answers, contact.Relation, asks)
		}
	}
	invitation, err := gateway.Invite(ctx, users["heidi"])
	must(err)
	owner, err := gateway.Redeem(ctx, users["alice"], invitation.Code)
	must(err)
	if owner != "heidi" {
		t.Errorf("the invitation is of %s", owner)
	}
	must(gateway.UpdateProfile(ctx, users["bob"], &record.Profile{StatusMessage: new("away")}, []string{"status_message"}))
	profile, err := gateway.Profile(ctx, "erin", "bob")
	must(err)
	contact, err := gateway.Contact(ctx, "alice", "bob")
	must(err)
	if profile.GetStatusMessage() != "away" || contact.Profile.GetStatusMessage() != "away" {
		t.Errorf("bob's profile is %v, and to a friend %v", profile, contact.Profile)
	}
	must(gateway.UpdateSettings(ctx, users["bob"], &record.Settings{Language: new("eo")}, []string{"language"}))
	settings, err := gateway.Settings(ctx, users["bob"])
	must(err)
	if settings.User.GetLanguage() != "eo" {
		t.Errorf("bob's settings are %v", settings.User)
	}
	for _, id := range []string{"1", "2"} {
		if _, err := gateway.send(users["alice"], "bob", id, id); err != nil {
			t.Fatal(err)
		}
	}
	unread := func() int64 {
		t.Helper()
		c, err := gateway.Conversation(ctx, "bob", "alice")
		must(err)
		return c.Received - c.Read
	}
	if got := unread(); got != 2 {
		t.Errorf("%d messages are unread, want 2", got)
	}
	list, err := gateway.Conversations(ctx, "bob", &record.ConversationsQuery{Limit: 10})
	must(err)
	if len(list.Conversations) != 1 || list.Conversations[0].Last.GetReceiveMessage() == nil {
		t.Fatalf("bob's conversations are %+v", list)
	}
	must(gateway.MarkRead(ctx, users["bob"], "alice", list.Conversations[0].Conversation.LastRevision))
	if got := unread(); got != 0 {
		t.Errorf("%d messages are unread, want 0", got)
	}
	if _, err := gateway.Contacts(ctx, "alice", &record.ContactsQuery{Since: 1000}); refusal.From(err).Reason != refusal.CursorAhead {
		t.Errorf("contacts since a revision that is not there yet: %v", err)
	}
}

// While some node is of an older version, nothing is done that it does not
// know.
func TestNewKindsWaitForEveryNode(t *testing.T) {
	f := newFleet(t)
	f.start("talk-1", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join("alice", "bob")
	f.change("talk-1", func(m *cluster.Member) { m.Apply = 1 })
	gateway.until("refused", func() bool {
		err := gateway.Befriend(gateway.context(), users["alice"], "bob", talk.RemoveFriend)
		_, look := gateway.Contact(gateway.context(), "alice", "bob")
		return err != nil && refusal.From(err).Reason == refusal.Upgrading && look != nil && refusal.From(look).Reason == refusal.Upgrading
	})
	if _, err := gateway.send(users["alice"], "bob", "1", "hello"); err != nil {
		t.Errorf("a message: %v", err)
	}
	answers := make(chan error, 1)
	gateway.Send(gateway.context(), talk.Send{
		From: "alice", To: "bob", ClientMessageID: "2", Body: talk.Body{Text: "hello", Forwarded: true},
		Answer: func(_ talk.Sent, err error) { answers <- err },
	})
	if err := <-answers; refusal.From(err).Reason != refusal.Upgrading {
		t.Errorf("a message that is forwarded: %v", err)
	}
	f.change("talk-1", func(m *cluster.Member) { m.Apply = mailbox.ApplyVersion })
	gateway.until("done", func() bool {
		return gateway.Befriend(gateway.context(), users["alice"], "bob", talk.RequestFriend) == nil
	})
}

func TestPollsStayOpenAndSendsGoOnWhileTalkNodesComeAndGo(t *testing.T) {
	f := newFleet(t)
	f.start("talk-1", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(append([]string{"waiting", "calling"}, names...)...)
	held, _ := gateway.poll(users["waiting"], 0, time.Minute)
	tr := gateway.traffic(users)
	more := func(what string) {
		t.Helper()
		before := tr.count()
		gateway.until("going on", func() bool { return tr.count() > before+100 })
		t.Logf("%s: the slowest send took %v", what, tr.slowest())
	}
	more("nothing happens")
	f.start("talk-2", cluster.RoleTalk)
	more("one joins")
	f.change("talk-1", func(m *cluster.Member) { m.State = cluster.StateDraining })
	if err := f.nodes["talk-1"].Drain(gateway.context()); err != nil {
		t.Error(err)
	}
	f.leave("talk-1")
	more("one drains and leaves")
	f.start("talk-3", cluster.RoleTalk)
	more("one joins")
	f.ends["talk-2"].Close() // dies, as far as anyone can tell, and goes on as an owner that was replaced
	f.leave("talk-2")
	more("one dies")
	if _, err := gateway.send(users["calling"], "waiting", "last", "at last"); err != nil {
		t.Fatal(err)
	}
	if got := gateway.await(held); got.refused != nil || fmt.Sprint(gateway.texts("waiting", got.page)) != "[at last]" {
		t.Errorf("the poll was answered %+v", got)
	}
	tr.check(gateway, users)
}

func TestLostFramesCostTimeOnly(t *testing.T) {
	f := newFleet(t)
	f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(names...)
	var mu sync.Mutex
	random, lost := rand.New(rand.NewPCG(1, 2)), 0
	f.network.Lose(func(string, string) bool {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(100) > 0 {
			return false
		}
		lost++
		return true
	})
	tr := gateway.traffic(users)
	gateway.until("enough", func() bool { return tr.count() > 500 })
	f.network.Lose(nil)
	tr.check(gateway, users)
	t.Logf("%d frames lost", lost)
}

// While nodes cannot hear each other, what is sent meanwhile waits, and nothing
// is wrong afterwards.
func TestCutsCostTimeOnly(t *testing.T) {
	f := newFleet(t)
	f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(names...)
	tr := gateway.traffic(users)
	between := func(one, other string) func(from, to string) bool {
		return func(from, to string) bool { return from == one && to == other || from == other && to == one }
	}
	for _, cut := range []struct {
		name  string
		loses func(from, to string) bool
	}{
		{"the gateway from a talk node", between("gateway-1", "talk-1")},
		{"the talk nodes from each other", between("talk-1", "talk-2")},
		{"what a talk node says", func(from, _ string) bool { return from == "talk-1" }},
		{"what a talk node hears", func(_, to string) bool { return to == "talk-1" }},
	} {
		f.network.Lose(cut.loses)
		<-time.After(3 * time.Second) // longer than it takes to find a node silent
		f.network.Lose(nil)
		before := tr.count()
		gateway.until("going on", func() bool { return tr.count() > before+200 })
		t.Logf("%s: the slowest send took %v", cut.name, tr.slowest())
	}
	tr.check(gateway, users)
}
