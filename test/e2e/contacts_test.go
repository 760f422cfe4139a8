package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// received puts the operations of a page into words, one a line.
func received(page *tegamiv1.FetchOpsResponse) []string {
	var lines []string
	for _, op := range page.GetOps() {
		switch kind := op.Kind.(type) {
		case *tegamiv1.Operation_ReceiveMessage:
			lines = append(lines, "from "+kind.ReceiveMessage.From+": "+strings.TrimPrefix(kind.ReceiveMessage.GetText(), secret+" "))
		case *tegamiv1.Operation_SendMessage:
			lines = append(lines, "to "+kind.SendMessage.To+": "+strings.TrimPrefix(kind.SendMessage.GetText(), secret+" "))
		case *tegamiv1.Operation_ContactUpdated:
			lines = append(lines, contactInWords(kind.ContactUpdated))
		default:
			lines = append(lines, fmt.Sprintf("%T", op.Kind))
		}
	}
	return lines
}

func contactInWords(c *tegamiv1.Contact) string {
	words := c.UserId + " " + c.Relation.String()
	if c.Blocked {
		words += " blocked"
	}
	if c.Favorite {
		words += " favorite"
	}
	if c.Alias != "" {
		words += " alias " + c.Alias
	}
	if c.Profile != nil {
		words += " shows " + c.Profile.GetDisplayName()
	}
	return words
}

func (u user) contacts(request *tegamiv1.ListContactsRequest) (list []string) {
	u.t.Helper()
	for {
		page := call(u, "ContactService/ListContacts", request, new(tegamiv1.ListContactsResponse))
		for _, c := range page.Contacts {
			list = append(list, contactInWords(c))
		}
		if request.PageToken = page.NextPageToken; page.NextPageToken == "" {
			return list
		}
	}
}

// The life of a friendship, on all devices of both, live and after a crash.
func TestFriends(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	bob.JSON = true
	tablet := device(t, server, "alice", "tablet")

	held := bob.poll(0, hangLimit)
	awaitHeld(t, server, 1)
	asked := call(alice, "ContactService/RequestFriend", &tegamiv1.RequestFriendRequest{UserId: "bob"}, new(tegamiv1.RequestFriendResponse))
	if got := contactInWords(asked.Contact); got != "bob REQUESTED" {
		t.Errorf("alice is answered %s", got)
	}
	if got := received(held.page(tegamiv1.FetchOpsResponse_OPERATIONS)); len(got) != 1 || got[0] != "alice RECEIVED" {
		t.Errorf("bob's poll is answered %v", got)
	}
	call(bob, "ContactService/AcceptFriend", &tegamiv1.AcceptFriendRequest{UserId: "alice"}, new(tegamiv1.AcceptFriendResponse))
	alice.poll(2, hangLimit).page(tegamiv1.FetchOpsResponse_OPERATIONS) // Bob's profile follows the friendship.
	call(bob, "ContactService/SetAlias", &tegamiv1.SetAliasRequest{UserId: "alice", Alias: "リズ"}, new(tegamiv1.SetAliasResponse))
	call(alice, "ContactService/SetFavorite", &tegamiv1.SetFavoriteRequest{UserId: "bob", Favorite: true}, new(tegamiv1.SetFavoriteResponse))
	found := call(alice, "ContactService/FindUser", &tegamiv1.FindUserRequest{UserId: "bob"}, new(tegamiv1.FindUserResponse))
	if found.DisplayName != "BOB" || found.Contact.Relation != tegamiv1.Contact_FRIEND {
		t.Errorf("alice finds %v", found)
	}
	want(t, refused(alice, "ContactService/FindUser", &tegamiv1.FindUserRequest{UserId: "nobody"}), "not_found", "unknown_recipient")

	for range 2 {
		wantOps := []string{"bob REQUESTED", "bob FRIEND", "bob FRIEND shows BOB", "bob FRIEND favorite shows BOB"}
		for _, u := range []user{alice, tablet} {
			if diff := cmp.Diff(wantOps, received(u.fetch(0))); diff != "" {
				t.Errorf("alice's operations (-want +got):\n%s", diff)
			}
		}
		if diff := cmp.Diff([]string{"alice RECEIVED", "alice FRIEND shows ALICE", "alice FRIEND alias リズ shows ALICE"}, received(bob.fetch(0))); diff != "" {
			t.Errorf("bob's operations (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"bob FRIEND favorite shows BOB"}, alice.contacts(&tegamiv1.ListContactsRequest{})); diff != "" {
			t.Errorf("alice's contacts (-want +got):\n%s", diff)
		}
		server.Kill()
		server.Start()
	}
	revision := alice.head()
	call(bob, "ContactService/RemoveFriend", &tegamiv1.RemoveFriendRequest{UserId: "alice"}, new(tegamiv1.RemoveFriendResponse))
	if got := alice.contacts(&tegamiv1.ListContactsRequest{}); len(got) != 0 {
		t.Errorf("alice's contacts are %v", got)
	}
	if got := alice.contacts(&tegamiv1.ListContactsRequest{SinceRevision: revision}); len(got) != 1 || got[0] != "bob NONE" {
		t.Errorf("what changed for alice is %v", got)
	}
	want(t, refused(bob, "ContactService/AcceptFriend", &tegamiv1.AcceptFriendRequest{UserId: "alice"}), "not_found", "no_request")
}

// Who is blocked notices nothing.
func TestBlocking(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	call(bob, "ContactService/Block", &tegamiv1.BlockRequest{UserId: "alice"}, new(tegamiv1.BlockResponse))
	sent := alice.send(withID(text("bob", "into the void"), "m1"))
	if again := alice.send(withID(text("bob", "into the void"), "m1")); again.MessageId != sent.MessageId || sent.MessageId == "" {
		t.Errorf("answered %v, then %v", sent, again)
	}
	call(alice, "ContactService/RequestFriend", &tegamiv1.RequestFriendRequest{UserId: "bob"}, new(tegamiv1.RequestFriendResponse))
	if diff := cmp.Diff([]string{"to bob: into the void", "bob REQUESTED"}, received(alice.fetch(0))); diff != "" {
		t.Errorf("alice's operations (-want +got):\n%s", diff)
	}
	blocked := call(bob, "ContactService/ListBlocked", &tegamiv1.ListBlockedRequest{}, new(tegamiv1.ListBlockedResponse))
	if len(blocked.Contacts) != 1 || contactInWords(blocked.Contacts[0]) != "alice NONE blocked" {
		t.Errorf("bob blocks %v", blocked)
	}
	call(bob, "ContactService/Unblock", &tegamiv1.UnblockRequest{UserId: "alice"}, new(tegamiv1.UnblockResponse))
	alice.send(text("bob", "hello"))
	if diff := cmp.Diff([]string{"alice NONE blocked", "alice RECEIVED", "from alice: hello"}, received(bob.fetch(0))); diff != "" {
		t.Errorf("bob's operations (-want +got):\n%s", diff)
	}
}

// A code makes one friend, and tells nothing when it is none.
func TestInvitations(t *testing.T) {
	server := start(t, "limits: {find_rate: 1, find_burst: 8}")
	users := signIn(t, server, "alice", "bob", "carol")
	alice, bob, carol := users[0], users[1], users[2]
	code := call(bob, "ContactService/CreateInvitation", &tegamiv1.CreateInvitationRequest{}, new(tegamiv1.CreateInvitationResponse)).GetCode()
	redeem := &tegamiv1.RedeemInvitationRequest{Code: code}
	want(t, refused(bob, "ContactService/RedeemInvitation", redeem), "invalid_argument", "yourself")
	friend := call(alice, "ContactService/RedeemInvitation", redeem, new(tegamiv1.RedeemInvitationResponse))
	if got := contactInWords(friend.Contact); got != "bob FRIEND shows BOB" {
		t.Errorf("alice is answered %s", got)
	}
	for _, code := range []string{code, "A" + code[1:], code + "YQ", "?"} {
		want(t, refused(carol, "ContactService/RedeemInvitation", &tegamiv1.RedeemInvitationRequest{Code: code}), "not_found", "unknown_invitation")
	}
	for range 4 {
		want(t, refused(carol, "ContactService/RedeemInvitation", &tegamiv1.RedeemInvitationRequest{Code: "guess"}), "not_found", "unknown_invitation")
	}
	want(t, refused(carol, "ContactService/RedeemInvitation", &tegamiv1.RedeemInvitationRequest{Code: "guess"}), "resource_exhausted", "rate_limited")
}

func TestContactsComeByThePage(t *testing.T) {
	server := start(t)
	names := []string{"alice"}
	var expected []string
	for i := range 25 {
		names = append(names, fmt.Sprintf("user%02d", i))
		expected = append(expected, fmt.Sprintf("user%02d NONE blocked", i))
	}
	alice := signIn(t, server, names[0])[0]
	server.CreateUsers(names[1:]...)
	for _, name := range names[1:] {
		call(alice, "ContactService/Block", &tegamiv1.BlockRequest{UserId: name}, new(tegamiv1.BlockResponse))
	}
	for _, limit := range []int32{0, 1, 7, 25, 1000} {
		if diff := cmp.Diff(expected, alice.contacts(&tegamiv1.ListContactsRequest{Limit: limit})); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	want(t, refused(alice, "ContactService/ListContacts", &tegamiv1.ListContactsRequest{SinceRevision: 1000}), "out_of_range", "cursor_ahead")
}
