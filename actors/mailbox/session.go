package mailbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

var signInKind = kind{
	command:        true,
	session:        func(r *record.Record) string { return r.GetSignIn().GetDeviceId() },
	withoutAccount: refusal.UnknownRecipient,
	malformed: func(r *record.Record) bool {
		return r.GetSignIn().GetDeviceId() == "" || !isHash(r.GetSignIn().GetRefreshHash())
	},
	decide: func(d *decision, r *record.Record) { d.signIn(r.GetSignIn()) },
}

var refreshKind = kind{
	command:        true,
	session:        func(r *record.Record) string { return r.GetRefresh().GetDeviceId() },
	withoutAccount: refusal.UnknownDevice,
	malformed: func(r *record.Record) bool {
		return !isHash(r.GetRefresh().GetPresentedHash()) || !isHash(r.GetRefresh().GetRefreshHash())
	},
	decide: func(d *decision, r *record.Record) { d.refresh(r.GetRefresh()) },
}

var signOutKind = kind{
	command:        true,
	session:        func(r *record.Record) string { return r.GetSignOut().GetDeviceId() },
	withoutAccount: refusal.UnknownDevice,
	malformed:      func(*record.Record) bool { return false },
	decide:         func(d *decision, r *record.Record) { d.signOut(r.GetSignOut()) },
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

func isHash(b []byte) bool { return len(b) == sha256.Size }

// epochID lays an epoch where a dedup entry has the message id.
func epochID(epoch uint64) (id [persistence.MessageIDSize]byte) {
	binary.BigEndian.PutUint64(id[:], epoch)
	return id
}

func epochOf(id [persistence.MessageIDSize]byte) uint64 { return binary.BigEndian.Uint64(id[:]) }
