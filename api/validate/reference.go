package validate

import (
	"strconv"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// references checks what a message refers to.
func references(r *tegamiv1.SendMessageRequest) error {
	if id := r.GetReplyTo(); id != "" {
		// Other forms of a UUID parse too, and are longer or shorter.
		if _, err := uuid.Parse(id); err != nil || len(id) != 36 {
			return fault.Invalid("replyTo", badCharacter, "a message id is as the server answered it")
		}
	}
	if len(r.GetMentions()) > MaxMentions {
		return fault.Invalid("mentions", tooMany, "at most 20 mentions")
	}
	length := utf8.RuneCountInString(r.GetText())
	for i, m := range r.GetMentions() {
		field := "mentions[" + strconv.Itoa(i) + "]"
		if err := UserID(field+".userId", m.GetUserId()); err != nil {
			return err
		}
		if m.GetStart() < 0 || m.GetLength() < 1 || int64(m.GetStart())+int64(m.GetLength()) > int64(length) {
			return fault.Invalid(field, outOfBounds, "a mention lies within the text")
		}
	}
	return nil
}

// ForwardMessage checks a request to forward a message, but for a missing
// client message id, which is made later.
func ForwardMessage(r *tegamiv1.ForwardMessageRequest) error {
	if err := MessagePlace(r.GetPeer(), r.GetRevision()); err != nil {
		return err
	}
	if err := Peer("to", r.GetTo()); err != nil || r.GetClientMessageId() == "" {
		return err
	}
	return printable("clientMessageId", r.GetClientMessageId(), MaxClientIDLength)
}
