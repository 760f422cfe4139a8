package remote

import (
	"testing"

	protoremote "github.com/asynkron/protoactor-go/remote"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/wire"
)

func encoded(t testing.TB, from string) []byte {
	t.Helper()
	data, err := proto.Marshal(&wire.Frame{From: from, To: "b.1", Number: 3, Messages: []*wire.Message{{}}})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestTheGuardLetsFramesThroughAlone(t *testing.T) {
	frame := func() *protoremote.MessageBatch {
		return &protoremote.MessageBatch{
			Targets: []string{framesActor}, TypeNames: []string{frameType},
			Envelopes: []*protoremote.MessageEnvelope{{MessageData: encoded(t, "a.1")}},
		}
	}
	for name, test := range map[string]struct {
		change func(*protoremote.MessageBatch)
		good   bool
	}{
		"a frame":                             {func(*protoremote.MessageBatch) {}, true},
		"a frame of a fixed id":               {func(b *protoremote.MessageBatch) { b.Envelopes[0].MessageData = encoded(t, "a") }, true},
		"another's frame":                     {func(b *protoremote.MessageBatch) { b.Envelopes[0].MessageData = encoded(t, "ab.1") }, false},
		"a frame of one whose name begins so": {func(b *protoremote.MessageBatch) { b.Envelopes[0].MessageData = encoded(t, "a.b.1") }, false},
		"nobody's frame":                      {func(b *protoremote.MessageBatch) { b.Envelopes[0].MessageData = nil }, false},
		"two names": {func(b *protoremote.MessageBatch) {
			b.Envelopes[0].MessageData = append(encoded(t, "a.1"), encoded(t, "c.1")...)
		}, false},
		"no frame at all":    {func(b *protoremote.MessageBatch) { b.Envelopes[0].MessageData = []byte{0xff} }, false},
		"another actor":      {func(b *protoremote.MessageBatch) { b.Targets[0] = "activator" }, false},
		"no actor":           {func(b *protoremote.MessageBatch) { b.Envelopes[0].Target = 1 }, false},
		"an actor below all": {func(b *protoremote.MessageBatch) { b.Envelopes[0].Target = -1 }, false},
		"a message to stop":  {func(b *protoremote.MessageBatch) { b.TypeNames[0] = "actor.Stop" }, false},
		"no type":            {func(b *protoremote.MessageBatch) { b.Envelopes[0].TypeId = 1 }, false},
		"a sender":           {func(b *protoremote.MessageBatch) { b.Envelopes[0].Sender = 1 }, false},
		"a header":           {func(b *protoremote.MessageBatch) { b.Envelopes[0].MessageHeader = new(protoremote.MessageHeader) }, false},
		"JSON":               {func(b *protoremote.MessageBatch) { b.Envelopes[0].SerializerId = 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			batch := frame()
			test.change(batch)
			m := &protoremote.RemoteMessage{MessageType: &protoremote.RemoteMessage_MessageBatch{MessageBatch: batch}}
			if err := (&guard{name: "a"}).check(m); (err == nil) != test.good {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := new(guard).check(new(protoremote.RemoteMessage)); err == nil {
		t.Error("an empty message went through")
	}
}

// FuzzSender has the guard see the same sender as who decodes the frame.
func FuzzSender(f *testing.F) {
	f.Add(encoded(f, "a.1"))
	f.Add(append(encoded(f, "a.1"), encoded(f, "b")...))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame := new(wire.Frame)
		if proto.Unmarshal(data, frame) != nil {
			return
		}
		if got := sender(data); got != frame.GetFrom() {
			t.Errorf("the guard sees %q, the node %q", got, frame.GetFrom())
		}
	})
}
