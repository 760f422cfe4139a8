package mailbox

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/record"
)

// Whoever sends, edits, unsends and reacts, and however late one mailbox hears of
// another: a conversation knows its newest message, and the newest edit of it
// unless it was unsent, and changed with the newest of its operations.
func TestConversationsKnowWhatBecameOfTheirNewestMessage(t *testing.T) {
	people := []string{"alice", "bob"}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, people...)
		var ids [][]byte
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			if ways := w.ways(); len(ways) > 0 && rapid.Bool().Draw(rt, "deliver") {
				w.deliver(rapid.SampledFrom(ways).Draw(rt, "way"))
				continue
			}
			user, peer := rapid.SampledFrom(people).Draw(rt, "user"), rapid.SampledFrom(people).Draw(rt, "peer")
			verb := rapid.SampledFrom([]string{"send", "send", "edit", "unsend", "react", "block", "unblock"}).Draw(rt, "verb")
			mailbox, r := w.request(user, "phone", verb, []string{peer, "0", "words"})
			if amend := r.GetAmend(); amend != nil {
				if len(ids) == 0 {
					continue
				}
				amend.Amendment.MessageId = ids[max(0, len(ids)-1-rapid.IntRange(0, 2).Draw(rt, "message"))]
			} else if send := r.GetSend(); send != nil {
				ids = append(ids, send.MessageId)
			}
			w.do(mailbox, r)
		}
		w.settle()
		w.reload()
		for _, user := range people {
			want := map[string]*record.Conversation{}
			for _, op := range w.heard[user] {
				m, peer := op.GetReceiveMessage(), op.GetReceiveMessage().GetFrom()
				if m == nil {
					m, peer = op.GetSendMessage(), op.GetSendMessage().GetTo()
				}
				a := op.GetMessageAmended()
				if a != nil {
					peer = a.Peer
				}
				c := want[peer]
				if c == nil {
					c = new(record.Conversation)
					want[peer] = c
				}
				c.Revision = op.Revision
				_, reacts := a.GetChange().(*record.Amendment_Reaction)
				switch {
				case m != nil:
					c.LastMessageId, c.LastAmended, c.LastUnsent = m.MessageId, 0, false
				case a != nil && !reacts && string(a.MessageId) == string(c.LastMessageId) && !c.LastUnsent:
					c.LastAmended, c.LastUnsent = op.Revision, a.GetUnsent()
				}
			}
			for _, peer := range people {
				got, want := w.mailboxes[user].Conversation(peer), want[peer]
				if got == nil { // changes of messages that never came begin none
					continue
				}
				if string(got.LastMessageId) != string(want.LastMessageId) || got.LastAmended != want.LastAmended ||
					got.LastUnsent != want.LastUnsent || got.Revision != want.Revision {
					rt.Errorf("%s with %s: %v, want %v", user, peer, got, want)
				}
			}
		}
	})
}

// Before its version a mailbox takes a change of a message for none of the
// conversation, as those who decided it then did.
func TestAmendmentsBelongToConversationsSinceTheirVersion(t *testing.T) {
	b := newAccount(t)
	amend := func(id string, version uint32) *record.Record {
		r := command(id, &record.Record{Kind: &record.Record_Amend{Amend: &record.Amend{
			From: "alice", MessageTime: start, Amendment: &record.Amendment{
				MessageId: send("alice", "m1", 3).GetSend().MessageId, By: "alice", Change: &record.Amendment_Unsent{Unsent: true},
			},
		}}})
		r.ApplyVersion = version
		return r
	}
	first := send("alice", "m1", 3)
	first.ApplyVersion = amendedVersion - 1
	b.accept(first)
	b.accept(amend("a1", amendedVersion-1))
	if c := b.Conversation("alice"); c.GetRevision() != 1 || c.GetLastAmended() != 0 || len(c.GetLastMessageId()) != 0 {
		t.Errorf("conversation %v", c)
	}
	b.accept(amend("a2", amendedVersion))
	if c := b.Conversation("alice"); c.GetRevision() != 3 || c.GetLastAmended() != 0 {
		t.Errorf("conversation %v", c)
	}
}
