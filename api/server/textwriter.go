package server

import (
	"cmp"
	"context"
	"encoding/hex"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tegami-im/tegami/actors/talk"
)

// storedMessage is a stored operation that carries a message, taken apart
// without being decoded: its parts point into what it was taken from.
type storedMessage struct {
	revision, time         int64
	kind                   protowire.Number // of the client's operation; 0 for no message
	id, from, to, clientID []byte
	messageTime            int64
	sealed                 []byte
	chat                   []byte // empty for a message between two users
	chatRevision           int64
	chatMessages           int64
}

// The tags of record.Operation and record.Message.
const (
	varint = uint64(protowire.VarintType)
	length = uint64(protowire.BytesType)

	operationRevision = 1<<3 | varint
	operationTime     = 2<<3 | varint
	operationOrigin   = 3<<3 | length
	operationReceived = 4<<3 | length
	operationSent     = 5<<3 | length
	operationChat     = 21<<3 | length
	operationChatRev  = 22<<3 | varint
	operationChatMsgs = 23<<3 | varint

	messageRecordID       = 1<<3 | length
	messageRecordFrom     = 2<<3 | length
	messageRecordTo       = 3<<3 | length
	messageRecordClientID = 4<<3 | length
	messageRecordTime     = 5<<3 | varint
	messageRecordBody     = 6<<3 | length
	messageRecordReceived = 7<<3 | varint
	messageRecordHops     = 60<<3 | varint
)

// The fields of tegami.v1.Operation in which a message lies.
const (
	receiveMessage protowire.Number = 3
	sendMessage    protowire.Number = 4
)

// take takes an operation apart. It reports whether that is a message with its
// body, which of a large one in a chat lies there alone, and has nothing that is
// not known here.
func (m *storedMessage) take(operation []byte) bool {
	return eachField(operation, func(tag, number uint64, content []byte) bool {
		switch tag {
		case operationRevision:
			m.revision = int64(number)
		case operationTime:
			m.time = int64(number)
		case operationOrigin:
			return utf8.Valid(content)
		case operationReceived:
			return m.takeMessage(receiveMessage, content)
		case operationSent:
			return m.takeMessage(sendMessage, content)
		case operationChat:
			m.chat = content
			return utf8.Valid(content)
		case operationChatRev:
			m.chatRevision = int64(number)
		case operationChatMsgs:
			m.chatMessages = int64(number)
		default:
			return false
		}
		return true
	}) && m.kind != 0 && (len(m.chat) == 0 || len(m.sealed) > 0)
}

func (m *storedMessage) takeMessage(kind protowire.Number, message []byte) bool {
	if m.kind != 0 {
		return false
	}
	m.kind = kind
	return eachField(message, func(tag, number uint64, content []byte) bool {
		switch tag {
		case messageRecordID:
			m.id = content
			return len(content) == idSize
		case messageRecordFrom:
			m.from = content
			return utf8.Valid(content)
		case messageRecordTo:
			m.to = content
			return utf8.Valid(content)
		case messageRecordClientID:
			m.clientID = content
			return utf8.Valid(content)
		case messageRecordTime:
			m.messageTime = int64(number)
		case messageRecordBody:
			m.sealed = content
		case messageRecordReceived, messageRecordHops:
		default:
			return false
		}
		return true
	}) && len(m.id) == idSize
}

// eachField calls f for each field of an encoded message, until it returns
// false, and reports whether it never did. It returns false for what does not
// decode, and for types that no message of ours has.
func eachField(message []byte, f func(tag, number uint64, content []byte) bool) bool {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return false
		}
		message = message[n:]
		var number uint64
		var content []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			content, n = protowire.ConsumeBytes(message)
		default:
			return false
		}
		if n < 0 || !f(protowire.EncodeTag(field, kind), number, content) {
			return false
		}
		message = message[n:]
	}
	return true
}

// textWriter writes stored messages that are text in the form that clients get.
type textWriter struct {
	server *Server
	user   string // whose page it is
	opener talk.Opener
	opens  string // the chat whose bodies opener opens; empty for the user's own
	body   []byte // the last that was opened
}

// open takes an operation apart and opens its body. It reports whether that is
// text, or did not open and is empty. The text is valid until the next call.
func (w *textWriter) open(ctx context.Context, m *storedMessage, operation []byte) (text []byte, ok bool, err error) {
	if !m.take(operation) {
		return nil, false, nil
	}
	if len(m.chat) > 0 && string(m.from) == w.user { // a chat has one of each message, for all
		m.kind = sendMessage
	}
	if err := w.openerFor(ctx, m.chat); err != nil {
		return nil, false, err
	}
	w.body = w.opener.Open(w.body[:0], m.id, m.sealed)
	if len(w.body) == 0 {
		return nil, true, nil
	}
	text, ok = talk.PlainText(w.body)
	return text, ok && utf8.Valid(text), nil
}

// openerFor has opener be what opens the bodies of a chat, or of the user's own
// mailbox.
func (w *textWriter) openerFor(ctx context.Context, chat []byte) (err error) {
	if w.opener != nil && w.opens == string(chat) {
		return nil
	}
	w.opens = string(chat)
	w.opener, err = w.server.talk.Opener(ctx, cmp.Or(w.opens, w.user))
	return err
}

// append appends a message as an entry of tegami.v1.FetchOpsResponse.ops.
func (w *textWriter) append(dst []byte, m *storedMessage, text []byte) []byte {
	message := sizePart(1, idTextSize) + sizePart(2, len(m.from)) + sizePart(3, len(m.to)) + sizePart(4, len(text)) + sizePart(6, len(m.clientID)) +
		sizeTime(7, m.messageTime) + sizeNumber(8, m.revision) + sizeNumber(12, m.chatRevision) + sizeNumber(13, m.chatMessages)
	operation := sizeNumber(1, m.revision) + sizeTime(2, m.time) + sizePart(m.kind, message) + sizePart(12, len(m.chat)) + sizeNumber(13, m.chatRevision)

	dst = appendLength(dst, 1, operation)
	dst = appendNumber(dst, 1, m.revision)
	dst = appendTime(dst, 2, m.time)

	dst = appendLength(dst, m.kind, message)
	dst = appendID(appendLength(dst, 1, idTextSize), m.id)
	dst = appendPart(dst, 2, m.from)
	dst = appendPart(dst, 3, m.to)
	dst = appendPart(dst, 4, text)
	dst = appendPart(dst, 6, m.clientID)
	dst = appendTime(dst, 7, m.messageTime)
	dst = appendNumber(dst, 8, m.revision)
	dst = appendNumber(dst, 12, m.chatRevision)
	dst = appendNumber(dst, 13, m.chatMessages)

	dst = appendPart(dst, 12, m.chat)
	return appendNumber(dst, 13, m.chatRevision)
}

// The sizes of a message id as it is stored and as text.
const (
	idSize     = 16
	idTextSize = 36
)

// appendID appends the text form of a stored id.
func appendID(dst, id []byte) []byte {
	dst = hex.AppendEncode(dst, id[:4])
	for _, part := range [...][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		dst = hex.AppendEncode(append(dst, '-'), part)
	}
	return dst
}

// appendLength appends the tag of a field and the length of its content.
func appendLength(dst []byte, field protowire.Number, length int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.BytesType), uint64(length))
}

// appendPart appends a field unless it is empty.
func appendPart(dst []byte, field protowire.Number, content []byte) []byte {
	if len(content) == 0 {
		return dst
	}
	return append(appendLength(dst, field, len(content)), content...)
}

// sizePart is what appendPart appends for a content of a length.
func sizePart(field protowire.Number, length int) int {
	if length == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeBytes(length)
}

// appendNumber appends a field unless it is 0.
func appendNumber(dst []byte, field protowire.Number, number int64) []byte {
	if number == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), uint64(number))
}

// sizeNumber is what appendNumber appends.
func sizeNumber(field protowire.Number, number int64) int {
	if number == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeVarint(uint64(number))
}

// appendTime appends a field with an instant in milliseconds since 1970.
func appendTime(dst []byte, field protowire.Number, millis int64) []byte {
	seconds, nanos := split(millis)
	dst = appendLength(dst, field, sizeNumber(1, seconds)+sizeNumber(2, int64(nanos)))
	return appendNumber(appendNumber(dst, 1, seconds), 2, int64(nanos))
}

// sizeTime is what appendTime appends.
func sizeTime(field protowire.Number, millis int64) int {
	seconds, nanos := split(millis)
	return protowire.SizeTag(field) + protowire.SizeBytes(sizeNumber(1, seconds)+sizeNumber(2, int64(nanos)))
}
