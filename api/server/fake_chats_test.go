package server_test

import (
	"context"
	"strings"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

// fakeChat is a chat of the fake tier, where everybody is what they were last
// said to be.
type fakeChat struct {
	name    string
	members map[string]record.ChatRole
}

const fakeChatID = "C0123456789abcdef0123456789abcdef"

// gathered has the two be in a chat: the user as its owner.
func gathered(f *fakeTalk, self, peer device) {
	_, _ = f.CreateChat(context.Background(), talk.Session{User: self.user}, talk.NewChat{Invite: []string{peer.user}}) // both exist
}

func (f *fakeTalk) CreateChat(_ context.Context, session talk.Session, c talk.NewChat) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chat := &fakeChat{name: c.Name, members: map[string]record.ChatRole{session.User: record.ChatRole_CHAT_ROLE_OWNER}}
	for _, user := range append(c.Invite, session.User) {
		if _, err := f.user("CreateChat", user); err != nil {
			return "", err
		}
		if user != session.User {
			chat.members[user] = record.ChatRole_CHAT_ROLE_INVITED
		}
	}
	if f.chats == nil {
		f.chats = make(map[string]*fakeChat)
	}
	f.chats[fakeChatID] = chat
	return fakeChatID, nil
}

// chat returns a chat that a user is in. The caller holds mu.
func (f *fakeTalk) chat(method, user, id string) (*fakeChat, error) {
	if _, err := f.user(method, user); err != nil {
		return nil, err
	}
	chat := f.chats[id]
	if chat == nil || chat.members[user] == record.ChatRole_CHAT_ROLE_NONE {
		return nil, refusal.Of(refusal.UnknownChat)
	}
	return chat, nil
}

func (f *fakeTalk) ChangeChat(_ context.Context, session talk.Session, id string, change *record.ChangeChat) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	chat, err := f.chat("ChangeChat", session.User, id)
	if err != nil {
		return err
	}
	switch c := change.GetChange().(type) {
	case *record.ChangeChat_Decline, *record.ChangeChat_Leave:
		delete(chat.members, session.User)
	case *record.ChangeChat_Remove:
		delete(chat.members, c.Remove)
	case *record.ChangeChat_Role:
		chat.members[c.Role.GetUser()] = c.Role.GetRole()
	case *record.ChangeChat_Name:
		chat.name = c.Name
	}
	return nil
}

func (f *fakeTalk) CreateChatLink(_ context.Context, session talk.Session, id string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.chat("CreateChatLink", session.User, id)
	return fakeCode + id, err
}

func (f *fakeTalk) JoinByLink(_ context.Context, session talk.Session, code string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.user("JoinByLink", session.User); err != nil {
		return "", err
	}
	id := strings.TrimPrefix(code, fakeCode)
	if f.chats[id] == nil {
		return "", refusal.Of(refusal.UnknownInvitation)
	}
	f.chats[id].members[session.User] = max(f.chats[id].members[session.User], record.ChatRole_CHAT_ROLE_MEMBER)
	return id, nil
}

func (f *fakeTalk) Chat(_ context.Context, user, id string) (*record.ChatOf, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chat, err := f.chat("Chat", user, id)
	if err != nil {
		return nil, err
	}
	return chat.of(id, user), nil
}

func (c *fakeChat) of(id, user string) *record.ChatOf {
	return &record.ChatOf{Chat: id, Membership: &record.ChatMembership{
		Member: &record.ChatMember{Role: c.members[user]}, Chat: &record.Chat{Name: c.name, Members: int32(len(c.members))},
	}}
}

func (f *fakeTalk) Chats(_ context.Context, user string, _ *record.ChatsQuery) (talk.Chats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.user("Chats", user); err != nil {
		return talk.Chats{}, err
	}
	var list talk.Chats
	for id, chat := range f.chats {
		if chat.members[user] != record.ChatRole_CHAT_ROLE_NONE {
			list.Chats = append(list.Chats, chat.of(id, user))
		}
	}
	return list, nil
}

func (f *fakeTalk) Members(_ context.Context, id string, page *record.MembersQuery) (talk.Members, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chat, err := f.chat("Members", page.GetReader(), id)
	if err != nil {
		return talk.Members{}, err
	}
	var list talk.Members
	for user, role := range chat.members {
		list.Members = append(list.Members, &record.MemberOf{User: user, Member: &record.ChatMember{Role: role}})
	}
	return list, nil
}
