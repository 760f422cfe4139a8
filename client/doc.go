// Package client talks to a Tegami server: it signs in, sends messages that
// arrive exactly once, and hands over what arrives in a user's mailbox.
//
// # Signing in
//
// [Login] exchanges a password for a [Session] and returns a [Client],
// [LoginWithIDToken] an ID token of the provider that the server trusts; [Resume]
// goes on with a session that was stored before. The client renews the session
// by itself, ahead of time or when the server refuses it, one renewal at a time
// however many calls are in flight. Give [WithSessionStore] to keep it between
// runs; the store may be shared by several processes.
//
// # Sending
//
// [Client.Send] returns once the message is durable in the recipient's mailbox.
// A send whose answer was lost may have happened, so it is repeated with the
// same client message id, which the server remembers for 24 hours, until an
// answer comes or the context ends. A program that may itself be restarted in
// between passes [WithID] with an id that it can make again, such as one
// derived from the message that it answers.
//
// # Receiving
//
// A mailbox is a sequence of operations, numbered 1, 2, 3 … without gaps. A
// device's place in it is its cursor: the revision of the last operation that
// it has dealt with. [Client.Run] keeps one poll at the server and calls a
// handler for each operation, in order. The cursor moves, and is saved, only
// after the handler returned nil: a crash in between means that the operation
// is handed over once more, never that one is missed. A handler that must not
// act twice keeps the cursor together with its effect (implement
// [CursorStore]), or makes its effect repeatable (send with [WithID]).
//
// Run ends by itself only for a reason that waiting does not mend: the context
// ended, the handler failed, the device was signed out, another poll of the
// same device took over ([ErrSuperseded]), or the cursor is of no use
// ([ErrCursorTooOld], [ErrCursorAhead]; [Error.ResumeRevision] is where to go on
// after the history was read again with [Client.Messages]).
//
// # Chats
//
// A group chat's id is a recipient like any other. What happens in a chat of up
// to 500 members comes to the mailbox, each operation with its place in the chat
// (chat_revision, without gaps); of a large chat ([Chat] says) it is read from
// the chat, with [Client.RunChat] and a cursor for each.
//
// # Errors
//
// What the server refuses is an [*Error] with a code, the field at fault and a
// stable reason. All methods are safe for concurrent use.
package client
