package e2e

import (
	"slices"
	"strconv"
	"testing"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

func (u user) list(peer string, before int64, limit int32) *tegamiv1.ListMessagesResponse {
	u.t.Helper()
	request := &tegamiv1.ListMessagesRequest{Peer: peer, Before: before, Limit: limit}
	return call(u, "TalkService/ListMessages", request, new(tegamiv1.ListMessagesResponse))
}

// ListMessages pages back through one conversation, and each message says at
// which revision it stands.
func TestListMessages(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob", "carol")
	alice, bob, carol := users[0], users[1], users[2]
	for i := range 12 {
		users[i%2].send(text(users[1-i%2].name, strconv.Itoa(i)))
		carol.send(text("alice", "between"))
	}

	check := func() {
		t.Helper()
		var got []string
		before := int64(0)
		for more := true; more; {
			page := alice.list("bob", before, 5)
			for _, m := range page.GetMessages() {
				op := alice.fetch(m.GetRevision() - 1).GetOps()[0]
				if message(op).GetMessageId() != m.GetMessageId() || message(op).GetText() != m.GetText() {
					t.Errorf("revision %d is another message in the mailbox", m.GetRevision())
				}
				if before != 0 && m.GetRevision() >= before {
					t.Errorf("revision %d follows %d: not newest first", m.GetRevision(), before)
				}
				before = m.GetRevision()
				got = append(got, m.GetText()[len(secret)+1:])
			}
			more = page.GetHasMore()
		}
		if wanted := []string{"11", "10", "9", "8", "7", "6", "5", "4", "3", "2", "1", "0"}; !slices.Equal(got, wanted) {
			t.Errorf("read %v, want %v", got, wanted)
		}
	}
	check()
	if page := carol.list("bob", 0, 0); len(page.GetMessages()) != 0 || page.GetHasMore() {
		t.Errorf("carol reads what others wrote: %v", page)
	}
	if page := bob.list("alice", 0, 12); len(page.GetMessages()) != 12 || page.GetHasMore() {
		t.Errorf("bob reads %d messages, more %v; want 12 and no more", len(page.GetMessages()), page.GetHasMore())
	}

	// From the stores, too.
	server.Kill()
	server.Start()
	check()
}

func TestGetHead(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice")[0]
	for revision := range int64(3) {
		head := call(alice, "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, new(tegamiv1.GetHeadResponse))
		if head.GetRevision() != revision || head.GetFirstRevision() != 1 {
			t.Errorf("head is %v, want %d of 1", head, revision)
		}
		alice.send(text("alice", "note"))
	}
}
