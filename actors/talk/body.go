package talk

import (
	"encoding/binary"
	"errors"
)

// ErrBody says that the bytes are no encoded body.
var ErrBody = errors.New("not an encoded message body")

// Bodies are sealed and hashed in an encoding of their own, the same for the
// same body for ever: a kind, then for text the text, for other content the
// length of the type, the type and the data.
const (
	textBody    = 't'
	contentBody = 'c'
)

// Encode returns the body's one encoding.
func (b Body) Encode() []byte {
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
	default:
		return Body{}, ErrBody
	}
}
