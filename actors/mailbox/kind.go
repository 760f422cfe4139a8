package mailbox

import (
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// kind is what Apply knows of one kind of record. There is one for each, in the
// file that also decides it.
type kind struct {
	// command: whoever made the record gets an answer, which is remembered, so
	// that it must have a dedup key.
	command bool
	// source, of a follow-up, returns where it comes from: it is taken once from
	// each position, and nobody gets an answer.
	source func(*record.Record) persistence.Source
	// session, of a command that is answered with a session, returns the device
	// that it is about.
	session func(*record.Record) (device string)
	// malformed reports whether the record's own fields cannot be decided.
	malformed func(*record.Record) bool
	// chat: it is decided in a chat, and others in the mailbox of a user, unless
	// they are decided anywhere.
	chat, anywhere bool
	// creates: it is decided in a mailbox without an account, too. Any other is
	// refused there, for the reason withoutAccount: None when nobody waits for an
	// answer.
	creates        bool
	withoutAccount refusal.Reason
	// follows, of a command: its answer promises what follow-ups bring about.
	follows bool
	// since is the version of Apply that has the kind first; 0 means 1.
	since uint32
	// decide makes the decision.
	decide func(*decision, *record.Record)
}

// unknownKind is that of records which no owner appends for a mailbox.
var unknownKind = kind{
	command:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed:      func(*record.Record) bool { return true },
}

// Since returns the version of Apply that has the kind of a record first.
func Since(r *record.Record) uint32 { return max(kindOf(r).since, 1) }

// Creates reports whether a record may make the mailbox that it is for. One that
// does not is refused where there is none, for the reason.
func Creates(r *record.Record) (creates bool, otherwise refusal.Reason) {
	k := kindOf(r)
	return k.creates, k.withoutAccount
}

// SourceOf returns where a follow-up comes from; the zero value for a command.
func SourceOf(r *record.Record) persistence.Source {
	if source := kindOf(r).source; source != nil {
		return source(r)
	}
	return persistence.Source{}
}

// kindOf returns the kind of a record. A new kind is entered here.
func kindOf(r *record.Record) *kind {
	switch r.GetKind().(type) {
	case *record.Record_Send:
		return &sendKind
	case *record.Record_SentCopy:
		return &sentCopyKind
	case *record.Record_CreateAccount:
		return &createAccountKind
	case *record.Record_SignIn:
		return &signInKind
	case *record.Record_Refresh:
		return &refreshKind
	case *record.Record_SignOut:
		return &signOutKind
	case *record.Record_Trim:
		return &trimKind
	case *record.Record_Befriend:
		return &befriendKind
	case *record.Record_Friendship:
		return &friendshipKind
	case *record.Record_EditContact:
		return &editContactKind
	case *record.Record_CreateInvitation:
		return &createInvitationKind
	case *record.Record_RedeemInvitation:
		return &redeemInvitationKind
	case *record.Record_UpdateSettings:
		return &updateSettingsKind
	case *record.Record_UpdateProfile:
		return &updateProfileKind
	case *record.Record_ProfileCopy:
		return &profileCopyKind
	case *record.Record_MarkRead:
		return &markReadKind
	case *record.Record_PeerRead:
		return &peerReadKind
	case *record.Record_EditConversation:
		return &editConversationKind
	case *record.Record_Amend:
		return &amendKind
	case *record.Record_AmendCopy:
		return &amendCopyKind
	case *record.Record_Step:
		if reachesChats(r.GetStep()) {
			return &stepIntoChatsKind
		}
		return &stepKind
	case *record.Record_StepMessage:
		return &stepMessageKind
	case *record.Record_Call:
		return &callKind
	case *record.Record_CreateChat:
		return &createChatKind
	case *record.Record_ChangeChat:
		return &changeChatKind
	case *record.Record_ChatSend:
		return &chatSendKind
	case *record.Record_ChatAmend:
		return &chatAmendKind
	case *record.Record_ChatCopy:
		return &chatCopyKind
	case *record.Record_ChatStep:
		return &chatStepKind
	default:
		return &unknownKind
	}
}

// isMalformed reports whether a record is none that this version of Apply can
// decide. Whoever appends checks what clients send, so that such a record is a
// mistake of the server's.
func (k *kind) isMalformed(r *record.Record) bool {
	if k.command {
		if _, isCommand := k.commandKey(r); !isCommand {
			return true
		}
	}
	if k.source != nil && k.source(r).Mailbox == "" {
		return true
	}
	return k.malformed(r)
}

// commandKey returns the key under which the answer to a record is
// remembered, and whether it is: follow-ups have their source position
// instead.
func (k *kind) commandKey(r *record.Record) (key dedupKey, isCommand bool) {
	if k.source != nil || len(r.GetDedupKey()) != len(key) || len(r.GetBodyHash()) != persistence.BodyHashSize {
		return key, false
	}
	return dedupKey(r.DedupKey), true
}
