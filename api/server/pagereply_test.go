package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/codec"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// sealedTalk opens bodies as a talk tier does.
type sealedTalk struct {
	Talk
	key persistence.Key
}

const reader = "alice"

func (s sealedTalk) Opener(_ context.Context, mailbox string) (talk.Opener, error) {
	return sealedOpener{sealing.NewOpener(s.key, mailbox)}, nil
}

func (s sealedTalk) Open(_ context.Context, _ string, operations []*record.Operation) ([]talk.Body, error) {
	bodies := make([]talk.Body, len(operations))
	for i, operation := range operations {
		mailbox := reader
		if operation.GetChat() != "" {
			mailbox = operation.GetChat()
		}
		opener := sealing.NewOpener(s.key, mailbox)
		message := operation.GetReceiveMessage()
		if message == nil {
			message = operation.GetSendMessage()
		}
		if encoded, err := opener.Open(nil, message.GetMessageId(), message.GetSealedBody()); err == nil {
			bodies[i], _ = talk.DecodeBody(encoded)
		}
	}
	return bodies, nil
}

type sealedOpener struct{ *sealing.Opener }

func (o sealedOpener) Open(dst, messageID, sealed []byte) []byte {
	if opened, err := o.Opener.Open(dst, messageID, sealed); err == nil {
		return opened
	}
	return dst
}

// storedPage returns operations up to a revision as a page.
func (s sealedTalk) reply(revision int64, operations ...[]byte) *pageReply {
	return &pageReply{server: &Server{talk: s}, caller: talk.Session{User: reader}, page: talk.Page{
		Operations: operations, Revision: revision, HasMore: true, Reason: talk.Operations,
	}}
}

func (s sealedTalk) received(body talk.Body) *record.Operation {
	id := []byte("0123456789abcdef")
	return &record.Operation{
		Revision: 1, Time: 1_700_000_000_123,
		Kind: &record.Operation_ReceiveMessage{ReceiveMessage: &record.Message{
			MessageId: id, From: "bob", To: reader, ClientMessageId: "m1", Time: 1_700_000_000_000,
			SealedBody: sealing.Seal(s.key, reader, id, body.Encode()), Received: 7, Hops: 2,
		}},
	}
}

const chat = "C0123456789abcdef0123456789abcdef"

func (s sealedTalk) receivedInChat(body talk.Body) *record.Operation {
	operation := s.received(body)
	operation.Chat, operation.ChatRevision, operation.ChatMessages = chat, 9, 5
	message := operation.GetReceiveMessage()
	message.To, message.Received = chat, 0
	message.SealedBody = sealing.Seal(s.key, chat, message.GetMessageId(), body.Encode())
	return operation
}

// What is appended is what is built: whatever the operation is, and however it
// came to be damaged.
func TestAppendedPageIsTheOneThatIsBuilt(t *testing.T) {
	tier := sealedTalk{key: persistence.Key{1}}
	sent := tier.received(talk.Body{Text: "hello"})
	sent.Kind = &record.Operation_SendMessage{SendMessage: sent.GetReceiveMessage()}
	sent.OriginDevice = "phone"
	withoutID := tier.received(talk.Body{Text: "hello"})
	withoutID.GetReceiveMessage().MessageId = nil
	damaged := tier.received(talk.Body{Text: "hello"})
	damaged.GetReceiveMessage().SealedBody[20] ^= 1
	sentToChat := tier.receivedInChat(talk.Body{Text: "hello"})
	sentToChat.Kind = &record.Operation_SendMessage{SendMessage: sentToChat.GetReceiveMessage()}
	notCopied := tier.receivedInChat(talk.Body{Text: "hello"})
	notCopied.GetReceiveMessage().SealedBody = nil
	ofAnother := tier.receivedInChat(talk.Body{Text: "hello"})
	ofAnother.Chat = "C0"
	early := tier.received(talk.Body{Text: "hello"})
	early.Time = -1
	for name, operation := range map[string]*record.Operation{
		"a message":           tier.received(talk.Body{Text: "héllo"}),
		"a sent message":      sent,
		"an empty text":       tier.received(talk.Body{}),
		"content":             tier.received(talk.Body{MimeType: "image/webp", Data: []byte{1, 2}}),
		"a reply":             tier.received(talk.Body{Text: "yes", ReplyTo: "0123456789abcdef"}),
		"a long text":         tier.received(talk.Body{Text: strings.Repeat("ü", 10_000)}),
		"without an id":       withoutID,
		"a body that is torn": damaged,
		"before 1970":         early,
		"a message of a chat": tier.receivedInChat(talk.Body{Text: "héllo"}),
		"a reply in a chat":   tier.receivedInChat(talk.Body{Text: "yes", ReplyTo: "0123456789abcdef"}),
		"one sent to a chat":  sentToChat,
		"one not copied":      notCopied,
		"one of another chat": ofAnother,
		"a change of a chat": {Revision: 1, Chat: chat, ChatRevision: 9, Kind: &record.Operation_ChatChanged{ChatChanged: &record.ChatChange{
			Kind: record.ChatChange_CREATED, By: "bob",
		}}},
		"nothing but a number": {Revision: 1},
		"a contact": {Revision: 1, Kind: &record.Operation_ContactUpdated{ContactUpdated: &record.ContactUpdate{
			UserId: "bob", Contact: &record.Contact{Relation: record.Relation_RELATION_FRIEND},
		}}},
		"a mark": {Revision: 1, Kind: &record.Operation_MessageRead{MessageRead: &record.MessageRead{Peer: "bob"}}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := proto.Marshal(operation)
			if err != nil {
				t.Fatal(err)
			}
			sameAsBuilt(t, tier.reply(1, data))
		})
	}
	t.Run("two of them", func(t *testing.T) {
		first, second := tier.received(talk.Body{Text: "one"}), tier.received(talk.Body{Text: "two"})
		second.Revision = 2
		one, _ := proto.Marshal(first)
		two, _ := proto.Marshal(second)
		sameAsBuilt(t, tier.reply(2, one, two))
	})
	t.Run("of two users, of a chat, and again", func(t *testing.T) {
		var page [][]byte
		for i, operation := range []*record.Operation{
			tier.received(talk.Body{Text: "one"}), tier.receivedInChat(talk.Body{Text: "two"}), tier.received(talk.Body{Text: "three"}),
		} {
			operation.Revision = int64(i + 1)
			data, err := proto.Marshal(operation)
			if err != nil {
				t.Fatal(err)
			}
			page = append(page, data)
		}
		sameAsBuilt(t, tier.reply(3, page...))
	})
	t.Run("none", func(t *testing.T) { sameAsBuilt(t, tier.reply(9)) })
}

// chatTalk opens messages whose bodies lie in a chat, all of one size.
type chatTalk struct {
	sealedTalk

	bytes int
}

func (c chatTalk) Open(_ context.Context, _ string, operations []*record.Operation) ([]talk.Body, error) {
	bodies := make([]talk.Body, len(operations))
	for i := range bodies {
		bodies[i] = talk.Body{MimeType: "image/webp", Data: make([]byte, c.bytes)}
	}
	return bodies, nil
}

// A page that is small as it is stored, without the bodies, ends where it would be
// too large with them, and the next one goes on there.
func TestPageEndsWhereItsBodiesAreTooLarge(t *testing.T) {
	const large, small = 64 << 10, 100
	for size, want := range map[int]int{large: pageBytes / large, small: 100} {
		tier, operations := chatTalk{sealedTalk{key: persistence.Key{1}}, size}, [][]byte(nil)
		for i := range int64(100) {
			operation := tier.received(talk.Body{Text: "unused"})
			operation.GetReceiveMessage().SealedBody = nil
			operation.Revision, operation.Chat, operation.ChatRevision = i+1, "C1", i+1
			data, err := proto.Marshal(operation)
			if err != nil {
				t.Fatal(err)
			}
			operations = append(operations, data)
		}
		for len(operations) > 0 {
			reply := tier.reply(100, operations...)
			reply.server.talk, reply.page.HasMore = tier, false
			message, builtErr := reply.Message(t.Context())
			appended, err := reply.appendBinary(t.Context(), nil)
			page := new(tegamiv1.FetchOpsResponse)
			if err := errors.Join(builtErr, err, proto.Unmarshal(appended, page)); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(page, message) {
				t.Fatal("the page that is appended is not the one that is built")
			}
			n := len(page.Ops)
			if n == 0 || n > want || proto.Size(page) > pageBytes+large+1000 {
				t.Fatalf("a page of %d operations and %d bytes", n, proto.Size(page))
			}
			if last := page.Ops[n-1].Revision; page.Revision != last || page.HasMore != (last < 100) {
				t.Fatalf("the page says it ends at %d, more %v; it ends at %d", page.Revision, page.HasMore, last)
			}
			if n < want && page.HasMore {
				t.Errorf("a page of %d-byte bodies has %d operations", size, n)
			}
			operations = operations[n:]
		}
	}
}

// What a chat has of a message is to its writer what they sent, as in the mailbox:
// who answers all that is received does not answer themselves.
func TestOnesOwnMessageInAChatIsASentOne(t *testing.T) {
	tier := sealedTalk{key: persistence.Key{1}}
	for from, sent := range map[string]bool{reader: true, "bob": false} {
		operation := tier.received(talk.Body{Text: "hello"})
		operation.Chat, operation.ChatRevision, operation.GetReceiveMessage().From = "C1", 1, from
		data, err := proto.Marshal(operation)
		if err != nil {
			t.Fatal(err)
		}
		reply := tier.reply(1, data)
		sameAsBuilt(t, reply)
		message, err := reply.Message(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		op := message.(*tegamiv1.FetchOpsResponse).Ops[0]
		if is := op.GetSendMessage() != nil; is != sent || is == (op.GetReceiveMessage() != nil) {
			t.Errorf("%s reads a message of %s as %v", reader, from, op)
		}
	}
}

// An operation that is not where its revision says is never shown.
func TestPageOfWrongRevisionFails(t *testing.T) {
	tier := sealedTalk{key: persistence.Key{1}}
	data, err := proto.Marshal(tier.received(talk.Body{Text: "hello"}))
	if err != nil {
		t.Fatal(err)
	}
	reply := tier.reply(2, data)
	if _, err := reply.Message(t.Context()); !errors.Is(err, record.ErrOperation) {
		t.Errorf("built: %v", err)
	}
	if _, err := reply.appendBinary(t.Context(), nil); !errors.Is(err, record.ErrOperation) {
		t.Errorf("appended: %v", err)
	}
}

// FuzzAppendedPage compares the two ways over any bytes.
func FuzzAppendedPage(f *testing.F) {
	tier := sealedTalk{key: persistence.Key{1}}
	for _, body := range []talk.Body{{Text: "hello"}, {MimeType: "image/webp", Data: []byte{1}}} {
		data, err := proto.Marshal(tier.received(body))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, data...))
	}
	inChat, err := proto.Marshal(tier.receivedInChat(talk.Body{Text: "hello"}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(inChat)
	f.Fuzz(func(t *testing.T, data []byte) {
		revision := int64(1)
		var operation record.Operation
		if proto.Unmarshal(data, &operation) == nil {
			revision = operation.Revision
		}
		sameAsBuilt(t, tier.reply(revision, data))
	})
}

func sameAsBuilt(t *testing.T, reply *pageReply) {
	t.Helper()
	prefix := []byte("before it")
	appended, err := reply.appendBinary(t.Context(), prefix)
	var built []byte
	message, builtErr := reply.Message(t.Context())
	if builtErr == nil {
		built, builtErr = codec.Binary.MarshalAppend(nil, message)
	}
	if (err == nil) != (builtErr == nil) {
		t.Fatalf("appended: %v; built: %v", err, builtErr)
	}
	if err != nil {
		return
	}
	rest, ok := bytes.CutPrefix(appended, prefix)
	if !ok {
		t.Fatal("what was there before is gone")
	}
	var got, want tegamiv1.FetchOpsResponse
	if err := errors.Join(proto.Unmarshal(rest, &got), proto.Unmarshal(built, &want)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, &got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkPage is what the edge has to do for a page of a thousand operations
// as they are stored.
func BenchmarkPage(b *testing.B) {
	tier := sealedTalk{key: persistence.Key{1}}
	var operations [][]byte
	for i := range 1000 {
		operation := tier.received(talk.Body{Text: strings.Repeat("x", 100)})
		operation.Revision, operation.Time = int64(i+1), time.Now().UnixMilli()
		operation.GetReceiveMessage().ClientMessageId = fmt.Sprintf("message-%d", i)
		data, err := proto.Marshal(operation)
		if err != nil {
			b.Fatal(err)
		}
		operations = append(operations, data)
	}
	reply := tier.reply(1000, operations...)
	for _, c := range []codec.Codec{codec.Binary, codec.JSON} {
		b.Run(c.Name(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := (&Call{codec: c}).encode(b.Context(), nil, reply); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("built", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			message, err := reply.Message(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := codec.Binary.MarshalAppend(nil, message); err != nil {
				b.Fatal(err)
			}
		}
	})

	inChat, err := proto.Marshal(tier.receivedInChat(talk.Body{Text: strings.Repeat("x", 100)}))
	if err != nil {
		b.Fatal(err)
	}
	one := tier.reply(1, inChat)
	b.Run("one of a chat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := (&Call{codec: codec.Binary}).encode(b.Context(), nil, one); err != nil {
				b.Fatal(err)
			}
		}
	})
}
