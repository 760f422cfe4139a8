package kubernetes

import (
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/cluster"
)

const testLease = 4 * time.Second

func talkNode(name string) cluster.Member {
	return cluster.Member{Name: name, Address: name + ":7500", Role: cluster.RoleTalk, State: cluster.StateActive, Weight: 100, Version: "v1", Apply: 3}
}

func options(n *network) Options {
	return Options{Server: "https://api", Namespace: "chat", Lease: testLease, Client: n.client()}
}

// join makes a member that leaves at the end of the test.
func join(t *testing.T, n *network, name string) *Membership {
	t.Helper()
	m, err := Join(t.Context(), options(n), talkNode(name))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func leave(t *testing.T, members ...*Membership) {
	t.Helper()
	for _, m := range members {
		if err := m.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// names returns who the members are, as one sees it.
func names(s cluster.Snapshot) string {
	var all []string
	for _, m := range s.Members {
		all = append(all, m.Name+" "+string(m.State))
	}
	return strings.Join(all, ", ")
}

// pass lets the bubble's time pass.
func pass(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // the bubble's time

func isEvicted(m *Membership) bool {
	select {
	case <-m.Evicted():
		return true
	default:
		return false
	}
}

func TestMembersSeeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		one, two := join(t, &network{fake: server}, "talk-1"), join(t, &network{fake: server}, "Talk-2")
		if strings.ToLower(two.Self().ID) != two.Self().ID {
			t.Errorf("a lease is called %s", two.Self().ID)
		}
		watcher, err := Observe(t.Context(), options(&network{fake: server}))
		if err != nil {
			t.Fatal(err)
		}
		if err := two.SetState(t.Context(), cluster.StateDraining); err != nil {
			t.Fatal(err)
		}
		serves := cluster.NewShardSet(16, func(shard uint32) bool { return shard < 3 })
		one.Tell(serves, "journal")
		synctest.Wait()
		for _, s := range []cluster.Snapshot{one.Snapshot(), two.Snapshot(), watcher.Snapshot()} {
			if got, want := names(s), "talk-1 active, Talk-2 draining"; got != want && got != "Talk-2 draining, talk-1 active" {
				t.Errorf("the members are %s, want %s", got, want)
			}
			if s.Revision != one.Snapshot().Revision {
				t.Errorf("at revision %d and %d", s.Revision, one.Snapshot().Revision)
			}
			if m, _ := s.Member(one.Self().ID); m.Serves != serves || m.Unfit != "journal" || m.Address != "talk-1:7500" || m.Apply != 3 {
				t.Errorf("the first says of itself %+v", m)
			}
		}
		leave(t, two)
		synctest.Wait()
		if got := names(one.Snapshot()); got != "talk-1 active" {
			t.Errorf("after the other left the members are %s", got)
		}
		if isEvicted(one) {
			t.Error("the first was evicted")
		}
		leave(t, one, two)
		if err := watcher.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Renewals are seen and tell nobody anything.
func TestRenewalsPublishNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		one, two := join(t, &network{fake: server}, "talk-1"), join(t, &network{fake: server}, "talk-2")
		synctest.Wait()
		published := 0
		unsubscribe := one.Subscribe(func(cluster.Snapshot) { published++ })
		pass(10 * testLease)
		synctest.Wait()
		if published != 1 {
			t.Errorf("published %d times", published)
		}
		server.set(func(f *fake) {
			if f.writes < 60 {
				t.Errorf("only %d renewals of two members in ten leases", f.writes)
			}
		})
		unsubscribe()
		leave(t, one, two)
	})
}

// One that cannot renew is removed by the others, and learns it when it can be told.
func TestASilentMemberIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, cut := newFake(), &network{}
		cut.fake = server
		one, two := join(t, &network{fake: server}, "talk-1"), join(t, cut, "talk-2")
		pass(2 * testLease)
		cut.setCut(true)
		pass(testLease / 2)
		synctest.Wait()
		if got := names(one.Snapshot()); got != "talk-1 active, talk-2 active" {
			t.Errorf("after half a lease the members are %s", got)
		}
		pass(testLease)
		synctest.Wait()
		if got := names(one.Snapshot()); got != "talk-1 active" {
			t.Errorf("after more than a lease the members are %s", got)
		}
		if isEvicted(two) {
			t.Error("it takes itself for evicted, and nobody told it")
		}
		cut.setCut(false)
		pass(testLease)
		synctest.Wait()
		if !isEvicted(two) || isEvicted(one) {
			t.Errorf("evicted: %v and %v", isEvicted(one), isEvicted(two))
		}
		if err := two.SetState(t.Context(), cluster.StateDraining); !errors.Is(err, cluster.ErrEvicted) {
			t.Errorf("its state: %v", err)
		}
		leave(t, one, two)
	})
}

// One that is cut off from the API server alone learns from the signs of others that
// it was replaced. Without signs, or with those of a moment, it goes on.
func TestAMemberThatIsCutOffLeavesWhenOthersHaveItsShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		networks := []*network{{fake: server}, {fake: server}, {fake: server}}
		doubts, sees, knows := join(t, networks[0], "talk-1"), join(t, networks[1], "talk-2"), join(t, networks[2], "talk-3")
		networks[0].setCut(true)
		networks[1].setCut(true)
		for range 3 {
			sees.Doubt() // within a moment: what was under way
		}
		for range 8 {
			pass(testLease / 4)
			doubts.Doubt()
			knows.Doubt() // the API server knows better
		}
		synctest.Wait()
		if !isEvicted(doubts) || isEvicted(sees) || isEvicted(knows) {
			t.Errorf("evicted: %v, %v and %v", isEvicted(doubts), isEvicted(sees), isEvicted(knows))
		}
		for i, m := range []*Membership{doubts, sees, knows} {
			networks[i].setCut(false)
			leave(t, m)
		}
	})
}

// However long the API server is away, hangs or takes no writes: nobody is evicted,
// and the members stay what they were.
func TestAnOutageOfTheAPIServerEvictsNobody(t *testing.T) {
	for name, outage := range map[string]func(*fake, []*network, bool){
		"away": func(_ *fake, networks []*network, begins bool) {
			for _, n := range networks {
				n.setCut(begins)
			}
		},
		"takes no writes": func(f *fake, _ []*network, begins bool) { f.set(func(f *fake) { f.frozen = begins }) },
		"tells nothing":   func(f *fake, _ []*network, begins bool) { f.set(func(f *fake) { f.deaf = begins }) },
		"forgot": func(f *fake, networks []*network, begins bool) {
			f.set(func(f *fake) { f.oldest, f.history = f.revision+1, nil })
			for _, n := range networks {
				n.setCut(begins)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newFake()
				networks := []*network{{fake: server}, {fake: server}, {fake: server}}
				var members []*Membership
				for i, n := range networks {
					members = append(members, join(t, n, "talk-"+string(rune('1'+i))))
				}
				pass(3 * testLease)
				for range 3 {
					outage(server, networks, true)
					pass(7 * testLease)
					outage(server, networks, false)
					pass(5 * testLease)
				}
				synctest.Wait()
				for _, m := range members {
					if isEvicted(m) || names(m.Snapshot()) != "talk-1 active, talk-2 active, talk-3 active" {
						t.Errorf("%s: evicted %v, the members are %s", m.Self().Name, isEvicted(m), names(m.Snapshot()))
					}
				}
				// It works as before.
				if err := members[2].SetState(t.Context(), cluster.StateDraining); err != nil {
					t.Error(err)
				}
				pass(3 * testLease)
				synctest.Wait()
				if got := names(members[0].Snapshot()); got != "talk-1 active, talk-2 active, talk-3 draining" {
					t.Errorf("afterwards the members are %s", got)
				}
				leave(t, members...)
			})
		})
	}
}

// A watch that says nothing for longer than members are silent is broken.
func TestAHungWatchIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		one, two := join(t, &network{fake: server}, "talk-1"), join(t, &network{fake: server}, "talk-2")
		pass(2 * testLease)
		server.set(func(f *fake) { f.hung = f.revision + 1 })
		pass(testLease)
		if err := two.SetState(t.Context(), cluster.StateDraining); err != nil {
			t.Fatal(err)
		}
		pass(10 * testLease)
		synctest.Wait()
		for _, m := range []*Membership{one, two} {
			if got := names(m.Snapshot()); isEvicted(m) || got != "talk-1 active, talk-2 draining" {
				t.Errorf("%s: evicted %v, the members are %s", m.Self().Name, isEvicted(m), got)
			}
		}
		leave(t, one, two)
	})
}

// A write whose answer was lost has happened. The next one is made on top of it.
func TestALostAnswerIsNoConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		m := join(t, &network{fake: server}, "talk-1")
		for range 3 {
			server.set(func(f *fake) { f.loseNext = true })
			pass(testLease)
		}
		if err := m.SetState(t.Context(), cluster.StateDraining); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if isEvicted(m) || names(m.Snapshot()) != "talk-1 draining" {
			t.Errorf("evicted %v, the members are %s", isEvicted(m), names(m.Snapshot()))
		}
		leave(t, m)
	})
}

// A call that hangs does not cost the lease: the next one is made in time.
func TestACallThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		one, two := join(t, &network{fake: server}, "talk-1"), join(t, &network{fake: server}, "talk-2")
		for range 8 {
			pass(2 * testLease)
			server.set(func(f *fake) { f.hangNext = true })
		}
		synctest.Wait()
		for _, m := range []*Membership{one, two} {
			if isEvicted(m) || names(m.Snapshot()) != "talk-1 active, talk-2 active" {
				t.Errorf("%s: evicted %v, the members are %s", m.Self().Name, isEvicted(m), names(m.Snapshot()))
			}
		}
		server.set(func(f *fake) { f.hangNext = false })
		leave(t, one, two)
	})
}

// A lease that was removed and made anew by another is another's.
func TestALeaseOfThatNameIsNotTheOwnOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		m := join(t, &network{fake: server}, "talk-1")
		server.set(func(f *fake) {
			l := f.leases[m.Self().ID]
			f.revision++
			l.Metadata.UID, l.Metadata.ResourceVersion = "another", "999"
			f.leases[m.Self().ID] = l
		})
		pass(testLease)
		synctest.Wait()
		if !isEvicted(m) {
			t.Error("it goes on with the lease of another")
		}
		leave(t, m)
	})
}

func TestNonsenseAndOtherClustersAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newFake()
		one := join(t, &network{fake: server}, "talk-1")
		other := options(&network{fake: server})
		other.Cluster = "other"
		apart, err := Join(t.Context(), other, talkNode("talk-9"))
		if err != nil {
			t.Fatal(err)
		}
		server.set(func(f *fake) {
			for _, content := range []string{"", "{", `{"role":"king"}`} {
				f.revision++
				l := one.newLease(content)
				l.Metadata.Name, l.Spec.HolderIdentity = "nonsense"+string(rune('a'+len(content))), "x"
				l.Metadata.ResourceVersion = "500"
				f.leases[l.Metadata.Name] = l
				f.tell(eventAdded, l)
			}
		})
		synctest.Wait()
		if got := names(one.Snapshot()); got != "talk-1 active" {
			t.Errorf("the members are %s", got)
		}
		if got := names(apart.Snapshot()); got != "talk-9 active" {
			t.Errorf("those of the other are %s", got)
		}
		leave(t, one, apart)
	})
}

// The real client, over TLS, with the files that a pod has; the token is read anew.
func TestOverHTTPSAsAServiceAccount(t *testing.T) {
	api := newFake()
	api.token = "first"
	server := httptest.NewTLSServer(api)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write := func(name, content string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	ca := write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	o := Options{Server: server.URL, Namespace: "chat", TokenFile: write("token", "wrong\n"), CAFile: ca}
	if _, err := Join(t.Context(), o, talkNode("talk-1")); !isStatus(err, 401) {
		t.Fatalf("with a wrong token: %v", err)
	}
	write("token", "first\n")
	m, err := Join(t.Context(), o, talkNode("talk-1"))
	if err != nil {
		t.Fatal(err)
	}
	write("token", "second\n")
	api.set(func(f *fake) { f.token = "second" })
	if err := m.SetState(t.Context(), cluster.StateDraining); err != nil {
		t.Error(err)
	}
	if err := m.Leave(t.Context()); err != nil || len(api.leases) != 0 {
		t.Errorf("left %v, %v", api.leases, err)
	}
	o.CAFile = write("none", "")
	if _, err := Join(t.Context(), o, talkNode("talk-1")); err == nil {
		t.Error("a file without an authority was taken for one")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Setenv(hostVariable, "")
	for name, o := range map[string]Options{
		"no pod":           {Namespace: "chat"},
		"no URL":           {Server: "here", Namespace: "chat", TokenFile: "t", CAFile: os.DevNull},
		"a negative lease": {Server: "https://api", Namespace: "chat", Lease: -1},
		"no authority":     {Server: "https://api", Namespace: "chat", TokenFile: "t", CAFile: "no/such"},
	} {
		if _, err := Observe(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Join(t.Context(), Options{}, cluster.Member{}); err == nil {
		t.Error("a member without a role was accepted")
	}
}
