package node

import (
	"fmt"
	"testing"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// A record with follow-ups for many mailboxes is answered when all of them are
// there, whatever shards they lie in.
func TestProfileReachesEveryFriend(t *testing.T) {
	c := start(t, Options{})
	users := []string{"bob"}
	for i := range 30 {
		users = append(users, fmt.Sprint("friend", i))
	}
	sessions := c.join(users...)
	bob := sessions["bob"]
	for _, user := range users[1:] {
		invitation, err := c.Invite(c.context(), bob)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Redeem(c.context(), sessions[user], invitation.Code); err != nil {
			t.Fatal(err)
		}
	}
	c.until("friends", func() bool {
		contacts, err := c.Contacts(c.context(), "bob", &record.ContactsQuery{Limit: 100})
		return err == nil && len(contacts.Contacts) == len(users)-1
	})
	if err := c.UpdateProfile(c.context(), bob, &record.Profile{StatusMessage: new("on leave")}, []string{"status_message"}); err != nil {
		t.Fatal(err)
	}
	for _, user := range users[1:] {
		contact, err := c.Contact(c.context(), user, "bob")
		if err != nil || contact.GetProfile().GetStatusMessage() != "on leave" {
			t.Errorf("%s has %v of bob, error %v", user, contact.GetProfile(), err)
		}
	}
}

func TestWhoMayWriteIsDecidedByTheRecipient(t *testing.T) {
	c := start(t, Options{})
	sessions := c.join("alice", "bob")
	friends := &record.Settings{MayWrite: record.Audience_AUDIENCE_FRIENDS.Enum()}
	if err := c.UpdateSettings(c.context(), sessions["bob"], friends, []string{"may_write"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.send(sessions["alice"], "bob", "m1", "hello"); !reasonIs(err, refusal.NotFriends) {
		t.Errorf("got %v", err)
	}
	if err := c.UpdateDeviceSettings(c.context(), talk.Session{User: "bob", Device: "gone"}, new(record.DeviceSettings), nil); !reasonIs(err, refusal.UnknownDevice) {
		t.Errorf("got %v", err)
	}
	settings, err := c.Settings(c.context(), sessions["bob"])
	if err != nil || settings.User.GetMayWrite() != record.Audience_AUDIENCE_FRIENDS {
		t.Errorf("settings %v, error %v", settings.User, err)
	}
}
