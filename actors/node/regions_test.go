package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
)

// regions are gateways in three places, and how long a frame takes from each to
// the talk tier, or back.
var regions = map[string]time.Duration{
	"gateway-tokyo": 5 * time.Millisecond, "gateway-frankfurt": 120 * time.Millisecond, "gateway-singapore": 40 * time.Millisecond,
}

// world is a talk tier in one place with gateways in several. Its time is the
// bubble's: what takes no trip takes no time.
func world(t *testing.T, run func(t *testing.T, f *fleet, users map[string]talk.Session)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		t.Cleanup(func() { // after the nodes
			if err := f.options.Journal.Close(); err != nil {
				t.Error(err)
			}
		})
		f.network.Delay(func(from, to string) time.Duration { return regions[from] + regions[to] })
		f.start("talk-1", cluster.RoleTalk)
		f.start("talk-2", cluster.RoleTalk)
		for name := range regions {
			f.start(name, cluster.RoleGateway)
		}
		f.ready()
		users := f.nodes["talk-1"].join(names...)
		// Every gateway has seen every user: keys are fetched once.
		for name := range regions {
			for _, user := range names {
				if err := f.nodes[name].CheckSession(f.nodes[name].context(), users[user]); err != nil {
					t.Fatal(err)
				}
			}
		}
		run(t, f, users)
	})
}

// A message from one place to another crosses the sender's link once and the
// recipient's once, wherever the two are; the sender's answer comes back over the
// sender's link, and no link is crossed twice for either.
func TestAMessageCrossesEachLinkOnce(t *testing.T) {
	world(t, func(t *testing.T, f *fleet, users map[string]talk.Session) {
		n := 0
		for from, there := range regions {
			for to, here := range regions {
				n++
				sender, recipient := names[0], names[1]
				head, err := f.nodes["talk-1"].Head(f.nodes["talk-1"].context(), recipient)
				if err != nil {
					t.Fatal(err)
				}
				held, _ := f.nodes[to].poll(users[recipient], head.Revision, time.Minute)
				<-time.After(time.Second) // it is with its mailbox
				began := time.Now()
				arrived := make(chan time.Duration, 1)
				go func() {
					<-held
					arrived <- time.Since(began)
				}()
				if _, err := f.nodes[from].send(users[sender], recipient, fmt.Sprint(n), "hello"); err != nil {
					t.Fatal(err)
				}
				answered := time.Since(began)
				if got := <-arrived; got != there+here {
					t.Errorf("%s to %s: there after %v, want %v", from, to, got, there+here)
				}
				if answered != 2*there {
					t.Errorf("%s to %s: answered after %v, want %v", from, to, answered, 2*there)
				}
				t.Logf("%s to %s: there after %v, answered after %v", from, to, there+here, answered)
			}
		}
	})
}

// A link that is cut stalls those behind it, and nobody else; when it is whole
// again, what was held is answered.
func TestACutLinkStallsItsOwnRegion(t *testing.T) {
	world(t, func(t *testing.T, f *fleet, users map[string]talk.Session) {
		const cut = "gateway-frankfurt"
		alice, bob, carol := users["alice"], users["bob"], users["carol"]
		stalled, _ := f.nodes[cut].poll(alice, 0, 110*time.Second)
		<-time.After(time.Second)
		f.network.Lose(func(from, to string) bool { return from == cut || to == cut })
		for n := range 20 { // for as long as it takes to notice, and longer
			<-time.After(500 * time.Millisecond)
			began := time.Now()
			if _, err := f.nodes["gateway-singapore"].send(bob, "alice", fmt.Sprint(n), "hello"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != 2*regions["gateway-singapore"] {
				t.Errorf("a send elsewhere took %v", took)
			}
		}
		if _, err := f.nodes[cut].send(carol, "bob", "1", "hello"); err == nil {
			t.Error("a send over the link that is cut was answered")
		}
		select {
		case got := <-stalled:
			t.Errorf("the poll behind the link was answered %+v", got)
		default:
		}
		f.network.Lose(nil)
		got := f.nodes[cut].await(stalled)
		if got.refused != nil || len(got.page.Operations) != 20 {
			t.Errorf("answered %+v", got)
		}
	})
}

// A device that goes to another gateway, since its network is another now, is
// woken there, although the one that it left holds its poll as well for a while
// and renews that.
func TestADeviceGoesToAnotherGateway(t *testing.T) {
	world(t, func(t *testing.T, f *fleet, users map[string]talk.Session) {
		const left, next = "gateway-tokyo", "gateway-singapore"
		alice, bob := users["alice"], users["bob"]
		older, _ := f.nodes[left].poll(alice, 0, 100*time.Second)
		<-time.After(20 * time.Second)
		began := time.Now()
		newer, _ := f.nodes[next].poll(alice, 0, 100*time.Second)
		if got := f.nodes[left].await(older); got.refused != nil || got.page.Reason != talk.Superseded || got.page.Revision != 0 {
			t.Errorf("the poll that it left is answered %+v", got)
		}
		if took := time.Since(began); took != regions[next]+regions[left] {
			t.Errorf("the poll that it left ends after %v", took)
		}
		<-time.After(15 * time.Second) // the older one would have been renewed
		if _, err := f.nodes[next].send(bob, "alice", "1", "hello"); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-newer:
			if got.refused != nil || len(got.page.Operations) != 1 {
				t.Errorf("answered %+v", got)
			}
		case <-time.After(time.Second):
			t.Error("the device is not woken where it is")
		}
	})
}
