package node

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// Friendship is answered when both mailboxes have it, whichever decided.
func TestFriendshipIsThereWhenItIsAnswered(t *testing.T) {
	c := start(t, Options{})
	sessions := c.join("alice", "bob")
	for _, pair := range [][2]string{{"alice", "bob"}, {"bob", "alice"}} {
		asks, answers := sessions[pair[0]], sessions[pair[1]]
		want := func(relation, mirror record.Relation) {
			t.Helper()
			for _, s := range []struct {
				user, peer string
				relation   record.Relation
			}{{asks.User, answers.User, relation}, {answers.User, asks.User, mirror}} {
				got, err := c.Contact(c.context(), s.user, s.peer)
				if err != nil || got.Relation != s.relation {
					t.Errorf("%s has %s as %v, want %v; error %v", s.user, s.peer, got.GetRelation(), s.relation, err)
				}
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(c.Befriend(c.context(), asks, answers.User, talk.RequestFriend))
		want(record.Relation_RELATION_REQUESTED, record.Relation_RELATION_RECEIVED)
		must(c.Befriend(c.context(), answers, asks.User, talk.AcceptFriend))
		want(record.Relation_RELATION_FRIEND, record.Relation_RELATION_FRIEND)
		must(c.Befriend(c.context(), asks, answers.User, talk.RemoveFriend))
		want(record.Relation_RELATION_NONE, record.Relation_RELATION_NONE)

		invitation, err := c.Invite(c.context(), asks)
		must(err)
		owner, err := c.Redeem(c.context(), answers, invitation.Code)
		must(err)
		if owner != asks.User || time.Until(invitation.ExpireTime) > mailbox.InvitationLife {
			t.Errorf("the invitation is of %s, until %v", owner, invitation.ExpireTime)
		}
		c.until("friends", func() bool {
			got, err := c.Contact(c.context(), asks.User, answers.User)
			return err == nil && got.Relation == record.Relation_RELATION_FRIEND
		})
		// A client that did not get the answer asks again.
		_, err = c.Redeem(c.context(), answers, invitation.Code)
		must(err)
		must(c.Befriend(c.context(), asks, answers.User, talk.RemoveFriend))
	}
}

func TestContactsThatAreRefused(t *testing.T) {
	c := start(t, Options{})
	sessions := c.join("alice", "bob")
	alice := sessions["alice"]
	invitation, err := c.Invite(c.context(), sessions["bob"])
	if err != nil {
		t.Fatal(err)
	}
	redeem := func(code string) error { _, err := c.Redeem(c.context(), alice, code); return err }
	contacts := func(since int64) error {
		_, err := c.Contacts(c.context(), "alice", &record.ContactsQuery{Since: since, Limit: 10})
		return err
	}
	for what, refused := range map[string]struct {
		err  error
		want refusal.Reason
	}{
		"request to nobody":    {c.Befriend(c.context(), alice, "nobody", talk.RequestFriend), refusal.UnknownRecipient},
		"removal of nobody":    {c.Befriend(c.context(), alice, "nobody", talk.RemoveFriend), refusal.UnknownRecipient},
		"request to oneself":   {c.Befriend(c.context(), alice, "alice", talk.RequestFriend), refusal.Yourself},
		"nothing to accept":    {c.Befriend(c.context(), alice, "bob", talk.AcceptFriend), refusal.NoRequest},
		"nobody blocked":       {c.EditContact(c.context(), alice, "nobody", talk.ContactEdit{Blocked: new(true)}), refusal.UnknownRecipient},
		"no code":              {redeem("?"), refusal.UnknownInvitation},
		"a short code":         {redeem(invitation.Code[:10]), refusal.UnknownInvitation},
		"a code of nobody":     {redeem(invitation.Code + "YWJj"), refusal.UnknownInvitation},
		"another secret":       {redeem("A" + invitation.Code[1:]), refusal.UnknownInvitation},
		"a revision to come":   {contacts(99), refusal.CursorAhead},
		"contacts of a nobody": {func() error { _, err := c.Contacts(c.context(), "nobody", new(record.ContactsQuery)); return err }(), refusal.UnknownRecipient},
	} {
		if !reasonIs(refused.err, refused.want) {
			t.Errorf("%s: got %v, want %v", what, refused.err, refused.want)
		}
	}
}

// What requests may pile up is bounded, before they are recorded.
func TestRequestsAreBounded(t *testing.T) {
	c := start(t, Options{})
	users := []string{"bob"}
	for i := range mailbox.MaxRequests + 1 {
		users = append(users, fmt.Sprint("user", i))
	}
	accounts := make([]talk.NewAccount, len(users))
	for i, user := range users {
		accounts[i].User = user
	}
	if _, err := c.CreateAccounts(c.context(), accounts); err != nil {
		t.Fatal(err)
	}
	for i, user := range users[1:] {
		err := c.Befriend(c.context(), talk.Session{User: user}, "bob", talk.RequestFriend)
		if last := i == mailbox.MaxRequests; last != reasonIs(err, refusal.TooManyContacts) || !last && err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
}

// A Version record precedes the first record of a version in each shard, so
// that a program which does not know the version stops there; a shard that is
// opened again may have another.
func TestVersionPrecedesItsRecords(t *testing.T) {
	options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys()}
	options.CheckpointInterval = time.Hour // nothing is truncated
	for range 2 {
		n := start(t, options)
		sessions := n.join("alice", "bob", "carol", "dave")
		if _, err := n.send(sessions["alice"], "bob", fmt.Sprint(n.polls.Load()), "hello"); err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	versions := 0
	for shard := range uint32(4) {
		entries, err := options.Journal.Read(t.Context(), shard, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var version uint32
		for _, entry := range entries {
			var r record.Record
			if err := proto.Unmarshal(entry.Data, &r); err != nil {
				t.Fatal(err)
			}
			if r.GetVersion() != nil {
				version = r.GetVersion().GetApplyVersion()
				versions++
			}
			if r.ApplyVersion > version {
				t.Errorf("offset %d of shard %d is of version %d, after %d", entry.Position.Offset, shard, r.ApplyVersion, version)
			}
		}
	}
	if versions == 0 || versions > 8 {
		t.Errorf("%d version records", versions)
	}
}
