package mailbox

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// FuzzApplyToChat applies any record to a chat with an owner, a member and one
// invited, and what it has copied to its members to a mailbox.
func FuzzApplyToChat(f *testing.F) {
	change := func(c *record.ChangeChat) *record.Record { return ofNow("change", changeChat("alice", "d1", c)) }
	for _, r := range []*record.Record{
		ofNow("say", chatSend("alice", "d1", "m1", "hello")), ofNow("stranger", chatSend("erin", "d1", "m1", "hello")),
		change(&record.ChangeChat{Change: &record.ChangeChat_Leave{Leave: true}}),
		change(&record.ChangeChat{Change: &record.ChangeChat_Remove{Remove: "bob"}}),
		change(&record.ChangeChat{Change: &record.ChangeChat_Link{Link: token("in")}}),
		change(&record.ChangeChat{Change: &record.ChangeChat_Role{Role: &record.ChangeChat_ChatRoleOf{User: "bob", Role: 4}}}),
		change(&record.ChangeChat{Change: &record.ChangeChat_Role{Role: &record.ChangeChat_ChatRoleOf{User: "bob", Role: 1}}}),
		change(&record.ChangeChat{Change: &record.ChangeChat_Invite_{Invite: &record.ChangeChat_Invite{Users: []string{"dave", "bob", "dave"}}}}),
		change(&record.ChangeChat{Change: &record.ChangeChat_Invite_{}}),
		ofNow("carol", changeChat("carol", "d1", &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}})),
		ofNow("carol", changeChat("carol", "d1", &record.ChangeChat{Change: &record.ChangeChat_Decline{}})),
		ofNow("again", &record.Record{Kind: &record.Record_CreateChat{CreateChat: &record.CreateChat{Creator: "erin"}}}),
		ofNow("react", &record.Record{Kind: &record.Record_ChatAmend{ChatAmend: &record.ChatAmend{From: "bob", Amendment: &record.Amendment{
			MessageId: hash(16, "m1"), By: "bob", Change: &record.Amendment_Reaction{Reaction: "+1"},
		}}}}),
		send("alice", "m1", 3), createAccount("alice"), trim(2),
		{Source: &record.Source{Mailbox: "bot", Offset: 9}, Kind: &record.Record_ChatStep{ChatStep: joins()}},
		{Source: &record.Source{Mailbox: "bob", Offset: 9}, Kind: &record.Record_ChatStep{ChatStep: writes("hello", 1)}},
		{Source: &record.Source{Mailbox: "bob", Offset: 9}, Kind: &record.Record_ChatStep{ChatStep: leaves()}},
		{Source: &record.Source{Mailbox: chatNamed("c"), Offset: 9}, Kind: &record.Record_ChatCopy{ChatCopy: &record.ChatCopy{Operation: &record.Operation{Chat: chatNamed("c")}}}},
	} {
		f.Add(encode(r), uint8(1))
		f.Add(encode(r), uint8(200))
	}
	f.Fuzz(func(t *testing.T, data []byte, copied uint8) {
		r := &record.Record{}
		if proto.Unmarshal(data, r) != nil || r.GetApplyVersion() > ApplyVersion {
			return
		}
		w := newWorld(t, "bob")
		chat := chatNamed("c")
		w.mailboxes[chat] = &place{State: New(chat)}
		w.do(chat, &record.Record{Kind: &record.Record_CreateChat{CreateChat: &record.CreateChat{
			Creator: "alice", Invite: []string{"bob", "carol"}, MaxCopied: int32(copied),
		}}})
		w.do(chat, changeChat("bob", "d1", &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}}))
		p, bob := w.mailboxes[chat], w.mailboxes["bob"]
		out := p.Apply(Input{Position: at(100), Time: start, Record: r})
		members, owners := int32(0), 0
		for _, m := range p.parts.members {
			if m.Role >= record.ChatRole_CHAT_ROLE_MEMBER {
				members++
			}
			if m.Role == record.ChatRole_CHAT_ROLE_OWNER {
				owners++
			}
		}
		if members != p.parts.chat.GetMembers() || owners != min(1, int(members)) {
			t.Fatalf("%d members, %d owners in %v", members, owners, p.parts.chat)
		}
		if out.Answer.Reason != refusal.None && (len(out.Operations) > 0 || len(out.FollowUps) > 0) {
			t.Fatalf("refused: %v, with effects", out.Answer.Reason)
		}
		loaded := &persistence.Mailbox{Position: p.Position(), State: out.Write.State, Dedup: out.Write.Dedup, DedupComplete: true}
		if s, err := Decode(chat, loaded); err != nil || !bytes.Equal(s.encode(), p.encode()) {
			t.Fatalf("what was stored does not load: %v", err)
		}
		for i, f := range out.FollowUps {
			if f.Mailbox != "bob" {
				continue
			}
			if took := bob.Apply(Input{Position: at(int64(100 + i)), Time: start, Record: f.Record}); took.Fault != "" {
				t.Fatalf("bob's mailbox does not take a copy: %s", took.Fault)
			}
		}
	})
}
