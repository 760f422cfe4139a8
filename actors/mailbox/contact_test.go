package mailbox

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// Whatever three people do to each other's contacts, and however late one
// mailbox hears of another: when all has arrived, each two agree on what they
// are to each other, friends have what the other shows, and a device that followed the operations has what the
// mailbox has.
func TestFriendshipIsSymmetric(t *testing.T) {
	people := []string{"alice", "bob", "carol"}
	verbs := []string{
		"request", "request", "accept", "accept", "decline", "remove", "block", "unblock", "favor", "unfavor", "rename", "invite", "redeem", "send",
		"show", "show", "set",
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, people...)
		seen := map[string]map[string]*record.Contact{}
		for _, user := range people {
			seen[user] = map[string]*record.Contact{}
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if ways := w.ways(); len(ways) > 0 && rapid.Bool().Draw(rt, "deliver") {
				w.deliver(rapid.SampledFrom(ways).Draw(rt, "way"))
				continue
			}
			user, peer := rapid.SampledFrom(people).Draw(rt, "user"), rapid.SampledFrom(people).Draw(rt, "peer")
			verb := rapid.SampledFrom(verbs).Draw(rt, "verb")
			word := rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "word")
			args := []string{peer, word}
			if verb == "invite" {
				args = []string{word}
			}
			switch verb {
			case "show":
				args = []string{"display_name='" + word + "'", "status_message='" + word + "'"}
			case "set":
				args = []string{"sees_status_message=" + rapid.SampledFrom([]string{"AUDIENCE_FRIENDS", "AUDIENCE_NOBODY"}).Draw(rt, "audience")}
			}
			w.do(w.request(user, "phone", verb, args))
			if rapid.IntRange(0, 9).Draw(rt, "reload") == 0 {
				w.reload()
			}
		}
		w.settle()
		w.reload()
		for user, operations := range w.heard {
			for _, op := range operations {
				if u := op.GetContactUpdated(); u != nil {
					if u.Contact.Revision != op.Revision {
						rt.Fatalf("operation %d tells of a contact at %d", op.Revision, u.Contact.Revision)
					}
					seen[user][u.UserId] = u.Contact
				}
			}
		}
		for _, user := range people {
			for _, other := range people {
				has, other := w.mailboxes[user].Contact(other), other
				if !sameContact(has, seen[user][other]) {
					rt.Errorf("%s has %s as %s, and a device %s", user, other, contactInWords(has), contactInWords(seen[user][other]))
				}
				its, theirs := w.mailboxes[user].parts.contact(other), w.mailboxes[other].parts.contact(user)
				if its.GetRelation() == record.Relation_RELATION_FRIEND && !proto.Equal(its.Profile, w.mailboxes[other].Profile(user)) {
					rt.Errorf("%s has of %s %v, who shows %v", user, other, its.Profile, w.mailboxes[other].Profile(user))
				}
				if its.GetRelation() != mirror(theirs.GetRelation()) {
					rt.Errorf("%s has %s as %s, and the other way %s", user, other, contactInWords(its), contactInWords(theirs))
				}
			}
		}
	})
}

func TestFriendshipIsTakenInOrderAndOnce(t *testing.T) {
	w := newWorld(t, "alice", "bob")
	w.do(w.request("alice", "phone", "request", []string{"bob"}))
	asked := w.onTheWay[way{"alice", "bob"}][0]
	w.do(w.request("alice", "phone", "remove", []string{"bob"}))
	w.settle()
	if out := w.apply(asked); len(out.Operations) != 0 || len(out.Write.Sources) != 0 {
		t.Errorf("taken again: %+v", out)
	}
	if c := w.mailboxes["bob"].Contact("alice"); c.Relation != record.Relation_RELATION_NONE {
		t.Errorf("contact %v", c)
	}
}

func TestContactsAreBounded(t *testing.T) {
	w := newWorld(t, "bob")
	for i := range MaxContacts {
		w.do("bob", editContact(fmt.Sprint("user", i), "phone", block(true)))
	}
	for _, c := range []struct {
		user string
		set  func(*record.EditContact)
		want refusal.Reason
	}{
		{"another", block(true), refusal.TooManyContacts},
		{"another", rename("A"), refusal.TooManyContacts},
		{"another", favor(false), refusal.None},
		{"user7", favor(true), refusal.None},
		{"user8", block(false), refusal.None},
		{"another", block(true), refusal.None},
	} {
		if out := w.do("bob", editContact(c.user, "phone", c.set)); out.Answer.Reason != c.want {
			t.Errorf("%s: refused: %q, want %q", c.user, out.Answer.Reason, c.want)
		}
	}
	contacts, requests := w.mailboxes["bob"].ContactCounts()
	if contacts != MaxContacts || requests != 0 {
		t.Errorf("%d contacts, %d requests", contacts, requests)
	}
}

// Who asks what changed is told of removals, as far back as they are
// remembered.
func TestContactsSinceARevision(t *testing.T) {
	w := newWorld(t, "bob")
	set := func(user string, blocked bool) { w.do("bob", editContact(user, "phone", block(blocked))) }
	set("alice", true)
	set("carol", true)
	set("alice", false)
	bob := w.mailboxes["bob"]
	list := func(since int64) (*record.Known, *refusal.Refusal) {
		return bob.Query(&record.Query{About: &record.Query_Contacts{Contacts: &record.ContactsQuery{Since: since, Limit: 10}}})
	}
	for since, want := range []string{"carol", "alice carol", "alice", ""} {
		known, refused := list(int64(since))
		var got []string
		for _, c := range known.GetContacts() {
			got = append(got, c.UserId)
		}
		if strings.Join(got, " ") != want || refused != nil {
			t.Errorf("since %d: %v, %v; want %s", since, got, refused, want)
		}
	}
	for i := range MaxRemovedContacts {
		set(fmt.Sprint("user", i), true)
		set(fmt.Sprint("user", i), false)
	}
	w.reload()
	// Alice is forgotten: her removal was at 3.
	for since, want := range map[int64]bool{0: true, 1: false, 2: false, 3: true, 4: true} {
		if _, refused := list(since); (refused == nil) != want {
			t.Errorf("since %d: %v, want %v", since, refused, want)
		}
	}
	if n := len(bob.parts.contacts); n != MaxRemovedContacts+1 {
		t.Errorf("%d contacts are remembered", n)
	}
}

func TestInvitationsAreBounded(t *testing.T) {
	w := newWorld(t, "bob")
	invite := func(code string) refusal.Reason { return w.do("bob", createInvitation(code)).Answer.Reason }
	for i := range MaxInvitations {
		if reason := invite(fmt.Sprint(i)); reason != refusal.None {
			t.Fatalf("refused: %q", reason)
		}
	}
	if reason := invite("more"); reason != refusal.TooManyInvitations {
		t.Errorf("refused: %q", reason)
	}
	w.time += (InvitationLife - time.Millisecond).Milliseconds()
	if reason := invite("more"); reason != refusal.TooManyInvitations {
		t.Errorf("refused: %q", reason)
	}
	w.time++
	if reason := invite("more"); reason != refusal.None || len(w.mailboxes["bob"].parts.invitations) != 1 {
		t.Errorf("refused: %q, %d open", reason, len(w.mailboxes["bob"].parts.invitations))
	}
}

// What no client can ask for is a mistake: friendship decided in a mailbox that
// is not its home, and actions and relations that there are not.
func TestBefriendByMistake(t *testing.T) {
	for name, r := range map[string]*record.Record{
		"elsewhere":   command("1", befriend("bob", "phone", "alice", record.Befriend_REQUEST)),
		"no action":   command("1", befriend("bob", "phone", "carol", record.Befriend_ACTION_UNSPECIFIED)),
		"no relation": {Source: &record.Source{Mailbox: "alice", Offset: 7}, Kind: &record.Record_Friendship{Friendship: &record.Friendship{Relation: 9}}},
	} {
		b := newAccount(t)
		out := b.apply(r)
		if out.Answer.Reason != refusal.Internal || out.Fault == "" || len(out.Write.Parts)+len(out.FollowUps) != 0 {
			t.Errorf("%s: outcome %+v", name, out)
		}
	}
}
