// Package talk declares what the talk tier answers, in types that the API and
// the actors share. Errors are *refusal.Refusal values where the client is to
// know the reason.
package talk

import (
	"slices"
	"time"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// Body is a message body in the clear. Exactly one of Text and Data is meant:
// Data when MimeType is set.
type Body struct {
	Text     string
	MimeType string
	Data     []byte
	// ReplyTo is the id of a message, 16 bytes; empty for none.
	ReplyTo   string
	Mentions  []*record.Mention
	Forwarded bool
}

// Send asks for one message to be delivered.
type Send struct {
	From, FromDevice, To string
	ClientMessageID      string
	Body                 Body
	// Answer is called exactly once, from any goroutine, and must not block.
	Answer func(Sent, error)
}

// Sent is the answer to a Send.
type Sent struct {
	// MessageID is a UUIDv7.
	MessageID [16]byte
	// Time is the log time of the message, in milliseconds since 1970.
	Time int64
	// ChatRevision is the revision of the chat that the message went to; else 0.
	ChatRevision int64
}

// Session names one signed-in device. A device that signs in again gets a
// higher epoch, and what was issued for a lower one is void.
type Session struct {
	User, Device string
	Epoch        uint64
}

// Device is one device in a user's list.
type Device struct {
	ID                   string
	Epoch                uint64
	CreateTime, SeenTime time.Time
}

// Account is what is known of a user before a password was checked.
type Account struct {
	DisplayName string
	// PasswordHash is a PHC string; empty when the user has no password.
	PasswordHash string
}

// Reason says why a poll was answered.
type Reason uint8

// The reasons, as in tegami.v1.FetchOpsResponse.
const (
	Operations Reason = 1
	Timeout    Reason = 2
	Superseded Reason = 3
	Draining   Reason = 4
)

// Poll asks for the operations after a cursor.
type Poll struct {
	Session Session
	// Chat is the chat that is read; empty for the user's mailbox.
	Chat  string
	After int64
	Limit int
	// Timeout is how long to hold when there is nothing; 0 answers at once.
	Timeout time.Duration
	// Lost is called, any number of times and unless it is nil, when the poll
	// cannot be said to be with its mailbox: a session that ended meanwhile goes
	// unnoticed until the answer. It must not block.
	Lost func()
	// Answer is called exactly once, from any goroutine, and must not block;
	// not at all after the poll was cancelled.
	Answer func(Page, *refusal.Refusal)
}

// Page answers a poll. Operations are as they are stored, and bodies sealed:
// whoever encodes the page for the client decodes and opens them, so that no
// actor spends its time on that. They are shared and never changed.
type Page struct {
	// Operations are encoded record.Operations, without a gap, up to Revision.
	Operations [][]byte
	Revision   int64
	HasMore    bool
	Reason     Reason
}

// Opener opens the bodies that lie in one mailbox. One goroutine at a time may
// use it.
type Opener interface {
	// Open appends the encoded body of a message to dst; nothing when the body
	// does not open, because its key is gone or it is damaged.
	Open(dst, messageID, sealed []byte) []byte
}

// View is what a mailbox looks like at one moment.
type View struct {
	// Exists: it has an account.
	Exists  bool
	Account Account
	// Devices are those that are signed in, newest first.
	Devices []Device
	Head    Head
	// Known is what was asked for beside that; nil for nothing.
	Known *record.Known
}

// Live reports whether a session is that of its device.
func (v View) Live(session Session) bool {
	return slices.ContainsFunc(v.Devices, func(d Device) bool {
		return d.ID == session.Device && d.Epoch == session.Epoch
	})
}

// Head tells the limits of a mailbox.
type Head struct {
	Revision, First int64
}

// History is a page of one conversation, newest first, bodies still sealed.
type History struct {
	Operations []*record.Operation
	HasMore    bool
}

// Contacts is a page of the contacts of a user, by user id.
type Contacts struct {
	Contacts []*record.ContactUpdate
	HasMore  bool
	// Revision is the newest of the mailbox.
	Revision int64
}

// Amend asks for a message of a conversation to be changed, by its revision in
// the user's own mailbox, or in the chat: it gets another body, or a reaction, or,
// when both are nil, is withdrawn.
type Amend struct {
	Peer     string
	Revision int64
	Body     *Body
	Reaction *string
}

// Conversation is what is known of a user's messages with another. What it
// leads to is shared and never changed.
type Conversation struct {
	*record.ConversationUpdate
	// Last is the newest message, Amended what became of it: that it was unsent,
	// or its newest edit; nil for none, or when it is no longer kept.
	Last, Amended *record.Operation
}

// Conversations is a page of a user's conversations.
type Conversations struct {
	Conversations []Conversation
	HasMore       bool
	// Revision is the newest of the mailbox.
	Revision int64
}

// Settings are those that a user and one of the user's devices made. They are
// shared and never changed.
type Settings struct {
	User   *record.Settings
	Device *record.DeviceSettings
}

// A FriendAction is what a user does about the friendship with another.
type FriendAction = record.Befriend_Action

// The actions. Request also accepts what the other asked, and Remove takes a
// request back.
const (
	RequestFriend = record.Befriend_REQUEST
	AcceptFriend  = record.Befriend_ACCEPT
	DeclineFriend = record.Befriend_DECLINE
	RemoveFriend  = record.Befriend_REMOVE
)

// ContactEdit is a change of what a user alone decides about another: that
// which is not nil.
type ContactEdit struct {
	Blocked, Favorite *bool
	Alias             *string
}

// Invitation is a code that makes a friend of whoever redeems it.
type Invitation struct {
	Code       string
	ExpireTime time.Time
}

// NewChat asks for a chat to be made.
type NewChat struct {
	// ClientID tells a retry.
	ClientID, Name string
	WholeHistory   bool
	Invite         []string
}

// Chats is a page of the chats of a user, by their ids.
type Chats struct {
	Chats   []*record.ChatOf
	HasMore bool
	// Revision is the newest of the mailbox.
	Revision int64
}

// Members is a page of the users of a chat, by user id.
type Members struct {
	Members []*record.MemberOf
	HasMore bool
	// Revision is the newest of the chat.
	Revision int64
}

// NewAccount asks for a user to be created.
type NewAccount struct {
	User, DisplayName, PasswordHash string
}
