package mailbox

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// Whatever is sent and read by whom, on which device, and however late one
// mailbox hears of another: what the server counts as unread is what a recount
// of the messages above the mark comes to, marks never move back, and what a
// device was told last is what the mailbox has.
func TestUnreadCountsEqualARecount(t *testing.T) {
	people := []string{"alice", "bob", "carol"}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, people...)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if ways := w.ways(); len(ways) > 0 && rapid.Bool().Draw(rt, "deliver") {
				w.deliver(rapid.SampledFrom(ways).Draw(rt, "way"))
				continue
			}
			user, peer := rapid.SampledFrom(people).Draw(rt, "user"), rapid.SampledFrom(people).Draw(rt, "peer")
			verb := rapid.SampledFrom([]string{"send", "send", "send", "read", "read", "block", "unblock", "pin", "mute"}).Draw(rt, "verb")
			args := []string{peer, fmt.Sprint(rapid.IntRange(0, 20).Draw(rt, "revision"))}
			w.do(w.request(user, "phone", verb, args))
		}
		w.settle()
		w.reload()
		for _, user := range people {
			received, told := map[string][]int64{}, map[string]*record.Conversation{}
			readTime, last := map[string]int64{}, map[string]int64{}
			for _, op := range w.heard[user] {
				switch kind := op.Kind.(type) {
				case *record.Operation_ReceiveMessage:
					from := kind.ReceiveMessage.From
					last[from] = op.Revision
					if from != user {
						received[from] = append(received[from], op.Revision)
					}
				case *record.Operation_SendMessage:
					last[kind.SendMessage.To] = op.Revision
				case *record.Operation_ConversationUpdated:
					peer, c := kind.ConversationUpdated.Peer, kind.ConversationUpdated.Conversation
					if before := told[peer]; before != nil && (c.Read < before.Read || c.ReadRevision < before.ReadRevision) {
						rt.Errorf("%s: the mark for %s moved back", user, peer)
					}
					told[peer] = c
				case *record.Operation_MessageRead:
					if kind.MessageRead.Time < readTime[kind.MessageRead.Peer] {
						rt.Errorf("%s: the mark of %s moved back", user, kind.MessageRead.Peer)
					}
					readTime[kind.MessageRead.Peer] = kind.MessageRead.Time
				}
			}
			for _, peer := range people {
				c := w.mailboxes[user].Conversation(peer)
				if (c == nil) != (last[peer] == 0) || c.GetLastRevision() != last[peer] {
					rt.Errorf("%s with %s: %v, want the last at %d", user, peer, c, last[peer])
				}
				unread := 0
				for _, revision := range received[peer] {
					if revision > c.GetReadRevision() {
						unread++
					}
				}
				if int64(unread) != c.GetReceived()-c.GetRead() {
					rt.Errorf("%s with %s: %d unread, a recount says %d", user, peer, c.GetReceived()-c.GetRead(), unread)
				}
				if t := told[peer]; t != nil && (t.Read != c.GetRead() || t.Pinned != c.GetPinned() || t.Muted != c.GetMuted()) {
					rt.Errorf("%s with %s: %v, and a device was told %v", user, peer, c, t)
				}
			}
		}
	})
}

// For one conversation too many, the one that was quiet the longest goes, those
// that are pinned last. Its messages stay.
func TestConversationsAreBounded(t *testing.T) {
	w := newWorld(t, "bob")
	receive := func(from string) { w.do("bob", send(from, from, 1)) }
	for i := range MaxConversations {
		receive(fmt.Sprint("user", i))
	}
	w.do("bob", editConversation("user0", "phone", &record.EditConversation_Pinned{Pinned: true}, nil))
	receive("user1")
	receive("another")
	bob := w.mailboxes["bob"]
	if n := len(bob.parts.conversations); n != MaxConversations {
		t.Errorf("%d conversations", n)
	}
	for peer, want := range map[string]bool{"user0": true, "user1": true, "user2": false, "user3": true, "another": true} {
		if is := bob.Conversation(peer) != nil; is != want {
			t.Errorf("conversation with %s: %v, want %v", peer, is, want)
		}
	}
	w.reload()
}

// A mailbox of an older version keeps no account before its first record of the
// version that brought it.
func TestConversationsBeginWithTheirVersion(t *testing.T) {
	b := newAccount(t)
	b.accept(send("alice", "m1", 3))
	mark := func() *record.Record {
		return command(fmt.Sprint("read", b.offset), &record.Record{Kind: &record.Record_MarkRead{MarkRead: &record.MarkRead{Peer: "alice", Revision: 9, Received: 9}}})
	}
	if out := b.apply(mark()); out.Answer.Reason != refusal.UnknownConversation || len(out.Write.Parts) != 0 {
		t.Errorf("outcome %+v", out)
	}
	newer := send("alice", "m2", 3)
	newer.ApplyVersion = ApplyVersion
	b.accept(newer)
	b.accept(send("alice", "m3", 3)) // of an older version: none takes the newer back
	if c := b.Conversation("alice"); c.GetReceived() != 2 || c.GetLastRevision() != 3 {
		t.Errorf("conversation %v", c)
	}
	b.accept(mark())
	if c := b.Conversation("alice"); c.GetRead() != 2 || c.GetReadRevision() != 3 {
		t.Errorf("conversation %v", c)
	}
}
