package talk

import (
	"encoding/binary"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
)

// ErrBody says that the bytes are no encoded body.
var ErrBody = errors.New("not an encoded message body")

// Bodies are sealed and hashed in an encoding of their own, the same for the
// same body for ever: a kind, then for text the text, for other content the
// length of the type, the type and the data, and for one that refers to
// something a message.
const (
	textBody      = 't'
	contentBody   = 'c'
	referringBody = 'r' // a record.Body
)

// Refers reports whether the body refers to something: programs that know
// versions of apply below 5 alone cannot decode it.
func (b Body) Refers() bool { return b.ReplyTo != "" || len(b.Mentions) > 0 || b.Forwarded }

// Encode returns the body's one encoding.
func (b Body) Encode() []byte {
	if b.Refers() {
		return b.encodeReferring()
	}
	if b.MimeType == "" {
		return append(append(make([]byte, 0, 1+len(b.Text)), textBody), b.Text...)
	}
	encoded := append(make([]byte, 0, 1+binary.MaxVarintLen16+len(b.MimeType)+len(b.Data)), contentBody)
	encoded = binary.AppendUvarint(encoded, uint64(len(b.MimeType)))
	encoded = append(encoded, b.MimeType...)
	return append(encoded, b.Data...)
}

// DecodeBody returns the body that Encode encoded. Its data shares memory with
// encoded. Error: ErrBody.
func DecodeBody(encoded []byte) (Body, error) {
	if len(encoded) == 0 {
		return Body{}, ErrBody
	}
	rest := encoded[1:]
	switch encoded[0] {
	case textBody:
		return Body{Text: string(rest)}, nil
	case contentBody:
		length, n := binary.Uvarint(rest)
		if n <= 0 || length == 0 || length > uint64(len(rest)-n) {
			return Body{}, ErrBody
		}
		rest = rest[n:]
		return Body{MimeType: string(rest[:length]), Data: rest[length:]}, nil
	case referringBody:
		return decodeReferring(rest)
	default:
		return Body{}, ErrBody
	}
}

// PlainText returns the text of an encoded body that is nothing but text; ok is
// false for any other. It shares memory with encoded.
func PlainText(encoded []byte) (text []byte, ok bool) {
	if len(encoded) == 0 || encoded[0] != textBody {
		return nil, false
	}
	return encoded[1:], true
}

func (b Body) encodeReferring() []byte {
	// Texts were checked for UTF-8: nothing else fails.
	encoded, _ := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{referringBody}, &record.Body{
		Text: b.Text, MimeType: b.MimeType, Data: b.Data,
		ReplyTo: []byte(b.ReplyTo), Mentions: b.Mentions, Forwarded: b.Forwarded,
	})
	return encoded
}

func decodeReferring(encoded []byte) (Body, error) {
	var stored record.Body
	if err := proto.Unmarshal(encoded, &stored); err != nil {
		return Body{}, ErrBody
	}
	if isText := stored.MimeType == ""; isText && len(stored.Data) > 0 || !isText && stored.Text != "" { // it is text or content
		return Body{}, ErrBody
	}
	return Body{
		Text: stored.Text, MimeType: stored.MimeType, Data: stored.Data,
		ReplyTo: string(stored.ReplyTo), Mentions: stored.Mentions, Forwarded: stored.Forwarded,
	}, nil
}
