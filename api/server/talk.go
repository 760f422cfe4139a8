package server

import (
	"context"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
)

// Talk is the talk tier as the API needs it. All methods are safe for
// concurrent use. Those with a context may block until it ends; their errors
// are *refusal.Refusal where the client is to know the reason.
type Talk interface {
	// Send never blocks beyond a look-up of two keys; it answers later.
	Send(ctx context.Context, send talk.Send)
	// Poll never blocks; it answers later. The function that it returns
	// cancels the poll and may be called at any time, any number of times.
	Poll(poll talk.Poll) (cancel func())
	// CreateAccounts creates users; taken tells for each whether it existed.
	CreateAccounts(ctx context.Context, accounts []talk.NewAccount) (taken []bool, err error)
	// Account returns what is known of a user. Refused with UnknownRecipient.
	Account(ctx context.Context, user string) (talk.Account, error)
	// SignIn gives a device a session and returns it.
	SignIn(ctx context.Context, user, device string, refreshHash [32]byte) (talk.Session, error)
	// Refresh rotates the refresh token of a session.
	Refresh(ctx context.Context, session talk.Session, presented, next [32]byte) error
	// SignOut ends a session; Epoch 0 ends whichever the device has.
	SignOut(ctx context.Context, session talk.Session) error
	// CheckSession reports whether a session is live. Refused with
	// UnknownDevice.
	CheckSession(ctx context.Context, session talk.Session) error
	// Devices lists a user's devices, newest first.
	Devices(ctx context.Context, user string) ([]talk.Device, error)
	// Head returns the limits of a mailbox.
	Head(ctx context.Context, user string) (talk.Head, error)
	// Messages pages back through a conversation: with another user in the
	// user's mailbox, or a chat. before 0 starts at the newest. Refused with
	// UnknownChat.
	Messages(ctx context.Context, user, peer string, before int64, limit int) (talk.History, error)
	// Open opens the bodies of a user's operations. A body whose key is gone
	// comes back empty.
	Open(ctx context.Context, user string, operations []*record.Operation) ([]talk.Body, error)
	// Opener returns what opens the bodies that lie in the mailbox of a user, or in
	// a chat.
	Opener(ctx context.Context, name string) (talk.Opener, error)
	// Befriend does something about the friendship of the session's user with
	// another. Refused with UnknownRecipient, Yourself, NoRequest,
	// TooManyContacts.
	Befriend(ctx context.Context, session talk.Session, peer string, action talk.FriendAction) error
	// EditContact changes what the session's user alone decides about another.
	// Refused with UnknownRecipient, Yourself, TooManyContacts.
	EditContact(ctx context.Context, session talk.Session, peer string, edit talk.ContactEdit) error
	// Contact returns what another user is to a user.
	Contact(ctx context.Context, user, peer string) (*record.Contact, error)
	// Contacts returns a page of a user's contacts. Refused with CursorAhead,
	// CursorTooOld.
	Contacts(ctx context.Context, user string, page *record.ContactsQuery) (talk.Contacts, error)
	// Amend changes a message. Refused with UnknownMessage, NotYours, TooLate,
	// NotFriends.
	Amend(ctx context.Context, session talk.Session, amend talk.Amend) error
	// MarkRead moves the mark of a conversation up to the newest message that is
	// not above a revision. Refused with UnknownConversation.
	MarkRead(ctx context.Context, session talk.Session, peer string, revision int64) error
	// EditConversation changes what the user alone decides about a conversation:
	// that which is not nil. Refused with UnknownConversation.
	EditConversation(ctx context.Context, session talk.Session, peer string, pinned, muted *bool) error
	// Conversation returns what is known of the conversation with a peer.
	// Refused with UnknownConversation.
	Conversation(ctx context.Context, user, peer string) (*record.Conversation, error)
	// Conversations returns a page of a user's conversations, with their newest
	// messages. Refused with CursorAhead.
	Conversations(ctx context.Context, user string, page *record.ConversationsQuery) (talk.Conversations, error)
	// Settings returns what settings the session's user and device have made.
	Settings(ctx context.Context, session talk.Session) (talk.Settings, error)
	// UpdateSettings changes those of the user's settings that are named.
	UpdateSettings(ctx context.Context, session talk.Session, settings *record.Settings, fields []string) error
	// UpdateDeviceSettings changes those of the device's settings that are named.
	UpdateDeviceSettings(ctx context.Context, session talk.Session, settings *record.DeviceSettings, fields []string) error
	// Profile returns what a viewer may see of a user's profile. Refused with
	// UnknownRecipient.
	Profile(ctx context.Context, viewer, user string) (*record.Profile, error)
	// UpdateProfile changes those parts of the user's profile that are named.
	UpdateProfile(ctx context.Context, session talk.Session, profile *record.Profile, fields []string) error
	// Invite makes a code for the session's user. Refused with
	// TooManyInvitations.
	Invite(ctx context.Context, session talk.Session) (talk.Invitation, error)
	// Redeem makes the session's user a friend of whoever made a code, and
	// returns who that is. Refused with UnknownInvitation, Yourself.
	Redeem(ctx context.Context, session talk.Session, code string) (owner string, err error)
	// CreateChat makes a chat of the session's user and returns its id. Refused
	// with UnknownRecipient, DifferentBody, ChatFull, TooManyChats.
	CreateChat(ctx context.Context, session talk.Session, c talk.NewChat) (chat string, err error)
	// ChangeChat does what the session's user asks of a chat. Refused with
	// UnknownChat, NotPermitted, NotInvited, ChatFull, UnknownMember, Yourself,
	// UnknownRecipient, TooManyChats.
	ChangeChat(ctx context.Context, session talk.Session, chat string, change *record.ChangeChat) error
	// CreateChatLink makes a code with which anybody joins a chat. Refused with
	// UnknownChat, NotPermitted.
	CreateChatLink(ctx context.Context, session talk.Session, chat string) (code string, err error)
	// JoinByLink makes the session's user a member of the chat of a code and
	// returns its id. Refused with UnknownInvitation, ChatFull, TooManyChats.
	JoinByLink(ctx context.Context, session talk.Session, code string) (chat string, err error)
	// Chat returns a chat as a user sees it. Refused with UnknownChat.
	Chat(ctx context.Context, user, chat string) (*record.ChatOf, error)
	// Chats returns a page of the chats that a user is in or invited to.
	Chats(ctx context.Context, user string, page *record.ChatsQuery) (talk.Chats, error)
	// Members returns a page of the users of a chat. Refused with UnknownChat.
	Members(ctx context.Context, chat string, page *record.MembersQuery) (talk.Members, error)
	// OnSessionEnded has a function called, without delay on this node, for
	// each session that ends. It must not block.
	OnSessionEnded(func(talk.Session))
	// Ready reports whether all shards are open.
	Ready() bool
}
