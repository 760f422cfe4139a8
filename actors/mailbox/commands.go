package mailbox

import (
	"bytes"
	"slices"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

// delivery is an operation with its message, in one piece of memory: a server
// makes more of these than of anything else.
type delivery struct {
	operation record.Operation
	message   record.Message
	received  record.Operation_ReceiveMessage
	sent      record.Operation_SendMessage
}

// copyOfSend is the follow-up of a Send, in one piece likewise.
type copyOfSend struct {
	followUp FollowUp
	record   record.Record
	kind     record.Record_SentCopy
	sentCopy record.SentCopy
}

// send takes a message in and lets the sender's own devices know by a
// follow-up. A message to oneself needs none.
func (d *decision) send(c *record.Send) {
	if !d.deliver(c.From, &delivery{message: record.Message{
		MessageId:       c.MessageId,
		From:            c.From,
		To:              d.user,
		ClientMessageId: c.ClientMessageId,
		Time:            d.time,
		SealedBody:      c.SealedBody,
	}}) {
		return
	}
	d.answer.MessageID = [persistence.MessageIDSize]byte(c.MessageId)
	if c.From == d.user {
		d.operation.OriginDevice = c.FromDevice
		return
	}
	f := &copyOfSend{sentCopy: record.SentCopy{
		Source:           d.user,
		SourceGeneration: d.in.Position.Generation,
		SourceOffset:     d.in.Position.Offset,
		MessageId:        c.MessageId,
		ClientMessageId:  c.ClientMessageId,
		FromDevice:       c.FromDevice,
		SealedBody:       c.SealedCopy,
		MessageTime:      d.time,
	}}
	f.kind.SentCopy = &f.sentCopy
	f.record.Id = followUpID(d.user, d.in.Position)
	f.record.Mailbox = c.From
	f.record.Kind = &f.kind
	f.followUp = FollowUp{Mailbox: c.From, Record: &f.record}
	d.followUp = &f.followUp
}

// sentCopy keeps what the user sent to the mailbox that the copy comes from,
// unless it was taken before.
func (d *decision) sentCopy(c *record.SentCopy, last persistence.Position) {
	position := sourcePosition(c)
	if !last.Less(position) {
		return
	}
	if d.deliver(c.Source, &delivery{message: record.Message{
		MessageId:       c.MessageId,
		From:            d.user,
		To:              c.Source,
		ClientMessageId: c.ClientMessageId,
		Time:            c.MessageTime,
		SealedBody:      c.SealedBody,
	}}) {
		d.operation.OriginDevice = c.FromDevice
		d.taken = persistence.Source{Mailbox: c.Source, Position: position}
	}
}

// deliver adds the next operation: a message of the conversation with peer.
func (d *decision) deliver(peer string, m *delivery) bool {
	if d.head == maxRevision {
		d.fail("the mailbox is out of revisions")
		return false
	}
	d.head++
	d.answer.Revision = d.head
	d.row = persistence.Row{Revision: d.head, Peer: peer}
	d.operation = &m.operation
	d.operation.Revision = d.head
	d.operation.Time = d.time
	if m.message.To == d.user {
		m.received.ReceiveMessage = &m.message
		d.operation.Kind = &m.received
	} else {
		m.sent.SendMessage = &m.message
		d.operation.Kind = &m.sent
	}
	return true
}

func (d *decision) createAccount(c *record.CreateAccount) {
	if d.account != nil {
		d.refuse(refusal.UserExists)
		return
	}
	d.account = &record.Account{
		DisplayName:  c.GetDisplayName(),
		PasswordHash: c.GetPasswordHash(),
		CreateTime:   d.time,
	}
	d.accountChanged = true
}

// signIn starts a session. It ends that which the device had, and the oldest
// of all when there are too many.
func (d *decision) signIn(c *record.SignIn) {
	if d.device(c.DeviceId) != nil {
		d.end(c.DeviceId)
	}
	for len(d.devices) >= MaxDevices {
		d.end(d.devices[0].DeviceId)
	}
	session := &record.Device{
		DeviceId:    c.DeviceId,
		Epoch:       d.nextEpoch,
		CreateTime:  d.time,
		SeenTime:    d.time,
		RefreshHash: c.RefreshHash,
	}
	d.nextEpoch++
	d.devices = append(slices.Clone(d.devices), session)
	d.accountChanged = true
	d.answer.Session = d.session(session)
}

// refresh exchanges a refresh token. The token of the exchange before is good
// for as long as the newer one was not presented, since its answer may have
// been lost; that of any earlier one was stolen.
func (d *decision) refresh(c *record.Refresh) {
	old := d.device(c.DeviceId)
	if old == nil || old.Epoch != c.Epoch {
		d.refuse(refusal.UnknownDevice)
		return
	}
	if !bytes.Equal(c.PresentedHash, old.RefreshHash) && !bytes.Equal(c.PresentedHash, old.PreviousRefreshHash) {
		d.refuse(refusal.TokenReused)
		d.end(c.DeviceId)
		return
	}
	session := &record.Device{
		DeviceId:            old.DeviceId,
		Epoch:               old.Epoch,
		CreateTime:          old.CreateTime,
		SeenTime:            d.time,
		RefreshHash:         c.RefreshHash,
		PreviousRefreshHash: c.PresentedHash,
	}
	d.devices = slices.Clone(d.devices)
	d.devices[slices.Index(d.devices, old)] = session
	d.accountChanged = true
	d.answer.Session = d.session(session)
}

func (d *decision) signOut(c *record.SignOut) {
	device := d.device(c.GetDeviceId())
	if device == nil || c.Epoch != 0 && c.Epoch != device.Epoch {
		d.refuse(refusal.UnknownDevice)
		return
	}
	d.answer.Session = d.session(device)
	d.end(c.DeviceId)
}

func (d *decision) trim(c *record.Trim) {
	if first := min(c.GetFirstRevision(), d.head+1); first > d.first {
		d.first = first
		d.trimmed = true
	}
}

// device returns a device's session; nil when it has none.
func (c *core) device(id string) *record.Device {
	for _, d := range c.devices {
		if d.DeviceId == id {
			return d
		}
	}
	return nil
}

// end ends the session of a device that has one.
func (d *decision) end(id string) {
	i := slices.Index(d.devices, d.device(id))
	d.ended = append(d.ended, d.session(d.devices[i]))
	d.devices = slices.Concat(d.devices[:i], d.devices[i+1:])
	d.accountChanged = true
}

func (d *decision) session(device *record.Device) talk.Session {
	return talk.Session{User: d.user, Device: device.DeviceId, Epoch: device.Epoch}
}
