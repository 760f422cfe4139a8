// Package refusal names every reason for which Tegami refuses what it was
// asked, together with what the asker can do about it.
//
// A refusal that apply decides is remembered in the dedup entry of its
// command and lies in stores: the numbers of reasons never change meaning.
package refusal

import (
	"errors"
	"time"
)

// Code is what a refusal means to a client. The names and numbers are those
// of Connect and gRPC.
type Code uint8

// The codes in use.
const (
	CodeInvalidArgument    Code = 3
	CodeNotFound           Code = 5
	CodeAlreadyExists      Code = 6
	CodePermissionDenied   Code = 7
	CodeResourceExhausted  Code = 8
	CodeFailedPrecondition Code = 9
	CodeAborted            Code = 10
	CodeOutOfRange         Code = 11
	CodeUnimplemented      Code = 12
	CodeInternal           Code = 13
	CodeUnavailable        Code = 14
	CodeUnauthenticated    Code = 16
)

// Reason says exactly what was wrong. Zero is no refusal at all.
type Reason uint8

// Reasons 1 to 63 are decided by apply and durable; from 64 on they are
// decided outside of it and never stored.
const (
	None Reason = 0

	// UnknownRecipient: no account of that name.
	UnknownRecipient Reason = 1
	// UserExists: the user id is taken.
	UserExists Reason = 2
	// DifferentBody: the client message id was used with another body.
	DifferentBody Reason = 3
	// Stale: the command is older than an hour at its record's time.
	Stale Reason = 4
	// UnknownDevice: the device has no session, or a newer one.
	UnknownDevice Reason = 5
	// TokenReused: a refresh token that was exchanged before the last one.
	// The device was signed out.
	TokenReused Reason = 6
	// Internal: apply failed on the record. The state is untouched.
	Internal Reason = 7

	// NoRequest: the user did not ask for friendship, or no longer does.
	NoRequest Reason = 8
	// TooManyContacts: a user has as many contacts as may be.
	TooManyContacts Reason = 9
	// UnknownInvitation: there is no such code, or it was redeemed, or is too old.
	UnknownInvitation Reason = 10
	// TooManyInvitations: a user has as many open codes as may be.
	TooManyInvitations Reason = 11
	// Yourself: a user cannot be a contact of their own.
	Yourself Reason = 12
	// NotFriends: the recipient takes messages of friends alone.
	NotFriends Reason = 13
	// UnknownConversation: there is no message with that user.
	UnknownConversation Reason = 14
	// TooLate: the message is too old to be changed.
	TooLate Reason = 15

	// NotNext: another step of the behaviour was taken first.
	NotNext Reason = 40
	// TooManyTimers: a behaviour has as many timers as may be.
	TooManyTimers Reason = 41
	// UnknownChat: there is no such chat, or the user is not in it.
	UnknownChat Reason = 20
	// NotPermitted: the user's role in the chat is too low.
	NotPermitted Reason = 21
	// NotInvited: the user is a member, and so is not invited.
	NotInvited Reason = 22
	// ChatFull: as many are in the chat, or invited to it, as may be.
	ChatFull Reason = 23
	// UnknownMember: the other user is no member of the chat.
	UnknownMember Reason = 24

	// Busy: a queue is full.
	Busy Reason = 64
	// NotReady: the shard is opening or replaying.
	NotReady Reason = 65
	// Stopping: the server is stopping.
	Stopping Reason = 66
	// OutcomeUnknown: the command may have happened. A retry with the same id
	// tells.
	OutcomeUnknown Reason = 67
	// StoreUnavailable: what was asked for lies in a store that does not
	// answer.
	StoreUnavailable Reason = 68
	// DiskFull: the journal takes no records until space is freed.
	DiskFull Reason = 69
	// CursorAhead: the cursor lies beyond the head of the mailbox.
	CursorAhead Reason = 70
	// CursorTooOld: operations after the cursor are no longer kept.
	CursorTooOld Reason = 71
	// PollTooOften: a device superseded its own poll more than once a second.
	PollTooOften Reason = 72
	// RateLimited: too many requests of one user, device or address.
	RateLimited Reason = 73
	// SessionEnded: the device was signed out while it waited.
	SessionEnded Reason = 74
	// ShardStopped: the shard met a record it does not know, or a journal
	// that went back, and waits for an operator.
	ShardStopped Reason = 75
	// UnknownMessage: no message of the conversation has that revision.
	UnknownMessage Reason = 76
	// NotYours: the message is of another user.
	NotYours Reason = 77
	// TooManyChats: the user is in as many chats as may be.
	TooManyChats Reason = 78
	// Upgrading: some node of the cluster is of a version that does not know this.
	Upgrading Reason = 80
	// WrongClock: the clock of the node that has the shard is not the journal's.
	WrongClock Reason = 90
)

// words has the code, the word and the text of each reason.
var words = map[Reason]struct {
	code Code
	word string
	text string
}{
	UnknownRecipient: {CodeNotFound, "unknown_recipient", "no such user"},
	UserExists:       {CodeAlreadyExists, "user_exists", "the user id is taken"},
	DifferentBody:    {CodeAlreadyExists, "different_body", "the client message id was used with another body"},
	Stale:            {CodeAborted, "stale", "the command is more than an hour old: use a new id"},
	UnknownDevice:    {CodeUnauthenticated, "unknown_device", "the device is not signed in"},
	TokenReused:      {CodeUnauthenticated, "token_reused", "the refresh token was used before: the device is signed out"},
	Internal:         {CodeInternal, "internal", "internal error"},

	NoRequest:           {CodeNotFound, "no_request", "the user did not ask for friendship"},
	TooManyContacts:     {CodeFailedPrecondition, "too_many_contacts", "there are as many contacts as may be"},
	UnknownInvitation:   {CodeNotFound, "unknown_invitation", "no such invitation, or it was redeemed or is too old"},
	TooManyInvitations:  {CodeFailedPrecondition, "too_many_invitations", "there are as many open invitations as may be"},
	UnknownConversation: {CodeNotFound, "unknown_conversation", "there is no message with that user"},
	TooLate:             {CodeFailedPrecondition, "too_late", "the message is too old to be changed"},
	UnknownMessage:      {CodeNotFound, "unknown_message", "no message of the conversation has that revision"},
	NotYours:            {CodePermissionDenied, "not_yours", "the message is of another user"},
	NotFriends:          {CodePermissionDenied, "not_friends", "the recipient takes messages of friends alone"},
	NotNext:             {CodeAborted, "not_next", "another step of the behaviour was taken first"},
	TooManyTimers:       {CodeResourceExhausted, "too_many_timers", "there are as many timers as may be"},
	Yourself:            {CodeInvalidArgument, "yourself", "this is the caller"},

	UnknownChat:   {CodeNotFound, "unknown_chat", "no such chat, or the caller is not in it"},
	NotPermitted:  {CodePermissionDenied, "not_permitted", "the caller's role in the chat does not permit it"},
	NotInvited:    {CodeFailedPrecondition, "not_invited", "a member is not invited"},
	ChatFull:      {CodeFailedPrecondition, "chat_full", "as many are in the chat as may be"},
	UnknownMember: {CodeNotFound, "unknown_member", "the user is no member of the chat"},
	TooManyChats:  {CodeFailedPrecondition, "too_many_chats", "the caller is in as many chats as may be"},

	Busy:             {CodeResourceExhausted, "busy", "too much is in flight"},
	NotReady:         {CodeUnavailable, "not_ready", "not ready yet"},
	Stopping:         {CodeUnavailable, "stopping", "the server is stopping"},
	OutcomeUnknown:   {CodeUnavailable, "outcome_unknown", "it may have happened: retry with the same id"},
	StoreUnavailable: {CodeUnavailable, "store_unavailable", "the store does not answer"},
	DiskFull:         {CodeUnavailable, "disk_full", "the disk is full"},
	CursorAhead:      {CodeOutOfRange, "cursor_ahead", "the cursor lies beyond the head of the mailbox"},
	CursorTooOld:     {CodeOutOfRange, "cursor_too_old", "operations after the cursor are no longer kept"},
	PollTooOften:     {CodeResourceExhausted, "poll_too_often", "a poll may take over from another once a second"},
	RateLimited:      {CodeResourceExhausted, "rate_limited", "too many requests"},
	SessionEnded:     {CodeUnauthenticated, "session_ended", "the device was signed out"},
	Upgrading:        {CodeUnavailable, "upgrading", "not before every server of the cluster is of this version"},
	WrongClock:       {CodeUnavailable, "wrong_clock", "the clock of a server is wrong"},
	ShardStopped:     {CodeUnavailable, "shard_stopped", "the shard is stopped until an operator acts"},
}

// String returns the stable word that clients see as the reason.
func (r Reason) String() string { return words[r].word }

// Durable reports whether apply decides the reason: it is the same at every
// owner and in every retry.
func (r Reason) Durable() bool { return r > None && r < 64 }

// Code returns what the reason means to a client.
func (r Reason) Code() Code {
	if w, ok := words[r]; ok {
		return w.code
	}
	return CodeInternal
}

// Refusal is an error that is meant for the client.
type Refusal struct {
	Reason Reason
	// Field is the JSON name of the field at fault, if one is.
	Field string
	// RetryAfter is positive when a retry may succeed after that long.
	RetryAfter time.Duration
	// ResumeRevision is the cursor to go on from, with CursorAhead and
	// CursorTooOld.
	ResumeRevision int64
}

// Of returns a refusal for a reason without further particulars.
func Of(reason Reason) *Refusal { return &Refusal{Reason: reason} }

// After returns a refusal that may be retried after d.
func After(reason Reason, d time.Duration) *Refusal {
	return &Refusal{Reason: reason, RetryAfter: d}
}

func (r *Refusal) Error() string { return words[r.Reason].text }

// From returns the refusal in err's chain; any other error is Internal, its
// text being none of the client's business. It returns nil for nil.
func From(err error) *Refusal {
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*Refusal](err); ok {
		return refused
	}
	return Of(Internal)
}
