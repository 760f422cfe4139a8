package behaviourtest

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// ChatID returns the id of a chat that a script calls by a name of at most 16
// bytes. [World.Expect] calls it by that name.
func ChatID(name string) string {
	var id [16]byte
	copy(id[:], name)
	return mailbox.ChatPrefix + hex.EncodeToString(id[:])
}

// shown returns the name of a chat, and that of a user as it is.
func shown(name string) string {
	if id, err := hex.DecodeString(strings.TrimPrefix(name, mailbox.ChatPrefix)); err == nil && mailbox.IsChat(name) {
		return strings.TrimRight(string(id), "\x00")
	}
	return name
}

// Chat has the first of some users make a chat, the others join it, and the
// behaviour be invited. The users need not exist before.
func (w *World) Chat(name string, members ...string) {
	w.t.Helper()
	chat := ChatID(name)
	for _, user := range members {
		w.account(user)
	}
	w.must(w.command(chat, "create", &record.Record{Kind: &record.Record_CreateChat{CreateChat: &record.CreateChat{
		Creator: members[0], Name: name, Invite: append([]string{Self}, members[1:]...),
	}}}, name))
	for _, user := range members[1:] {
		w.change(chat, user, &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}})
	}
	w.settle()
}

// SayIn has a member write a text to a chat.
func (w *World) SayIn(chat, from, text string) {
	w.t.Helper()
	id := w.nextID()
	w.must(w.command(ChatID(chat), id, &record.Record{Kind: &record.Record_ChatSend{ChatSend: &record.ChatSend{
		MessageId: hash(id), From: from, ClientMessageId: id, SealedBody: talk.Body{Text: text}.Encode(),
	}}}, text))
	w.settle()
}

// Remove has a member, who may do that, take another out of a chat, or the
// behaviour, which is [Self].
func (w *World) Remove(chat, by, user string) {
	w.t.Helper()
	w.change(ChatID(chat), by, &record.ChangeChat{Change: &record.ChangeChat_Remove{Remove: user}})
	w.settle()
}

// Leave has a member leave a chat.
func (w *World) Leave(chat, user string) {
	w.t.Helper()
	w.change(ChatID(chat), user, &record.ChangeChat{Change: &record.ChangeChat_Leave{Leave: true}})
	w.settle()
}

// Members returns how many members a chat has.
func (w *World) Members(chat string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	members := 0
	for user := range w.boxes {
		if _, is := w.boxes[ChatID(chat)].Reads(user); is {
			members++
		}
	}
	return members
}

func (w *World) change(chat, actor string, change *record.ChangeChat) {
	w.t.Helper()
	change.Actor = actor
	w.must(w.command(chat, w.nextID(), &record.Record{Kind: &record.Record_ChangeChat{ChangeChat: change}}, ""))
}

// nextID returns an id that no command has had.
func (w *World) nextID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprint("command ", w.offset)
}

// must applies what a script has users do, which they must be able to.
func (w *World) must(r *record.Record) {
	w.t.Helper()
	if answer := w.apply(r); answer.Reason != refusal.None {
		w.t.Errorf("%T: refused: %v", r.GetKind(), answer.Reason)
	}
}

// bodyOf returns the body of a message that the behaviour received: those too
// large to be copied lie in the chat.
func (w *World) bodyOf(o *record.Operation, m *record.Message) []byte {
	if len(m.GetSealedBody()) > 0 || o.GetChat() == "" {
		return m.GetSealedBody()
	}
	return w.history[o.GetChat()][o.GetChatRevision()-1].GetReceiveMessage().GetSealedBody()
}
