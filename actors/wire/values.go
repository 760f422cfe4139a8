// Package wire holds what the nodes of a cluster say to each other, and turns
// the values of other packages into that and back.
//
// What comes from another node is checked here: a value that cannot be is an
// error, and never a panic.
package wire

import (
	"errors"
	"math"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

// ErrMalformed says that a message is none that a node of any version sends.
var ErrMalformed = errors.New("malformed message of another node")

// NewRefusal returns a refusal for the wire; nil for nil.
func NewRefusal(r *refusal.Refusal) *Refusal {
	if r == nil {
		return nil
	}
	return &Refusal{
		Reason: uint32(r.Reason), Field: r.Field,
		RetryAfterMs: r.RetryAfter.Milliseconds(), ResumeRevision: r.ResumeRevision,
	}
}

// Value returns the refusal; nil for nil. A reason that this version does not
// know is an internal error to whoever is told.
func (x *Refusal) Value() *refusal.Refusal {
	if x == nil {
		return nil
	}
	r := &refusal.Refusal{Reason: refusal.Internal, Field: x.GetField(), ResumeRevision: x.GetResumeRevision()}
	if reason := x.GetReason(); reason > 0 && reason <= math.MaxUint8 && refusal.Reason(reason).String() != "" {
		r.Reason = refusal.Reason(reason)
	}
	const most = math.MaxInt64 / int64(time.Millisecond)
	r.RetryAfter = time.Duration(min(max(x.GetRetryAfterMs(), 0), most)) * time.Millisecond
	return r
}

// NewSession returns a session for the wire; nil for none.
func NewSession(s talk.Session) *Session {
	if s == (talk.Session{}) {
		return nil
	}
	return &Session{User: s.User, Device: s.Device, Epoch: s.Epoch}
}

// Value returns the session, that of nobody for nil.
func (x *Session) Value() talk.Session {
	return talk.Session{User: x.GetUser(), Device: x.GetDevice(), Epoch: x.GetEpoch()}
}

// NewCommandAnswer returns the answer to a command for the wire.
func NewCommandAnswer(id uint64, a mailbox.Answer, refused *refusal.Refusal) *CommandAnswer {
	return &CommandAnswer{
		Id: id, Refusal: NewRefusal(refused), MessageId: messageID(a.MessageID), Time: a.Time,
		Revision: a.Revision, Session: NewSession(a.Session),
	}
}

func messageID(id [persistence.MessageIDSize]byte) []byte {
	if id == ([persistence.MessageIDSize]byte{}) {
		return nil
	}
	return id[:]
}

// Value returns the answer to a command. Error: ErrMalformed.
func (x *CommandAnswer) Value() (mailbox.Answer, *refusal.Refusal, error) {
	refused := x.GetRefusal().Value()
	a := mailbox.Answer{Time: x.GetTime(), Revision: x.GetRevision(), Session: x.GetSession().Value()}
	if refused != nil {
		a.Reason = refused.Reason
	}
	switch len(x.GetMessageId()) {
	case 0:
	case persistence.MessageIDSize:
		a.MessageID = [persistence.MessageIDSize]byte(x.GetMessageId())
	default:
		return mailbox.Answer{}, nil, ErrMalformed
	}
	return a, refused, nil
}

// NewFetched returns the answer to a fetch for the wire; refused, reread or the
// page is meant.
func NewFetched(token uint64, page talk.Page, refused *refusal.Refusal, reread bool) *Fetched {
	return &Fetched{
		Token: token, Refusal: NewRefusal(refused), Reread: reread, Operations: page.Operations,
		Revision: page.Revision, HasMore: page.HasMore, Reason: uint32(page.Reason),
	}
}

// Page returns the page, if no refusal or advice is meant. Error: ErrMalformed.
func (x *Fetched) Page() (talk.Page, error) {
	page := talk.Page{Operations: x.GetOperations(), Revision: x.GetRevision(), HasMore: x.GetHasMore()}
	if x.GetRefusal() != nil || x.GetReread() {
		return talk.Page{}, nil
	}
	if reason := x.GetReason(); reason < uint32(talk.Operations) || reason > uint32(talk.Draining) {
		return talk.Page{}, ErrMalformed
	}
	page.Reason = talk.Reason(x.GetReason())
	// The cursor goes where the operations end: with another it would skip some.
	if n := len(page.Operations); n > 0 {
		if last, err := record.RevisionOf(page.Operations[n-1]); err != nil || last != page.Revision {
			return talk.Page{}, ErrMalformed
		}
	}
	return page, nil
}

// NewInspected returns a view for the wire.
func NewInspected(id uint64, v talk.View, refused *refusal.Refusal) *Inspected {
	x := &Inspected{Id: id, Refusal: NewRefusal(refused), Head: v.Head.Revision, First: v.Head.First, Known: v.Known}
	if v.Exists {
		x.Account = &Account{DisplayName: v.Account.DisplayName, PasswordHash: v.Account.PasswordHash}
	}
	for _, d := range v.Devices {
		x.Devices = append(x.Devices, &Device{
			Id: d.ID, Epoch: d.Epoch, CreateTime: d.CreateTime.UnixMilli(), SeenTime: d.SeenTime.UnixMilli(),
		})
	}
	return x
}

// Value returns the view.
func (x *Inspected) Value() (talk.View, *refusal.Refusal) {
	v := talk.View{
		Exists:  x.GetAccount() != nil,
		Account: talk.Account{DisplayName: x.GetAccount().GetDisplayName(), PasswordHash: x.GetAccount().GetPasswordHash()},
		Head:    talk.Head{Revision: x.GetHead(), First: x.GetFirst()},
		Known:   x.GetKnown(),
	}
	for _, d := range x.GetDevices() {
		v.Devices = append(v.Devices, talk.Device{
			ID: d.GetId(), Epoch: d.GetEpoch(),
			CreateTime: time.UnixMilli(d.GetCreateTime()), SeenTime: time.UnixMilli(d.GetSeenTime()),
		})
	}
	return v, x.GetRefusal().Value()
}

// NewKeysAnswer returns keys for the wire.
func NewKeysAnswer(id uint64, keys []persistence.Key, refused *refusal.Refusal) *KeysAnswer {
	x := &KeysAnswer{Id: id, Refusal: NewRefusal(refused)}
	for _, key := range keys {
		x.Keys = append(x.Keys, key[:])
	}
	return x
}

// Value returns the keys of n mailboxes. Error: ErrMalformed.
func (x *KeysAnswer) Value(n int) ([]persistence.Key, *refusal.Refusal, error) {
	if refused := x.GetRefusal().Value(); refused != nil {
		return nil, refused, nil
	}
	if len(x.GetKeys()) != n {
		return nil, nil, ErrMalformed
	}
	keys := make([]persistence.Key, n)
	for i, key := range x.GetKeys() {
		if len(key) != len(keys[i]) {
			return nil, nil, ErrMalformed
		}
		keys[i] = persistence.Key(key)
	}
	return keys, nil, nil
}
