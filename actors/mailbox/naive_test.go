package mailbox

import (
	"fmt"
	"slices"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// naive is a mailbox without any thrift, written down from the rules: it keeps
// all answers for ever, and searches lists from the end.
type naive struct {
	exists   bool
	time     int64
	first    int64
	messages []string // one for each revision
	answers  []naiveAnswer
	copies   []*record.SentCopy
	devices  []naiveDevice
	epochs   uint64
}

type naiveAnswer struct {
	key, hash string
	time      int64
	result    string
}

type naiveDevice struct {
	id    string
	epoch uint64
	// The tokens issued in this session, all of them, and which of them was
	// presented last.
	tokens    []string
	presented string
}

// apply returns what the record comes to, in words.
func (n *naive) apply(in Input, panics bool) string {
	r := in.Record
	now := max(n.time, in.Time)
	if !n.exists && r.GetCreateAccount() == nil {
		return n.strangers(r, now, panics)
	}
	if len(r.DedupKey) == 0 {
		n.time = now
		if panics {
			return "internal"
		}
		return n.do(in, now)
	}
	if now-r.MintTime > MaxCommandAge.Milliseconds() {
		if n.exists {
			n.time = now
		}
		return "stale"
	}
	for _, a := range slices.Backward(n.answers) {
		if a.key == string(r.DedupKey) && now-a.time <= DedupWindow.Milliseconds() {
			n.time = now
			if a.hash != string(r.BodyHash) {
				return "different_body"
			}
			return a.result
		}
	}
	result := "internal"
	if !panics {
		result = n.do(in, now)
	}
	if n.exists {
		n.time = now
		n.answers = append(n.answers, naiveAnswer{string(r.DedupKey), string(r.BodyHash), now, result})
	}
	return result
}

func (n *naive) strangers(r *record.Record, now int64, panics bool) string {
	switch {
	case len(r.DedupKey) != 0 && now-r.MintTime > MaxCommandAge.Milliseconds():
		return "stale"
	case panics:
		return "internal"
	case len(r.DedupKey) == 0:
		return ""
	case r.GetSignOut() != nil || r.GetRefresh() != nil:
		return "unknown_device"
	default:
		return "unknown_recipient"
	}
}

func (n *naive) do(in Input, now int64) string {
	switch kind := in.Record.Kind.(type) {
	case *record.Record_CreateAccount:
		if n.exists {
			return "user_exists"
		}
		n.exists, n.first = true, 1
		return fmt.Sprintf("ok at %d", now)
	case *record.Record_Send:
		n.messages = append(n.messages, fmt.Sprintf("from %s %x at %d", kind.Send.From, kind.Send.MessageId, now))
		return fmt.Sprintf("ok %x at %d as %d", kind.Send.MessageId, now, len(n.messages))
	case *record.Record_SentCopy:
		for _, c := range n.copies {
			if c.Source == kind.SentCopy.Source && c.SourceOffset >= kind.SentCopy.SourceOffset {
				return ""
			}
		}
		n.copies = append(n.copies, kind.SentCopy)
		n.messages = append(n.messages, fmt.Sprintf("to %s %x at %d", kind.SentCopy.Source, kind.SentCopy.MessageId, now))
		return ""
	case *record.Record_SignIn:
		n.end(kind.SignIn.DeviceId)
		n.epochs++
		n.devices = append(n.devices, naiveDevice{kind.SignIn.DeviceId, n.epochs, []string{string(kind.SignIn.RefreshHash)}, ""})
		if len(n.devices) > MaxDevices {
			n.devices = n.devices[1:]
		}
		return fmt.Sprintf("ok at %d epoch %d", now, n.epochs)
	case *record.Record_Refresh:
		return n.refresh(kind.Refresh, now)
	case *record.Record_SignOut:
		for _, d := range n.devices {
			if d.id == kind.SignOut.DeviceId && (kind.SignOut.Epoch == 0 || kind.SignOut.Epoch == d.epoch) {
				n.end(d.id)
				return fmt.Sprintf("ok at %d epoch %d", now, d.epoch)
			}
		}
		return "unknown_device"
	case *record.Record_Trim:
		n.first = max(n.first, min(kind.Trim.FirstRevision, int64(len(n.messages))+1))
		return ""
	}
	return "internal"
}

func (n *naive) refresh(r *record.Refresh, now int64) string {
	for i := range n.devices {
		d := &n.devices[i]
		if d.id != r.DeviceId || d.epoch != r.Epoch {
			continue
		}
		presented := string(r.PresentedHash)
		if presented != d.tokens[len(d.tokens)-1] && (d.presented == "" || presented != d.presented) {
			n.end(d.id)
			return "token_reused"
		}
		d.presented = presented
		d.tokens = append(d.tokens, string(r.RefreshHash))
		return fmt.Sprintf("ok at %d epoch %d", now, d.epoch)
	}
	return "unknown_device"
}

func (n *naive) end(device string) {
	n.devices = slices.DeleteFunc(n.devices, func(d naiveDevice) bool { return d.id == device })
}

// inWords returns an answer as naive puts it.
func inWords(r *record.Record, a Answer) string {
	switch {
	case a.Reason != refusal.None:
		return a.Reason.String()
	case len(r.DedupKey) == 0:
		return ""
	case r.GetSend() != nil:
		return fmt.Sprintf("ok %x at %d as %d", a.MessageID, a.Time, a.Revision)
	case a.Session.Epoch != 0:
		return fmt.Sprintf("ok at %d epoch %d", a.Time, a.Session.Epoch)
	default:
		return fmt.Sprintf("ok at %d", a.Time)
	}
}

// messageInWords returns an operation as naive puts it.
func messageInWords(op *record.Operation) string {
	if m := op.GetReceiveMessage(); m != nil {
		return fmt.Sprintf("from %s %x at %d", m.From, m.MessageId, op.Time)
	}
	m := op.GetSendMessage()
	return fmt.Sprintf("to %s %x at %d", m.To, m.MessageId, op.Time)
}

// agrees returns how a state differs from n, "" if it does not.
func (n *naive) agrees(s *State) string {
	var devices, want []string
	for _, d := range slices.Backward(s.Devices()) {
		devices = append(devices, fmt.Sprint(d.ID, d.Epoch))
	}
	for _, d := range n.devices {
		want = append(want, fmt.Sprint(d.id, d.epoch))
	}
	switch {
	case s.Exists() != n.exists:
		return fmt.Sprintf("exists: %v, want %v", s.Exists(), n.exists)
	case s.Head() != int64(len(n.messages)):
		return fmt.Sprintf("head %d, want %d", s.Head(), len(n.messages))
	case n.exists && s.First() != n.first:
		return fmt.Sprintf("first %d, want %d", s.First(), n.first)
	case !slices.Equal(devices, want):
		return fmt.Sprintf("devices %v, want %v", devices, want)
	}
	return ""
}
