package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// requests makes an empty request of each shape.
var requests = []func() proto.Message{
	func() proto.Message { return &tegamiv1.SendMessageRequest{} },
	func() proto.Message { return &tegamiv1.FetchOpsRequest{} },
	func() proto.Message { return &tegamiv1.CreateUsersRequest{} },
	func() proto.Message { return &tegamiv1.GetHeadRequest{} },
}

// Where a request cannot be read, the fault names the field.
func TestJSONFaults(t *testing.T) {
	for _, c := range []struct {
		into          proto.Message
		json          string
		field, reason string
	}{
		{&tegamiv1.SendMessageRequest{}, ``, "", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `"to"`, "", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `{"to": "a"`, "", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `{"to": "a"} x`, "", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `{"To": "a"}`, "To", "unknown_field"},
		{&tegamiv1.SendMessageRequest{}, `{"to": "a", "x": {"to": 1}}`, "x", "unknown_field"},
		{&tegamiv1.SendMessageRequest{}, `{"to": true}`, "to", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `{"clientMessageId": 1}`, "clientMessageId", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `{"client_message_id": 1}`, "clientMessageId", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `{"text": "a", "content": {}}`, "content", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `{"content": {"data": "%"}}`, "content.data", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `{"content": []}`, "content", "malformed"},
		{&tegamiv1.SendMessageRequest{}, `{"content": {"a": 1}}`, "content.a", "unknown_field"},
		{&tegamiv1.SendMessageRequest{}, `{"to": "a", "to": "b"}`, "to", "malformed"},
		{&tegamiv1.SendMessageRequest{}, "{\"text\": \"\xff\"}", "", "invalid_utf8"},
		{&tegamiv1.FetchOpsRequest{}, `{"timeout": "1 minute"}`, "timeout", "malformed"},
		{&tegamiv1.FetchOpsRequest{}, `{"limit": "x"}`, "limit", "malformed"},
		{&tegamiv1.CreateUsersRequest{}, `{"users": [{}, {"userId": 3}]}`, "users[1].userId", "malformed"},
		{&tegamiv1.CreateUsersRequest{}, `{"users": [null]}`, "users[0]", "malformed"},
		{&tegamiv1.GetHeadRequest{}, `{"a": 1}`, "a", "unknown_field"},
	} {
		err := JSON.Unmarshal([]byte(c.json), c.into)
		f, ok := errors.AsType[*fault.Fault](err)
		if !ok {
			t.Errorf("%s: %v", c.json, err)
			continue
		}
		if f.Code != connect.CodeInvalidArgument || f.Field != c.field || f.Reason != c.reason {
			t.Errorf("%s: %v, field %q, reason %q; want field %q, reason %q", c.json, f, f.Field, f.Reason, c.field, c.reason)
		}
	}
}

// What protobuf's JSON allows is read, in either spelling.
func TestJSONThatIsRead(t *testing.T) {
	for text, want := range map[string]proto.Message{
		`{}`: &tegamiv1.FetchOpsRequest{},
		`{"afterRevision": "9007199254740993", "limit": 5, "timeout": "1.5s"}`: &tegamiv1.FetchOpsRequest{
			AfterRevision: 9007199254740993, Limit: 5, Timeout: durationpb.New(1500e6),
		},
		`{"after_revision": 7, "timeout": null}`: &tegamiv1.FetchOpsRequest{AfterRevision: 7},
		`{"text": null, "content": {"mimeType": "a/b", "data": "AQ=="}}`: &tegamiv1.SendMessageRequest{
			Body: &tegamiv1.SendMessageRequest_Content{Content: &tegamiv1.Content{MimeType: "a/b", Data: []byte{1}}},
		},
		`{"text": "\ud83d\ude00\u0000"}`: &tegamiv1.SendMessageRequest{Body: &tegamiv1.SendMessageRequest_Text{Text: "😀\x00"}},
	} {
		got := want.ProtoReflect().New().Interface()
		if err := JSON.Unmarshal([]byte(text), got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// Every field that is not a choice is written, numbers of 64 bits as strings.
func TestJSONThatIsWritten(t *testing.T) {
	for want, message := range map[string]proto.Message{
		`{"ops":[],"revision":"0","hasMore":false,"reason":"TIMEOUT"}`:                 &tegamiv1.FetchOpsResponse{Reason: tegamiv1.FetchOpsResponse_TIMEOUT},
		`{"messageId":"m","createTime":"1970-01-01T00:00:01.500Z","chatRevision":"0"}`: &tegamiv1.SendMessageResponse{MessageId: "m", CreateTime: &timestamppb.Timestamp{Seconds: 1, Nanos: 5e8}},
		`{"revision":"9223372036854775807","firstRevision":"1"}`:                       &tegamiv1.GetHeadResponse{Revision: 1<<63 - 1, FirstRevision: 1},
		`{}`: &tegamiv1.LogoutResponse{},
	} {
		got, err := JSON.MarshalAppend([]byte("kept "), message)
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer // protobuf varies the spaces on purpose
		if err := json.Compact(&compact, bytes.TrimPrefix(got, []byte("kept "))); err != nil || compact.String() != want {
			t.Errorf("got %s, want %s", compact.String(), want)
		}
	}
}

// Both encodings serve Connect's handlers, whatever reader they are given.
func TestCodecsServeConnect(t *testing.T) {
	want := &tegamiv1.ListMessagesRequest{Peer: "bob", Before: 9}
	for _, c := range []Codec{JSON, Binary} {
		var buffer bytes.Buffer
		if err := c.MarshalWrite(t.Context(), &buffer, want); err != nil {
			t.Fatal(err)
		}
		encoded := bytes.Clone(buffer.Bytes())
		got := &tegamiv1.ListMessagesRequest{}
		if err := c.UnmarshalRead(t.Context(), &buffer, got); err != nil || !proto.Equal(got, want) || buffer.Len() != 0 {
			t.Errorf("%s from a buffer: %v, %v, %d bytes left", c.Name(), got, err, buffer.Len())
		}
		proto.Reset(got)
		if err := c.UnmarshalRead(t.Context(), iotest.OneByteReader(bytes.NewReader(encoded)), got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s byte by byte: %v, %v", c.Name(), got, err)
		}
		broken := iotest.ErrReader(errors.New("broken"))
		if err := c.UnmarshalRead(t.Context(), broken, got); err == nil || err.Error() != "broken" {
			t.Errorf("%s from a broken reader: %v", c.Name(), err)
		}
		if err := c.MarshalWrite(t.Context(), &buffer, "no message"); err == nil {
			t.Errorf("%s writes what is no message", c.Name())
		}
		if err := c.UnmarshalRead(t.Context(), &buffer, "no message"); err == nil {
			t.Errorf("%s reads into what is no message", c.Name())
		}
	}
}

// A large list of bad entries is judged in a time that its size allows.
func TestJudgingALargeRequestEnds(t *testing.T) {
	text := `{"users": [` + strings.Repeat(`{"userId": "abc", "displayName": "n"},`, 5000) + `{"x": 1}]}`
	err := JSON.Unmarshal([]byte(text), &tegamiv1.CreateUsersRequest{})
	if f := fault.From(err); f.Field != "users[5000].x" || f.Reason != "unknown_field" {
		t.Errorf("got %v in %s", f, f.Field)
	}
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"to": "bob", "text": "hi", "clientMessageId": "1"}`, `{"content": {"mimeType": "a/b", "data": "AQ=="}}`,
		`{"afterRevision": "1", "limit": 5, "timeout": "25s"}`, `{"users": [{"userId": "abc"}, {}]}`, `{"a": [[[{}]]]}`, "{\"\xff\": 1}", `{"text": "\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { decodeAll(t, JSON, data) })
}

func FuzzBinary(f *testing.F) {
	for _, seed := range []proto.Message{
		&tegamiv1.SendMessageRequest{To: "bob", Body: &tegamiv1.SendMessageRequest_Text{Text: "hi"}, ClientMessageId: "1"},
		&tegamiv1.FetchOpsRequest{AfterRevision: 1, Limit: 2, Timeout: durationpb.New(3)},
		&tegamiv1.CreateUsersRequest{Users: []*tegamiv1.NewUser{{UserId: "abc"}, {}}},
	} {
		data, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0x12, 0x01, 0xff}) // a string that is not UTF-8
	f.Fuzz(func(t *testing.T, data []byte) { decodeAll(t, Binary, data) })
}

// decodeAll reads data into every shape: what is read is written and read back
// the same, what is not has a fault that any client can be told.
func decodeAll(t *testing.T, c Codec, data []byte) {
	t.Helper()
	before := bytes.Clone(data)
	for _, request := range requests {
		message := request()
		err := c.Unmarshal(data, message)
		if !bytes.Equal(data, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			f, ok := errors.AsType[*fault.Fault](err)
			if !ok || f.Code != connect.CodeInvalidArgument || f.Reason == "" {
				t.Fatalf("%q into %T: %v", data, message, err)
			}
			if !json.Valid(f.AppendJSON(nil)) || f.Connect() == nil {
				t.Fatalf("%q into %T: the fault cannot be told: %v", data, message, f)
			}
			continue
		}
		encoded, err := c.MarshalAppend(nil, message)
		if err != nil {
			t.Fatalf("%q into %T: written: %v", data, message, err)
		}
		again := request()
		if err := c.Unmarshal(encoded, again); err != nil || !proto.Equal(message, again) {
			t.Fatalf("%q into %T: read back: %v, %v, was %v", data, message, again, err, message)
		}
	}
}
