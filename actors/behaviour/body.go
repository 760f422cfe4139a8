package behaviour

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

// What clients may send, as the API has it.
const (
	maxName     = 64 // of a user or a chat, in bytes
	maxMimeType = 255
	maxMentions = 20
)

// checkName refuses what cannot be the name of anybody. Whether there is such a
// user or chat is found out later.
func checkName(to string) error {
	if to == "" || len(to) > maxName || !utf8.ValidString(to) {
		return fmt.Errorf("a message to %.*q: a name has 1 to %d bytes, of UTF-8", maxName, to, maxName)
	}
	return nil
}

// checkBody refuses what no client could have sent: others are to read it.
func checkBody(b talk.Body) error {
	length := utf8.RuneCountInString(b.Text)
	switch {
	case b.Text == "" && b.MimeType == "":
		return errors.New("a message without a body")
	case b.MimeType != "" && b.Text != "", b.MimeType == "" && len(b.Data) > 0:
		return errors.New("a message has a text, or data with a MIME type")
	case !utf8.ValidString(b.Text):
		return errors.New("a message that is not UTF-8")
	case length > MaxText:
		return &LimitError{"code points of a text", MaxText}
	case len(b.MimeType) > maxMimeType:
		return &LimitError{"bytes of a MIME type", maxMimeType}
	case b.ReplyTo != "" && len(b.ReplyTo) != persistence.MessageIDSize:
		return fmt.Errorf("a reply to a message id of %d bytes", len(b.ReplyTo))
	case len(b.Mentions) > maxMentions:
		return &LimitError{"mentions", maxMentions}
	}
	for _, c := range []byte(b.MimeType) {
		if c < ' ' || c > '~' {
			return errors.New("a MIME type that is not printable ASCII")
		}
	}
	for _, m := range b.Mentions {
		if err := checkName(m.GetUserId()); err != nil {
			return err
		}
		if m.GetStart() < 0 || m.GetLength() < 1 || int(m.GetStart())+int(m.GetLength()) > length {
			return errors.New("a mention that does not lie within the text")
		}
	}
	return nil
}
