package validate

import (
	"strconv"
	"unicode/utf8"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// ChatID checks the id of a chat: C and 32 of 0-9a-f.
func ChatID(field, id string) error {
	if id == "" {
		return fault.Invalid(field, required, "a chat id is needed")
	}
	if !mailbox.IsChat(id) {
		return fault.Invalid(field, badCharacter, "a chat id is as the server answered it")
	}
	for i := len(mailbox.ChatPrefix); i < len(id); i++ {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fault.Invalid(field, badCharacter, "a chat id is as the server answered it")
		}
	}
	return nil
}

// Peer checks with whom a conversation is: a user or a chat.
func Peer(field, id string) error {
	if mailbox.IsChat(id) {
		return ChatID(field, id)
	}
	return UserID(field, id)
}

// ChatName checks the name of a chat: at most 128 code points.
func ChatName(field, name string) error {
	switch {
	case !utf8.ValidString(name):
		return fault.Invalid(field, badUTF8, "a name is valid UTF-8")
	case utf8.RuneCountInString(name) > MaxChatNameRunes:
		return fault.Invalid(field, tooLong, "a name has at most 128 code points")
	}
	return nil
}

// CreateChat checks a request for a new chat, but for a missing client chat id,
// which is made later.
func CreateChat(r *tegamiv1.CreateChatRequest) error {
	if err := printable("clientChatId", r.GetClientChatId(), MaxClientIDLength); err != nil {
		return err
	}
	if err := ChatName("name", r.GetName()); err != nil {
		return err
	}
	if h := r.GetHistory(); h != tegamiv1.ChatHistory_CHAT_HISTORY_UNSPECIFIED {
		if err := history("history", h); err != nil {
			return err
		}
	}
	return guests("invite", r.GetInvite())
}

func history(field string, h tegamiv1.ChatHistory) error {
	if h != tegamiv1.ChatHistory_FROM_JOINING && h != tegamiv1.ChatHistory_WHOLE_HISTORY {
		return fault.Invalid(field, outOfBounds, "FROM_JOINING or WHOLE_HISTORY")
	}
	return nil
}

// guests checks those who are invited at once: at most 100.
func guests(field string, users []string) error {
	if len(users) > MaxGuests {
		return fault.Invalid(field, tooMany, "at most 100 users at once")
	}
	for i, user := range users {
		if err := UserID(field+"["+strconv.Itoa(i)+"]", user); err != nil {
			return err
		}
	}
	return nil
}

// InviteToChat checks an invitation.
func InviteToChat(r *tegamiv1.InviteToChatRequest) error {
	if err := ChatID("chatId", r.GetChatId()); err != nil {
		return err
	}
	if len(r.GetUserIds()) == 0 {
		return fault.Invalid("userIds", required, "somebody is invited")
	}
	return guests("userIds", r.GetUserIds())
}

// ChatUser checks whom of a chat a request is about.
func ChatUser(chat, user string) error {
	if err := ChatID("chatId", chat); err != nil {
		return err
	}
	return UserID("userId", user)
}

// SetChatRole checks a request for another role.
func SetChatRole(r *tegamiv1.SetChatRoleRequest) error {
	if err := ChatUser(r.GetChatId(), r.GetUserId()); err != nil {
		return err
	}
	if r.GetRole() < tegamiv1.ChatRole_CHAT_MEMBER || r.GetRole() > tegamiv1.ChatRole_CHAT_OWNER {
		return fault.Invalid("role", outOfBounds, "CHAT_MEMBER, CHAT_ADMIN or CHAT_OWNER")
	}
	return nil
}

// UpdateChat checks a change of a chat.
func UpdateChat(r *tegamiv1.UpdateChatRequest) error {
	if err := ChatID("chatId", r.GetChatId()); err != nil {
		return err
	}
	if r.History != nil {
		if err := history("history", r.GetHistory()); err != nil {
			return err
		}
	}
	return ChatName("name", r.GetName())
}

// ListChats checks a request for a page of chats.
func ListChats(r *tegamiv1.ListChatsRequest) error {
	if err := Limit("limit", r.GetLimit()); err != nil || r.GetPageToken() == "" {
		return err
	}
	return ChatID("pageToken", r.GetPageToken())
}

// ListMembers checks a request for a page of a chat's members.
func ListMembers(r *tegamiv1.ListMembersRequest) error {
	if err := ChatID("chatId", r.GetChatId()); err != nil {
		return err
	}
	return page(r.GetLimit(), r.GetPageToken())
}
