package wire_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/wire"
	"github.com/tegami-im/tegami/persistence"
)

// overTheWire returns what another node has of a message.
func overTheWire[M proto.Message](t *rapid.T, m M) M {
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	other := m.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(data, other); err != nil {
		t.Fatal(err)
	}
	return other
}

func same(t *rapid.T, got, want any) {
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Fatalf("another node has something else (-sent +came):\n%s", diff)
	}
}

var (
	names     = rapid.StringMatching(`[a-z0-9_.-]{1,64}`)
	revisions = rapid.Int64Range(0, persistence.MaxRevision)
	sessions  = rapid.Custom(func(t *rapid.T) talk.Session {
		return talk.Session{User: names.Draw(t, "user"), Device: names.Draw(t, "device"), Epoch: rapid.Uint64().Draw(t, "epoch")}
	})
	refusals = rapid.Custom(func(t *rapid.T) *refusal.Refusal {
		return &refusal.Refusal{
			Reason: rapid.SampledFrom([]refusal.Reason{
				refusal.UnknownRecipient, refusal.TokenReused, refusal.Busy, refusal.NotReady, refusal.ShardStopped,
			}).Draw(t, "reason"),
			Field:          rapid.SampledFrom([]string{"", "to"}).Draw(t, "field"),
			RetryAfter:     time.Duration(rapid.IntRange(0, 100_000).Draw(t, "retry after")) * time.Millisecond,
			ResumeRevision: revisions.Draw(t, "resume"),
		}
	})
	maybeRefused = rapid.OneOf(rapid.Just((*refusal.Refusal)(nil)), refusals)
	moments      = rapid.Custom(func(t *rapid.T) time.Time { return time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "time")) })
	keys         = rapid.Custom(func(t *rapid.T) persistence.Key {
		return persistence.Key(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
	})
)

func TestAnswersArriveAsTheyWereSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := mailbox.Answer{
			MessageID: [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "message id")),
			Time:      rapid.Int64().Draw(t, "time"), Revision: revisions.Draw(t, "revision"),
			Session: sessions.Draw(t, "session"),
		}
		refused := maybeRefused.Draw(t, "refusal")
		if refused != nil {
			sent.Reason = refused.Reason
		}
		got, gotRefused, err := overTheWire(t, wire.NewCommandAnswer(1, sent, refused)).Value()
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, sent)
		same(t, gotRefused, refused)
	})
}

func TestPagesArriveAsTheyWereSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := talk.Page{
			Revision: revisions.Draw(t, "revision"), HasMore: rapid.Bool().Draw(t, "more"),
			Reason: talk.Reason(rapid.IntRange(1, 4).Draw(t, "reason")),
		}
		for i := range rapid.Int64Range(0, min(5, sent.Revision)).Draw(t, "operations") {
			operation, err := proto.Marshal(&record.Operation{
				Revision: sent.Revision - i, Time: i, OriginDevice: "phone",
				Kind: &record.Operation_ReceiveMessage{ReceiveMessage: &record.Message{From: "bob", SealedBody: []byte{1, 2}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			sent.Operations = append([][]byte{operation}, sent.Operations...)
		}
		got, err := overTheWire(t, wire.NewFetched(7, sent, nil, false)).Page()
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, sent)
	})
}

func TestViewsArriveAsTheyWereSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := talk.View{Exists: rapid.Bool().Draw(t, "exists"), Head: talk.Head{
			Revision: revisions.Draw(t, "head"), First: revisions.Draw(t, "first"),
		}}
		if sent.Exists {
			sent.Account = talk.Account{DisplayName: names.Draw(t, "name"), PasswordHash: names.Draw(t, "hash")}
		}
		for range rapid.IntRange(0, mailbox.MaxDevices).Draw(t, "devices") {
			sent.Devices = append(sent.Devices, talk.Device{
				ID: names.Draw(t, "device"), Epoch: rapid.Uint64().Draw(t, "epoch"),
				CreateTime: moments.Draw(t, "created"), SeenTime: moments.Draw(t, "seen"),
			})
		}
		if rapid.Bool().Draw(t, "asked for more") {
			sent.Known = &record.Known{
				Contacts: []*record.ContactUpdate{{UserId: names.Draw(t, "user"), Contact: &record.Contact{Alias: names.Draw(t, "alias")}}},
				HasMore:  rapid.Bool().Draw(t, "more"),
			}
		}
		refused := maybeRefused.Draw(t, "refusal")
		got, gotRefused := overTheWire(t, wire.NewInspected(3, sent, refused)).Value()
		same(t, got, sent)
		same(t, gotRefused, refused)
	})
}

func TestKeysArriveAsTheyWereSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sent := rapid.SliceOfN(keys, 0, 5).Draw(t, "keys")
		got, refused, err := overTheWire(t, wire.NewKeysAnswer(3, sent, nil)).Value(len(sent))
		if err != nil || refused != nil {
			t.Fatal(err, refused)
		}
		if diff := cmp.Diff(sent, got); diff != "" && len(sent) > 0 {
			t.Fatal(diff)
		}
	})
}

func TestMalformedAnswersAreErrors(t *testing.T) {
	for name, value := range map[string]func() error{
		"a short message id": func() error {
			_, _, err := (&wire.CommandAnswer{MessageId: []byte{1}}).Value()
			return err
		},
		"a page for no reason": func() error {
			_, err := (&wire.Fetched{Revision: 1}).Page()
			return err
		},
		"a reason from nowhere": func() error {
			_, err := (&wire.Fetched{Reason: 99}).Page()
			return err
		},
		"a cursor beyond the page": func() error {
			_, err := (&wire.Fetched{Reason: 1, Revision: 9, Operations: [][]byte{{1 << 3, 8}}}).Page()
			return err
		},
		"an operation that is none": func() error {
			_, err := (&wire.Fetched{Reason: 1, Revision: 9, Operations: [][]byte{{0xff}}}).Page()
			return err
		},
		"a key too few": func() error {
			_, _, err := (&wire.KeysAnswer{}).Value(1)
			return err
		},
		"a short key": func() error {
			_, _, err := (&wire.KeysAnswer{Keys: [][]byte{{1}}}).Value(1)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := value(); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAReasonOfALaterVersionIsInternal(t *testing.T) {
	for _, reason := range []uint32{0, 63, 255, 256, 1 << 31} {
		if got := (&wire.Refusal{Reason: reason, RetryAfterMs: -5}).Value(); got.Reason != refusal.Internal || got.RetryAfter != 0 {
			t.Errorf("reason %d came as %+v", reason, got)
		}
	}
}

// FuzzFrame has no frame do harm, whatever another node sends.
func FuzzFrame(f *testing.F) {
	for _, m := range []*wire.Message{
		{Kind: &wire.Message_Command{Command: &wire.Command{Id: 1, Record: &record.Record{Mailbox: "bob"}}}},
		{Kind: &wire.Message_CommandAnswer{CommandAnswer: &wire.CommandAnswer{MessageId: make([]byte, 16)}}},
		{Kind: &wire.Message_Fetched{Fetched: &wire.Fetched{Reason: 1, Refusal: &wire.Refusal{Reason: 70}}}},
		{Kind: &wire.Message_KeysAnswer{KeysAnswer: &wire.KeysAnswer{Keys: [][]byte{make([]byte, 32)}}}},
		{Kind: &wire.Message_Inspected{Inspected: &wire.Inspected{Devices: []*wire.Device{{Id: "phone"}}}}},
	} {
		data, err := proto.Marshal(&wire.Frame{From: "a", To: "b", Run: 1, Number: 1, Messages: []*wire.Message{m, {}}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frame := new(wire.Frame)
		if proto.Unmarshal(data, frame) != nil {
			return
		}
		for _, m := range frame.GetMessages() {
			_, _, _ = m.GetCommandAnswer().Value()
			_, _ = m.GetFetched().Page()
			_, _ = m.GetInspected().Value()
			_, _, _ = m.GetKeysAnswer().Value(1)
			m.GetFetch().GetSession().Value()
		}
	})
}
