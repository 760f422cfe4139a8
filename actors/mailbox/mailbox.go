// Package mailbox is the state machine of a mailbox: what one record of the
// journal does to one user's mailbox. It has no goroutines, no clock and no
// I/O; time comes with the record.
//
// # The caller's duties
//
// The actor around a State owns it; nothing here is safe for concurrent use.
// For each record of the mailbox, in the order of the journal:
//
//  1. Ask LookUp whether the record's dedup key must be looked up in the
//     store, and if so, look it up. No other record may be applied between
//     LookUp and Apply: it could push the very entry out of memory.
//  2. Apply it.
//  3. Hand Outcome.Write to the write-behind, and append Outcome.FollowUps to
//     the journals of their mailboxes. The store must not hold the write before
//     all of them are durable.
//  4. Answer, once the record is durable and its follow-ups are, from
//     Outcome.Answer; where the outcome Repeats, once the follow-ups of all
//     records before it are, too.
//
// Entries that memory let go of are found by a look-up only if they were
// stored by then: fewer than MaxDedupInMemory commands of one mailbox may be
// on their way to the store.
//
// # What holds
//
// Apply is deterministic: the same state and input give the same outcome and
// the same state, whether live, in a replay, or at a second owner of the
// mailbox, and whether the state was kept in memory or stored and decoded in
// between. A panic inside it is a result like any other. Revisions are dense
// and never reused.
package mailbox

import (
	"slices"
	"time"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

// ApplyVersion is the version of Apply and of the stored state. A change of
// what Apply decides, and a new kind of record, is a new version. A mailbox is
// at the highest version that its records have had: each is stamped with that
// of whoever made it, and in each shard a Version record precedes the first.
const ApplyVersion = 9

const (
	// DedupWindow is how long, in log time, the answer to a command is
	// remembered.
	DedupWindow = 24 * time.Hour
	// MaxCommandAge is how much older than its record a command may be. It
	// must be well below DedupWindow: a copy that came later than the window
	// could not be known as one.
	MaxCommandAge = time.Hour
	// MaxDevices is how many devices a user may have signed in.
	MaxDevices = 10
	// MaxDedupInMemory is how many dedup entries a State keeps in memory. Of
	// 262,144 older ones it keeps enough to tell nearly every key that is not
	// among them.
	MaxDedupInMemory = 4096
	// MaxDedupLoaded is how many dedup entries are worth loading: with them the
	// State knows all keys of the day. A mailbox that has more is loaded without
	// any, and each of its commands is looked up for a day.
	MaxDedupLoaded = 4 * MaxDedupInMemory
)

// The limits of what a dedup entry in memory holds: 2^48 milliseconds are
// 8,900 years, and 2^40 operations are 30,000 years of one each second.
const (
	maxTime     = 1<<48 - 1
	maxRevision = 1<<40 - 1
)

// State is one mailbox at one position of its shard's journal. Make one with
// New or Decode.
type State struct {
	bugs
	user     string
	position persistence.Position
	core
	// accountPart is the encoded part of the state that most records leave
	// alone: account, devices and next epoch.
	accountPart []byte
	parts       parts
	dedup       window
	sources     map[string]persistence.Position
}

// core is what a record is decided on and changes, apart from the dedup
// entries and the sources. Commands work on a copy: they replace what pointers
// and slices lead to, never change it.
type core struct {
	version     uint32
	time        int64
	head, first int64
	account     *record.Account // nil until CreateAccount was applied
	devices     []*record.Device
	nextEpoch   uint64
	// contactsSince: removed contacts whose revision is not above it are
	// forgotten.
	contactsSince int64
	// messages counts those of a chat.
	messages int64
}

// Input is one record and its circumstances. The outcome shares memory with
// the record, which must not change afterwards.
type Input struct {
	Position persistence.Position
	// Time is the record's log time in milliseconds since 1970.
	Time   int64
	Record *record.Record
	// Dedup is the entry that a look-up in the store found, else nil. An entry
	// that is not older than the record is not taken for an earlier command:
	// another owner, ahead of this one, may have stored it.
	Dedup *persistence.DedupEntry
}

// Outcome is what a record did.
type Outcome struct {
	// Skipped: the state is past Position already. The answer comes from the
	// dedup entries, and there is nothing to do or to write. When no entry is
	// left to tell, the answer is OutcomeUnknown: a retry finds out.
	Skipped bool
	Answer  Answer
	// Operations are new in the mailbox, bodies sealed. They are shared and
	// never changed.
	Operations []*record.Operation
	// FollowUps are to be appended for other mailboxes, at most one for each.
	FollowUps []FollowUp
	// Repeats: what was asked for is so already, by an earlier record of the
	// mailbox. The answer promises that record's follow-ups, too.
	Repeats bool
	// Ended are the sessions that are no longer valid.
	Ended []talk.Session
	// Write is what the store is to learn. Without a State there is nothing to
	// store: the record counts as stored at once.
	Write persistence.MailboxWrite
	// Fault says, for the log, why the record was refused as Internal: mostly
	// the text and stack of a panic. Else it is empty.
	Fault string
}

// Answer is what whoever made the command gets to know.
type Answer struct {
	// Reason is None for OK.
	Reason refusal.Reason
	// MessageID is that of a Send.
	MessageID [persistence.MessageIDSize]byte
	// Time is the mailbox's log time when the command was first decided, in
	// milliseconds since 1970.
	Time int64
	// Revision is that of the operation that the command made; 0 for none.
	Revision int64
	// Session is the one that a SignIn, Refresh or SignOut is about.
	Session talk.Session
}

// FollowUp is a record for another mailbox.
type FollowUp struct {
	Mailbox string
	Record  *record.Record
}

// New returns the state of a mailbox that was never seen: no account, and
// below every position.
func New(user string) *State {
	return &State{user: user, core: core{version: 1, first: 1, nextEpoch: 1}}
}

// User returns whose mailbox it is.
func (s *State) User() string { return s.user }

// Position returns the position of the newest record that was applied.
func (s *State) Position() persistence.Position { return s.position }

// Head returns the newest revision; 0 when there is none.
func (s *State) Head() int64 { return s.head }

// First returns the oldest revision that is kept. It is Head()+1 when there
// is none.
func (s *State) First() int64 { return s.first }

// Exists reports whether the user has an account.
func (s *State) Exists() bool { return s.account != nil }

// Account returns what the account was created with. Both are empty when
// there is none.
func (s *State) Account() (displayName, passwordHash string) {
	return s.account.GetDisplayName(), s.account.GetPasswordHash()
}

// Devices returns the signed-in devices, the newest session first.
func (s *State) Devices() []talk.Device {
	devices := make([]talk.Device, 0, len(s.devices))
	for _, d := range slices.Backward(s.devices) {
		devices = append(devices, talk.Device{
			ID:         d.DeviceId,
			Epoch:      d.Epoch,
			CreateTime: time.UnixMilli(d.CreateTime),
			SeenTime:   time.UnixMilli(d.SeenTime),
		})
	}
	return devices
}

// View returns what the mailbox looks like.
func (s *State) View() talk.View {
	v := talk.View{Exists: s.Exists(), Devices: s.Devices(), Head: talk.Head{Revision: s.head, First: s.first}}
	if v.Exists {
		v.Account.DisplayName, v.Account.PasswordHash = s.Account()
	}
	return v
}

// Epoch returns the epoch of a device's session, and whether it has one.
func (s *State) Epoch(device string) (uint64, bool) {
	if d := s.device(device); d != nil {
		return d.Epoch, true
	}
	return 0, false
}

// LookUp says whether the record's dedup key must be looked up in the store
// before Apply, because the entries in memory do not reach back far enough and
// it may be among those before, and from which log time on, in milliseconds
// since 1970. logTime is the record's.
func (s *State) LookUp(r *record.Record, logTime int64) (notBefore int64, needed bool) {
	key, isCommand := kindOf(r).commandKey(r)
	now := s.logTime(logTime)
	notBefore = windowStart(now)
	if !isCommand || s.dedup.completeFrom <= notBefore || stale(r, now) {
		return notBefore, false
	}
	_, known := s.dedup.find(key)
	return notBefore, !known && s.dedup.gone.mayHave(key, notBefore)
}

// logTime returns the mailbox's log time at a record: within a mailbox it
// never goes back, whatever a journal's clock did between two generations.
func (s *State) logTime(recordTime int64) int64 {
	return min(max(s.time, recordTime), maxTime)
}
