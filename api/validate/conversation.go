package validate

import (
	"strconv"
	"unicode/utf8"

	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// MarkRead checks a request to mark a conversation read.
func MarkRead(r *tegamiv1.MarkReadRequest) error {
	return MessagePlace(r.GetPeer(), r.GetRevision())
}

// MessagePlace checks where a message is said to lie.
func MessagePlace(peer string, revision int64) error {
	if err := Peer("peer", peer); err != nil {
		return err
	}
	if revision < 1 {
		return fault.Invalid("revision", outOfBounds, "the revision of a message is positive")
	}
	return nil
}

// Reaction checks a reaction to a message: at most 32 bytes.
func Reaction(field, reaction string) error {
	switch {
	case !utf8.ValidString(reaction):
		return fault.Invalid(field, badUTF8, "a reaction is valid UTF-8")
	case len(reaction) > MaxReactionBytes:
		return fault.Invalid(field, tooLong, "a reaction has at most 32 bytes")
	}
	return nil
}

// ListConversations checks a request for a page of conversations, and returns
// the revision that the page lies below; 0 for the first.
func ListConversations(r *tegamiv1.ListConversationsRequest) (before int64, err error) {
	if r.GetSinceRevision() < 0 {
		return 0, fault.Invalid("sinceRevision", outOfBounds, "a revision is not negative")
	}
	if err := Limit("limit", r.GetLimit()); err != nil || r.GetPageToken() == "" {
		return 0, err
	}
	before, err = strconv.ParseInt(r.GetPageToken(), 10, 64)
	if err != nil || before < 1 {
		return 0, fault.Invalid("pageToken", badCharacter, "a token is that of the page before")
	}
	return before, nil
}
