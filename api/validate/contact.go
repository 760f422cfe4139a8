package validate

import (
	"unicode/utf8"

	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Alias checks what a user calls another: at most 64 code points.
func Alias(field, alias string) error {
	switch {
	case !utf8.ValidString(alias):
		return fault.Invalid(field, badUTF8, "an alias is valid UTF-8")
	case utf8.RuneCountInString(alias) > MaxAliasRunes:
		return fault.Invalid(field, tooLong, "an alias has at most 64 code points")
	}
	return nil
}

// Code checks the form of an invitation's code. Whether it is one is not its
// business.
func Code(field, code string) error {
	if code == "" {
		return fault.Invalid(field, required, "a code is needed")
	}
	return printable(field, code, MaxCodeLength)
}

// ListContacts checks a request for a page of contacts.
func ListContacts(r *tegamiv1.ListContactsRequest) error {
	if r.GetSinceRevision() < 0 {
		return fault.Invalid("sinceRevision", outOfBounds, "a revision is not negative")
	}
	return page(r.GetLimit(), r.GetPageToken())
}

// ListBlocked checks a request for a page of blocked contacts.
func ListBlocked(r *tegamiv1.ListBlockedRequest) error {
	return page(r.GetLimit(), r.GetPageToken())
}

// page checks the size of a page, and where it begins: behind a user id.
func page(limit int32, token string) error {
	if err := Limit("limit", limit); err != nil {
		return err
	}
	if token == "" {
		return nil
	}
	return UserID("pageToken", token)
}
