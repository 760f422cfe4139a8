package simulation

import (
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/wire"
)

// sizes are those of the messages that one send makes, in bytes, as they lie in
// frames.
type sizes struct {
	command, answer     float64 // gateway and the recipient's owner
	followUps, appended float64 // the recipient's owner and the sender's
	page, fetch         float64 // an owner and the gateway of a poll
}

// traffic draws sends and counts what each has which node do. owner returns the
// talk node of a mailbox.
//
// Who sends and who receives is drawn so that few are busy: one in a hundred users
// takes part in a fifth of all messages, one in ten in almost half. Every device
// that holds a poll is woken, of the recipient and of the sender, and polls again.
func (r *Report) traffic(owner func(mailbox string) int) {
	o := r.Options
	random := rand.New(rand.NewPCG(o.Seed, 2)) //nolint:gosec // it is drawn anew for no one
	size := messageSizes(o.BodyBytes)
	each := o.Sends / float64(o.Samples)
	local := 0
	for range o.Samples {
		from, to := user(busy(random, o.Users)), user(busy(random, o.Users))
		gateway := &r.Gateways[random.IntN(o.Gateways)]
		recipient, sender := &r.Talk[owner(to)], &r.Talk[owner(from)]
		carry(gateway, recipient, size.command*each)
		carry(recipient, gateway, size.answer*each)
		recipient.Records += each
		sender.Records += each
		if recipient == sender {
			local++
		} else {
			carry(recipient, sender, size.followUps*each)
			carry(sender, recipient, size.appended*each)
		}
		for _, woken := range []*Node{recipient, sender} {
			poll := &r.Gateways[random.IntN(o.Gateways)]
			carry(woken, poll, size.page*each*o.Online)
			carry(poll, woken, size.fetch*each*o.Online)
		}
	}
	r.Local = float64(local) / float64(o.Samples)
}

// busy draws a user: the cube of an even number has most of it near 0.
func busy(random *rand.Rand, users int64) int64 {
	u := random.Float64()
	return int64(u * u * u * float64(users))
}

func carry(from, to *Node, bytes float64) {
	from.Out += bytes
	to.In += bytes
}

// messageSizes encodes what nodes send each other for one message.
func messageSizes(body int) sizes {
	const (
		name, device = "user-2pn9zk", "phone-1"
		sealed       = 28 // more than the body: nonce and tag
	)
	id := make([]byte, 16)
	send := &record.Record{
		Id: id, Mailbox: name, MintTime: 1 << 40, DedupKey: id[:10], BodyHash: id[:6], ApplyVersion: 6,
		Kind: &record.Record_Send{Send: &record.Send{
			MessageId: id, From: name, ClientMessageId: "0123456789abcdef", FromDevice: device,
			SealedBody: make([]byte, body+sealed), SealedCopy: make([]byte, body+sealed),
		}},
	}
	sent := &record.Record{
		Id: id, Mailbox: name, ApplyVersion: 6,
		Kind: &record.Record_SentCopy{SentCopy: &record.SentCopy{
			Source: name, SourceGeneration: 1, SourceOffset: 1 << 30, MessageId: id, ClientMessageId: "0123456789abcdef", FromDevice: device,
			SealedBody: make([]byte, body+sealed), MessageTime: 1 << 40,
		}},
	}
	operation := &record.Operation{
		Revision: 1 << 20, Time: 1 << 40, OriginDevice: device,
		Kind: &record.Operation_ReceiveMessage{ReceiveMessage: &record.Message{
			MessageId: id, From: name, To: name, ClientMessageId: "0123456789abcdef", Time: 1 << 40, SealedBody: make([]byte, body+sealed), Received: 100,
		}},
	}
	session := &wire.Session{User: name, Device: device, Epoch: 1}
	of := func(m *wire.Message) float64 {
		return float64(proto.Size(&wire.Frame{Messages: []*wire.Message{m}}))
	}
	return sizes{
		command:   of(&wire.Message{Kind: &wire.Message_Command{Command: &wire.Command{Id: 1 << 40, Record: send, TimeoutMs: 5000}}}),
		answer:    of(&wire.Message{Kind: &wire.Message_CommandAnswer{CommandAnswer: &wire.CommandAnswer{Id: 1 << 40, MessageId: id, Time: 1 << 40, Revision: 1 << 20}}}),
		followUps: of(&wire.Message{Kind: &wire.Message_FollowUps{FollowUps: &wire.FollowUps{Source: "talk-1.0123456789abcdef", Sequence: 1 << 60, Shard: 4000, Records: []*record.Record{sent}}}}),
		appended:  of(&wire.Message{Kind: &wire.Message_FollowUpsAppended{FollowUpsAppended: &wire.FollowUpsAppended{Source: "talk-1.0123456789abcdef", Sequence: 1 << 60, Shard: 4000}}}),
		page:      of(&wire.Message{Kind: &wire.Message_Fetched{Fetched: &wire.Fetched{Token: 1 << 60, Operations: [][]byte{make([]byte, proto.Size(operation))}, Revision: 1 << 20}}}),
		fetch:     of(&wire.Message{Kind: &wire.Message_Fetch{Fetch: &wire.Fetch{Token: 1 << 60, Session: session, After: 1 << 20, Limit: 100, Hold: true}}}),
	}
}
