package mailbox

import (
	"testing"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// Who may do what in a chat: of each role one asks for everything there is, in a
// chat where nothing else has happened. What is refused comes to nothing.
func TestWhoMayDoWhatInAChat(t *testing.T) {
	const (
		ok      = refusal.None
		unknown = refusal.UnknownChat
		no      = refusal.NotPermitted
		nothing = refusal.UnknownInvitation
	)
	askers := [...]string{"stranger", "invited", "member", "admin", "owner"}
	users := append(askers[:], "another", "second", "nobody")
	change := func(c *record.ChangeChat) func(string) *record.Record {
		return func(asker string) *record.Record { return changeChat(asker, "phone", c) }
	}
	remove := func(user string) func(string) *record.Record {
		return change(&record.ChangeChat{Change: &record.ChangeChat_Remove{Remove: user}})
	}
	promote := func(user string, role record.ChatRole) func(string) *record.Record {
		return change(&record.ChangeChat{Change: &record.ChangeChat_Role{Role: &record.ChangeChat_ChatRoleOf{User: user, Role: role}}})
	}
	for _, request := range []struct {
		what string
		ask  func(asker string) *record.Record
		want [len(askers)]refusal.Reason
	}{
		{"invite", change(&record.ChangeChat{Change: &record.ChangeChat_Invite_{Invite: &record.ChangeChat_Invite{Users: []string{"nobody"}}}}), [...]refusal.Reason{unknown, no, ok, ok, ok}},
		{"accept", change(&record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}}), [...]refusal.Reason{unknown, ok, ok, ok, ok}},
		{"decline", change(&record.ChangeChat{Change: &record.ChangeChat_Decline{Decline: true}}), [...]refusal.Reason{unknown, ok, refusal.NotInvited, refusal.NotInvited, refusal.NotInvited}},
		{"join by another code", change(&record.ChangeChat{Change: &record.ChangeChat_Join{Join: token("other")}}), [...]refusal.Reason{nothing, nothing, nothing, nothing, nothing}},
		{"leave", change(&record.ChangeChat{Change: &record.ChangeChat_Leave{Leave: true}}), [...]refusal.Reason{ok, ok, ok, ok, ok}},
		{"remove a member", remove("another"), [...]refusal.Reason{unknown, no, no, ok, ok}},
		{"remove an admin", remove("second"), [...]refusal.Reason{unknown, no, no, no, ok}},
		{"remove the owner", remove("owner"), [...]refusal.Reason{unknown, no, no, no, refusal.Yourself}},
		{"make an admin", promote("another", record.ChatRole_CHAT_ROLE_ADMIN), [...]refusal.Reason{unknown, no, no, no, ok}},
		{"take a role away", promote("second", record.ChatRole_CHAT_ROLE_MEMBER), [...]refusal.Reason{unknown, no, no, no, ok}},
		{"give the chat away", promote("another", record.ChatRole_CHAT_ROLE_OWNER), [...]refusal.Reason{unknown, no, no, no, ok}},
		{"rename", change(&record.ChangeChat{Change: &record.ChangeChat_Name{Name: "other"}}), [...]refusal.Reason{unknown, no, no, ok, ok}},
		{"show the history", change(&record.ChangeChat{Change: &record.ChangeChat_WholeHistory{WholeHistory: true}}), [...]refusal.Reason{unknown, no, no, ok, ok}},
		{"make a link", change(&record.ChangeChat{Change: &record.ChangeChat_Link{Link: token("in")}}), [...]refusal.Reason{unknown, no, no, ok, ok}},
		{"send", func(asker string) *record.Record { return chatSend(asker, "phone", "m", "hello") }, [...]refusal.Reason{unknown, unknown, ok, ok, ok}},
		{"react", func(asker string) *record.Record {
			return &record.Record{Kind: &record.Record_ChatAmend{ChatAmend: &record.ChatAmend{From: asker, Amendment: &record.Amendment{
				MessageId: hash(16, "m"), By: asker, Change: &record.Amendment_Reaction{Reaction: "+1"},
			}}}}
		}, [...]refusal.Reason{unknown, unknown, ok, ok, ok}},
	} {
		for i, asker := range askers {
			w := newWorld(t, users...)
			chat := chatNamed("group")
			w.do(w.request("owner", "phone", "create", []string{"group", "invited", "member", "admin", "another", "second"}))
			for _, user := range []string{"member", "admin", "another", "second"} {
				w.do(w.request(user, "phone", "join", []string{"group"}))
			}
			for _, user := range []string{"admin", "second"} {
				w.do(chat, promote(user, record.ChatRole_CHAT_ROLE_ADMIN)("owner"))
			}
			before := w.mailboxes[chat].describe()
			out := w.do(chat, request.ask(asker))
			if out.Answer.Reason != request.want[i] {
				t.Errorf("%s, the %s: %v, want %v", request.what, asker, out.Answer.Reason, request.want[i])
			}
			if out.Answer.Reason != refusal.None && (len(out.Operations)+len(out.FollowUps) > 0 || w.mailboxes[chat].describe() != before) {
				t.Errorf("%s, the %s: refused, with effects", request.what, asker)
			}
		}
	}
}
