package e2e

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// replica is what a device knows, from snapshots and operations.
type replica struct {
	settings      *tegamiv1.Settings
	profile       *tegamiv1.Profile
	contacts      map[string]*tegamiv1.Contact
	conversations map[string]*tegamiv1.Conversation
}

func newReplica() *replica {
	return &replica{contacts: map[string]*tegamiv1.Contact{}, conversations: map[string]*tegamiv1.Conversation{}}
}

// apply applies an operation as docs/api.md says.
func (r *replica) apply(op *tegamiv1.Operation) {
	message := func(peer string, unread int64) {
		c := r.conversations[peer]
		if c == nil {
			c = &tegamiv1.Conversation{Peer: peer}
			r.conversations[peer] = c
		}
		if op.Revision > c.Revision {
			c.Revision, c.LastRevision = op.Revision, op.Revision
			c.Unread += unread
		}
	}
	switch kind := op.Kind.(type) {
	case *tegamiv1.Operation_ReceiveMessage:
		message(kind.ReceiveMessage.From, 1)
	case *tegamiv1.Operation_SendMessage:
		message(kind.SendMessage.To, 0)
	case *tegamiv1.Operation_ContactUpdated:
		if c := r.contacts[kind.ContactUpdated.UserId]; c.GetRevision() < op.Revision {
			r.contacts[kind.ContactUpdated.UserId] = kind.ContactUpdated
		}
	case *tegamiv1.Operation_ConversationUpdated:
		if c := r.conversations[kind.ConversationUpdated.Peer]; c.GetRevision() < op.Revision {
			r.conversations[kind.ConversationUpdated.Peer] = kind.ConversationUpdated
		}
	case *tegamiv1.Operation_SettingsUpdated:
		if s := kind.SettingsUpdated.GetSettings(); s != nil {
			r.settings = s
		}
	case *tegamiv1.Operation_ProfileUpdated:
		r.profile = kind.ProfileUpdated
	}
}

func (r *replica) take(item *tegamiv1.SyncResponse_Item) {
	switch kind := item.Item.(type) {
	case *tegamiv1.SyncResponse_Item_Settings:
		if s := kind.Settings.GetSettings(); s != nil {
			r.settings = s
		}
	case *tegamiv1.SyncResponse_Item_Profile:
		r.profile = kind.Profile
	case *tegamiv1.SyncResponse_Item_Contact:
		r.contacts[kind.Contact.UserId] = kind.Contact
	case *tegamiv1.SyncResponse_Item_Conversation:
		r.conversations[kind.Conversation.Conversation.Peer] = kind.Conversation.Conversation
	}
}

// words are what the replica knows, without contacts that were removed.
func (r *replica) words() []string {
	words := []string{fmt.Sprint("receipts ", r.settings.GetReadReceipts(), ", name ", r.profile.GetDisplayName())}
	for _, user := range slices.Sorted(maps.Keys(r.contacts)) {
		if c := r.contacts[user]; c.Relation != tegamiv1.Contact_NONE || c.Blocked {
			words = append(words, contactInWords(c))
		}
	}
	for _, peer := range slices.Sorted(maps.Keys(r.conversations)) {
		c := r.conversations[peer]
		words = append(words, fmt.Sprintf("with %s %d unread, last %d, read to %d, pinned %v, at %d", peer, c.Unread, c.LastRevision, c.ReadRevision, c.Pinned, c.Revision))
	}
	return words
}

// A snapshot that was paged through while much happened, and the operations
// since, come to what one who followed from the beginning knows, whatever the
// size of the pages.
func TestSnapshotAndOperationsAreAFullReplay(t *testing.T) {
	server := start(t, "limits: {find_rate: 10000, find_burst: 10000}")
	users := signIn(t, server, "alice", "bob", "carol", "dave", "erin", "frank")
	alice := users[0]
	happens := func(round int) {
		for i, u := range users[1:] {
			u.send(text("alice", fmt.Sprint(round)))
			switch (round + i) % 6 {
			case 0:
				call(u, "ContactService/RequestFriend", &tegamiv1.RequestFriendRequest{UserId: "alice"}, new(tegamiv1.RequestFriendResponse))
				call(alice, "ContactService/RequestFriend", &tegamiv1.RequestFriendRequest{UserId: u.name}, new(tegamiv1.RequestFriendResponse))
			case 1:
				call(alice, "TalkService/MarkRead", &tegamiv1.MarkReadRequest{Peer: u.name, Revision: alice.head() - int64(min(round, 2))}, new(tegamiv1.MarkReadResponse))
			case 2:
				call(alice, "TalkService/UpdateConversation", &tegamiv1.UpdateConversationRequest{Peer: u.name, Pinned: new(round%2 == 0)}, new(tegamiv1.UpdateConversationResponse))
			case 3:
				alice.send(text(u.name, "back"))
				call(alice, "SettingsService/UpdateSettings", &tegamiv1.UpdateSettingsRequest{Settings: &tegamiv1.Settings{ReadReceipts: new(round%2 == 0)}}, new(tegamiv1.UpdateSettingsResponse))
			case 4:
				call(alice, "ContactService/RemoveFriend", &tegamiv1.RemoveFriendRequest{UserId: u.name}, new(tegamiv1.RemoveFriendResponse))
			case 5:
				call(alice, "ProfileService/UpdateProfile", &tegamiv1.UpdateProfileRequest{Profile: &tegamiv1.Profile{DisplayName: new(fmt.Sprint("Alice ", round))}}, new(tegamiv1.UpdateProfileResponse))
			}
		}
	}
	// follow applies what comes after a revision, and returns the revision up to
	// which it did.
	follow := func(r *replica, after int64) int64 {
		for {
			page := alice.fetch(after)
			for _, op := range page.GetOps() {
				r.apply(op)
			}
			if after = page.Revision; !page.HasMore {
				return after
			}
		}
	}
	round := 0
	for ; round < 6; round++ {
		happens(round)
	}
	for _, limit := range []int32{3, 4, 7, 1000} {
		synced, cursor := newReplica(), int64(-1)
		request := &tegamiv1.SyncRequest{Limit: limit}
		for {
			page := call(alice, "TalkService/Sync", request, new(tegamiv1.SyncResponse))
			if len(page.Items) > int(limit) {
				t.Errorf("%d items on a page of %d", len(page.Items), limit)
			}
			for _, item := range page.Items {
				synced.take(item)
			}
			if cursor < 0 || page.Revision < cursor {
				cursor = page.Revision
			}
			happens(round)
			round++
			if request.PageToken = page.NextPageToken; request.PageToken == "" {
				break
			}
		}
		followed := newReplica()
		followed.settings = &tegamiv1.Settings{ReadReceipts: new(true)}
		// A new friend's profile comes a moment later, and may come in between.
		for end := int64(0); end != cursor; {
			end, cursor = follow(followed, end), follow(synced, cursor)
		}
		if diff := cmp.Diff(followed.words(), synced.words()); diff != "" {
			t.Errorf("with pages of %d (-followed +synced):\n%s", limit, diff)
		}
	}
}
