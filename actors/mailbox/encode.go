package mailbox

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// Decode returns the state of a mailbox as it was loaded. It takes any bytes;
// an error means that the state is of a newer version, or damaged.
func Decode(user string, loaded *persistence.Mailbox) (*State, error) {
	var stored record.State
	if err := proto.Unmarshal(loaded.State, &stored); err != nil {
		return nil, fmt.Errorf("decode mailbox state: %w", err)
	}
	if v := stored.ApplyVersion; v < 1 || v > ApplyVersion {
		return nil, fmt.Errorf("decode mailbox state: version %d: this one goes up to %d", v, ApplyVersion)
	}
	if err := check(&stored); err != nil {
		return nil, fmt.Errorf("decode mailbox state: %w", err)
	}
	s := New(user)
	s.position = loaded.Position
	s.core = core{
		version:   stored.ApplyVersion,
		time:      stored.Time,
		head:      stored.Head,
		first:     stored.First,
		account:   stored.Account,
		devices:   stored.Devices,
		nextEpoch: stored.NextEpoch,

		contactsSince: stored.ContactsSince,
		messages:      stored.Messages,
	}
	s.accountPart = encodeAccountPart(&s.core)
	if err := s.remember(loaded); err != nil {
		return nil, fmt.Errorf("decode mailbox state: %w", err)
	}
	for _, part := range loaded.Parts {
		if err := s.parts.load(part); err != nil {
			return nil, fmt.Errorf("decode mailbox state: %w", err)
		}
	}
	if len(loaded.Sources) > 0 {
		s.sources = make(map[string]persistence.Position, len(loaded.Sources))
	}
	for _, source := range loaded.Sources {
		s.sources[source.Mailbox] = source.Position
	}
	return s, nil
}

// check returns what cannot be in a stored state.
func check(stored *record.State) error {
	switch {
	case stored.Account == nil:
		return errors.New("no account")
	case stored.Time < 0 || stored.Time > maxTime:
		return fmt.Errorf("time %d", stored.Time)
	case stored.Head < 0 || stored.Head > maxRevision:
		return fmt.Errorf("head %d", stored.Head)
	case stored.First < 1 || stored.First > stored.Head+1:
		return fmt.Errorf("first revision %d with head %d", stored.First, stored.Head)
	}
	if since := stored.ContactsSince; since < 0 || since > stored.Head {
		return fmt.Errorf("contacts since %d with head %d", since, stored.Head)
	}
	if stored.Messages < 0 || stored.Messages > stored.Head {
		return fmt.Errorf("%d messages with head %d", stored.Messages, stored.Head)
	}
	seen := make(map[string]bool, len(stored.Devices))
	var epoch uint64
	for _, d := range stored.Devices {
		if seen[d.DeviceId] || d.DeviceId == "" || d.Epoch <= epoch {
			return fmt.Errorf("device %q with epoch %d after %d", d.DeviceId, d.Epoch, epoch)
		}
		if !isHash(d.RefreshHash) || len(d.PreviousRefreshHash) != 0 && !isHash(d.PreviousRefreshHash) {
			return fmt.Errorf("token of device %q", d.DeviceId)
		}
		seen[d.DeviceId], epoch = true, d.Epoch
	}
	if stored.NextEpoch <= epoch || stored.NextEpoch > 1<<62 {
		return fmt.Errorf("next epoch %d after %d", stored.NextEpoch, epoch)
	}
	return nil
}

// remember takes loaded dedup entries in.
func (s *State) remember(loaded *persistence.Mailbox) error {
	if !loaded.DedupComplete {
		// What was stored in this very millisecond may be missing.
		s.dedup.startAt(s.time + 1)
		return nil
	}
	entries := slices.Clone(loaded.Dedup)
	slices.SortFunc(entries, func(a, b persistence.DedupEntry) int {
		return cmp.Or(
			cmp.Compare(a.Time, b.Time),
			cmp.Compare(a.Position.Generation, b.Position.Generation),
			cmp.Compare(a.Position.Offset, b.Position.Offset))
	})
	for i := range entries {
		e := &entries[i]
		if e.Time < 0 || e.Time > s.time || e.Revision < 0 || e.Revision > s.head {
			return fmt.Errorf("dedup entry of time %d and revision %d with state %d and %d", e.Time, e.Revision, s.time, s.head)
		}
		if e.Time >= windowStart(s.time) {
			s.dedup.add(pack(e))
		}
	}
	return nil
}

// The fields of record.State that every record changes.
const (
	fieldApplyVersion protowire.Number = 1
	fieldTime         protowire.Number = 2
	fieldHead         protowire.Number = 3
	fieldFirst        protowire.Number = 4
	fieldMessages     protowire.Number = 9 // of a chat
)

// maxCountersSize is the most that those fields take.
const maxCountersSize = 5 * (1 + 7) // tag, and a varint of 48 bits

// encode returns the encoded state. Nearly all records are messages, which
// change counters only, so that the rest is encoded once and copied.
func (s *State) encode() []byte {
	b := make([]byte, 0, maxCountersSize+len(s.accountPart))
	b = appendVarint(b, fieldApplyVersion, int64(s.version))
	b = appendVarint(b, fieldTime, s.time)
	b = appendVarint(b, fieldHead, s.head)
	b = appendVarint(b, fieldFirst, s.first)
	if s.messages > 0 {
		b = appendVarint(b, fieldMessages, s.messages)
	}
	return append(b, s.accountPart...)
}

func appendVarint(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

// encode encodes what the record changed. It belongs to the decision because
// it can fail: a text that is not UTF-8 does not encode.
func (d *decision) encode() {
	if d.operation != nil {
		d.row.Data = encode(d.operation)
	}
	d.encodeParts()
	if d.accountChanged {
		d.accountPart = encodeAccountPart(&d.core)
	}
}

// encodeAccountPart returns the fields of record.State that most records leave
// alone. Encoded messages may be joined: the whole state is the counters, then
// these.
func encodeAccountPart(c *core) []byte {
	return encode(&record.State{Account: c.account, Devices: c.devices, NextEpoch: c.nextEpoch, ContactsSince: c.contactsSince})
}

func encode(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err) //nolint:forbidigo // Apply catches it and refuses the record: only invalid UTF-8 does not encode
	}
	return b
}
