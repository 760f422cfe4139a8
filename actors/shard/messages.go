package shard

import (
	"cmp"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/writebehind"
	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/persistence"
)

// Messages that others send to a shard actor. All are immutable once sent.
type (
	// Command asks for a record to be appended and applied.
	Command struct {
		Record *record.Record
		// Accepted is when the command arrived, for the latency of its stages.
		Accepted time.Time
		// Trace follows the command through its stages; nil for most.
		Trace Trace
		// Deadline is when an append of unknown outcome is no longer repeated.
		Deadline time.Time
		// Answer is called exactly once, from any goroutine, and must not
		// block.
		Answer func(mailbox.Answer, *refusal.Refusal)
	}

	// FollowUps hands records over that another shard's apply made. The shard
	// appends them in order; a batch that is not confirmed is sent again.
	FollowUps struct {
		// Source names the owner of the shard that they come from, and Sequence
		// the batch among its own.
		Source   string
		Sequence uint64
		Records  []*record.Record
		// Appended is called when the records are durable, if ever, and Lost when
		// they may have been lost on the way, if that is noticed; from any
		// goroutine. They must not block.
		Appended, Lost func()
	}

	// FollowUpsAppended confirms a FollowUps: its records are durable.
	FollowUpsAppended struct {
		Shard    uint32
		Sequence uint64
	}

	// Rerouted tells that other actors serve some shards than did; nil: any may.
	// What is on its way to them is sent again.
	Rerouted struct{ Shards []uint32 }

	// Fetch asks for the operations after a cursor. The answer is a Fetched to
	// Subscriber, at once when there are operations or Hold is false; else
	// when the first arrives.
	Fetch struct {
		Session talk.Session
		// Chat is the chat whose operations are meant; empty for those of the
		// mailbox of the session's user.
		Chat       string
		After      int64
		Limit      int
		Hold       bool
		Subscriber *actor.PID
		// Token is handed back in the answer. A later Fetch of the same device
		// replaces the subscription.
		Token uint64
		// First: the poll was not fetched for before. A poll of the device that has
		// been held for a while is the older one then, whichever node it came by,
		// and ends.
		First bool
		// Host: the server itself asks, for the behaviour whose mailbox it is. It
		// needs no session, and is not asked of another node.
		Host bool
		// confirmed is set once the log was read to its end, so that a cursor
		// beyond the head is wrong and not merely early.
		confirmed bool
	}

	// Fetched answers a Fetch. Exactly one of Refusal, Reread and a page is
	// meant.
	Fetched struct {
		Token   uint64
		Page    talk.Page
		Refusal *refusal.Refusal
		// Reread: there is more, but it did not fit the wake-up, or the mailbox
		// restarts. Fetch again with the same cursor.
		Reread bool
	}

	// Unsubscribe ends the subscription that a Fetch with the token made.
	Unsubscribe struct {
		Session talk.Session
		Chat    string // as in the Fetch
		Token   uint64
	}

	// Inspect asks what a mailbox looks like. Answer is called inside its actor:
	// it must be quick.
	Inspect struct {
		Mailbox string
		// Query asks for more; nil for no more.
		Query  *record.Query
		Answer func(talk.View, *refusal.Refusal)
	}

	// History asks for a page of a conversation, newest first.
	History struct {
		User, Peer string
		// Reader, of a chat's History, is as whom it is read, no further than that
		// member may; empty for all.
		Reader string
		Before int64
		Limit  int
		Answer func(HistoryPage, *refusal.Refusal)
	}

	// HistoryPage is a page of a conversation, newest first: operations as they
	// are stored. They are shared and never changed.
	HistoryPage struct {
		Operations [][]byte
		HasMore    bool
	}

	// Drain has the shard refuse new commands, finish what is in flight, store
	// everything and call Done once.
	Drain struct {
		Done func()
	}
)

// addressed is a message for a mailbox that the shard forwards.
type addressed interface {
	mailbox() string
	// refuse answers the message without the mailbox.
	refuse(*refusal.Refusal, sender)
}

// sender is what answering takes of an actor's context.
type sender interface {
	Send(pid *actor.PID, message any)
}

func (m *Fetch) mailbox() string       { return cmp.Or(m.Chat, m.Session.User) }
func (m *Unsubscribe) mailbox() string { return cmp.Or(m.Chat, m.Session.User) }
func (m *Inspect) mailbox() string     { return m.Mailbox }
func (m *History) mailbox() string     { return m.User }

func (m *Fetch) refuse(r *refusal.Refusal, to sender) {
	to.Send(m.Subscriber, &Fetched{Token: m.Token, Refusal: r})
}
func (m *Unsubscribe) refuse(*refusal.Refusal, sender) {}
func (m *Inspect) refuse(r *refusal.Refusal, _ sender) { m.Answer(talk.View{}, r) }
func (m *History) refuse(r *refusal.Refusal, _ sender) { m.Answer(HistoryPage{}, r) }
func (m *Command) refuse(r *refusal.Refusal)           { m.Answer(mailbox.Answer{}, r) }
func (m *Command) answer(a mailbox.Answer) {
	if a.Reason != refusal.None {
		m.Answer(a, refusal.Of(a.Reason))
		return
	}
	m.Answer(a, nil)
}

// Messages of a shard to itself, from the journal and from timers. Those with
// an incarnation are ignored by any other incarnation of the shard actor.
type (
	opened struct {
		incarnation uint64
		marks       persistence.Marks
		bounds      persistence.Bounds
		err         error
	}
	appended struct {
		incarnation uint64
		landed      persistence.Appended
		err         error
	}
	logRead struct {
		incarnation uint64
		entries     []persistence.Entry
		err         error
	}
	// grown: another owner appended to the log.
	grown struct{}
	// endRead tells where the log ends, for what waits for that.
	endRead struct {
		incarnation uint64
		next        int64
		err         error
	}
	tick        struct{ incarnation uint64 }
	openAgain   struct{ incarnation uint64 }
	appendAgain struct{ incarnation uint64 }
	loadAgain   struct {
		incarnation uint64
		mailbox     string
	}
	restartMailbox struct {
		incarnation uint64
		mailbox     string
	}
)

// Messages between a shard and its mailboxes.
type (
	// applyRecord hands a record to its mailbox. Shard to mailbox.
	applyRecord struct {
		position persistence.Position
		time     int64
		record   *record.Record
		command  *Command // that it came with; nil if not here
		read     bool     // from the log: it may have been answered before
	}
	// begin tells an instance its number. What comes before it waits. Shard to
	// mailbox.
	begin struct{ incarnation uint64 }
	// loaded brings a mailbox its state, and the records above it that were
	// dispatched before. Worker to mailbox.
	loaded struct {
		incarnation uint64
		state       *mailbox.State // the mailbox's own from now on
		records     []applyRecord
		// stored is how far the store is known to have the mailbox, dropped how
		// far records were dropped.
		stored, dropped persistence.Position
		err             error
	}
	// storedThrough: everything up to a position is in the store. Shard to
	// mailbox.
	storedThrough struct{ position persistence.Position }
	// droppedThrough: everything up to a position was dropped from memory, and is
	// not to be held until it is stored. Shard to mailbox.
	droppedThrough struct{ position persistence.Position }
	// passivate asks a mailbox to agree to be stopped, also one that is polled or
	// not loaded: its polls come again, its records are read again. Shard to
	// mailbox.
	passivate struct{ polled bool }

	// ready: the mailbox is loaded. Mailbox to shard.
	ready struct {
		mailbox string
		exists  bool
	}
	// loadFailed: the store did not answer, or not any more what became of records:
	// see errUntold. Mailbox to shard.
	loadFailed struct {
		mailbox string
		untold  bool
	}
	// lookUpFailed: the store did not answer, and records wait for it. Mailbox to
	// shard.
	lookUpFailed struct{ mailbox string }
	// applied tells what a record came to. Mailbox to shard.
	applied struct {
		position persistence.Position
		outcome  mailbox.Outcome
		events   []*eventsv1.Event
		// exists: the mailbox has an account.
		exists bool
	}
	// unconfirmed: a fetch knows of more than the mailbox does, a cursor beyond the
	// head or a session: it may be wrong, or this owner behind. Mailbox to shard.
	unconfirmed struct{ fetch *Fetch }
	// passivated answers passivate. Mailbox to shard.
	passivated struct {
		mailbox string
		agreed  bool
	}

	dedupRead struct {
		incarnation uint64
		entry       *persistence.DedupEntry
		err         error
	}
	dedupAgain struct{ incarnation uint64 }
)

// stored is what the write-behind actor reports.
type stored = writebehind.Stored
