package validate

import (
	"strconv"
	"testing"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// FuzzPageTokens reads any token. One that is taken stands for a place, whose
// own token it is or leads to the same place.
func FuzzPageTokens(f *testing.F) {
	for _, token := range []string{"", "3.", "4.alice", "1.alice", "5.", "0.", "-3.bob", "+3.bob", "03.bob", "3", ".", "alice", "17", "9223372036854775807", "3.alice.bob", "3.\xff"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if categories, place, err := Sync(&tegamiv1.SyncRequest{PageToken: token}); err == nil {
			if place.Category < tegamiv1.SyncCategory_SETTINGS || place.Category > tegamiv1.SyncCategory_CHATS || len(categories) != 5 {
				t.Fatalf("%q is %+v", token, place)
			}
			if _, again, err := Sync(&tegamiv1.SyncRequest{PageToken: place.Token()}); err != nil || again != place {
				t.Fatalf("%q is %+v, and its token %q %+v: %v", token, place, place.Token(), again, err)
			}
		}
		if before, err := ListConversations(&tegamiv1.ListConversationsRequest{PageToken: token}); err == nil && token != "" {
			if number, err := strconv.ParseInt(token, 10, 64); err != nil || number != before || before < 1 {
				t.Fatalf("%q is %d", token, before)
			}
		}
		for _, err := range []error{
			ListContacts(&tegamiv1.ListContactsRequest{PageToken: token}), ListBlocked(&tegamiv1.ListBlockedRequest{PageToken: token}),
		} {
			if (err == nil) != (token == "" || UserID("pageToken", token) == nil) {
				t.Fatalf("%q: %v", token, err)
			}
		}
	})
}
