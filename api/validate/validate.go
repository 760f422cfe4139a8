// Package validate checks what clients send before anything is done with it.
// Values are accepted as they are or refused with the name of the field, never
// trimmed, normalised or clamped.
//
// Each function returns nil or a [fault.Fault] with code invalid_argument. What
// state decides (is there such a user, is the cursor known) is not its business.
package validate

import (
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// The limits of the API, in the units that their names tell.
const (
	MinUserIDLength       = 3
	MaxUserIDLength       = 64
	MaxDeviceIDLength     = 64
	MinPasswordBytes      = 8
	MaxPasswordBytes      = 256
	MaxIDTokenBytes       = 16 << 10
	MaxDisplayNameRunes   = 256
	MaxTextRunes          = 10_000
	MaxMimeTypeLength     = 255
	MaxDataBytes          = 64 << 10
	MaxClientIDLength     = 64
	MaxPageOperations     = 1_000
	DefaultPageOperations = 100
	MaxHold               = 120 * time.Second
	MaxNewUsers           = 5_000
	MaxAliasRunes         = 64
	MaxCodeLength         = 128
	MaxReactionBytes      = 32
	MaxMentions           = 20
	MaxLanguageLength     = 35
	MaxTimeZoneLength     = 64
	MaxStatusMessageRunes = 500
	MaxAvatarLength       = 512
	MaxChatNameRunes      = 128
	MaxGuests             = 100
)

// Reasons, as clients see them.
const (
	required     = "required"
	tooShort     = "too_short"
	tooLong      = "too_long"
	tooLarge     = "too_large"
	tooMany      = "too_many"
	outOfBounds  = "out_of_bounds"
	badCharacter = "bad_character"
	badUTF8      = "invalid_utf8"
	unknownField = "unknown_field"
	ambiguous    = "ambiguous"
)

// UserID checks a user id: 3 to 64 of a-z0-9._- starting with a letter.
func UserID(field, id string) error {
	switch {
	case id == "":
		return fault.Invalid(field, required, "a user id is needed")
	case len(id) < MinUserIDLength:
		return fault.Invalid(field, tooShort, "a user id has at least 3 characters")
	case len(id) > MaxUserIDLength:
		return fault.Invalid(field, tooLong, "a user id has at most 64 characters")
	case id[0] < 'a' || id[0] > 'z':
		return fault.Invalid(field, badCharacter, "a user id starts with a letter a-z")
	}
	for i := range len(id) {
		if c := id[i]; !isLower(c) && !isMark(c) {
			return fault.Invalid(field, badCharacter, "a user id consists of a-z 0-9 . _ -")
		}
	}
	return nil
}

// DeviceID checks a device id: 1 to 64 of A-Za-z0-9._-
func DeviceID(field, id string) error {
	switch {
	case id == "":
		return fault.Invalid(field, required, "a device id is needed")
	case len(id) > MaxDeviceIDLength:
		return fault.Invalid(field, tooLong, "a device id has at most 64 characters")
	}
	for i := range len(id) {
		if c := id[i]; !isLower(c) && !isMark(c) && (c < 'A' || c > 'Z') {
			return fault.Invalid(field, badCharacter, "a device id consists of A-Z a-z 0-9 . _ -")
		}
	}
	return nil
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func isMark(c byte) bool { return c == '.' || c == '_' || c == '-' }

// NewPassword checks a password that is to be set: 8 to 256 bytes.
func NewPassword(field, password string) error {
	if password != "" && len(password) < MinPasswordBytes {
		return fault.Invalid(field, tooShort, "a password has at least 8 bytes")
	}
	return Password(field, password)
}

// Password checks a password that is to be compared. A short one is not
// malformed, merely wrong.
func Password(field, password string) error {
	switch {
	case password == "":
		return fault.Invalid(field, required, "a password is needed")
	case len(password) > MaxPasswordBytes:
		return fault.Invalid(field, tooLong, "a password has at most 256 bytes")
	}
	return nil
}

// DisplayName checks a display name: at most 256 code points.
func DisplayName(field, name string) error {
	switch {
	case !utf8.ValidString(name):
		return fault.Invalid(field, badUTF8, "a display name is valid UTF-8")
	case utf8.RuneCountInString(name) > MaxDisplayNameRunes:
		return fault.Invalid(field, tooLong, "a display name has at most 256 code points")
	}
	return nil
}

// SendMessage checks a request to send, but for a missing client message id,
// which is made later.
func SendMessage(r *tegamiv1.SendMessageRequest) error {
	if err := Peer("to", r.GetTo()); err != nil {
		return err
	}
	if id := r.GetClientMessageId(); id != "" {
		if err := printable("clientMessageId", id, MaxClientIDLength); err != nil {
			return err
		}
	}
	if r.GetReplyTo() != "" || len(r.GetMentions()) > 0 {
		if err := references(r); err != nil {
			return err
		}
	}
	switch body := r.GetBody().(type) {
	case *tegamiv1.SendMessageRequest_Text:
		return Text("text", body.Text)
	case *tegamiv1.SendMessageRequest_Content:
		return content("content", body.Content)
	default:
		return fault.Invalid("text", required, "a message has a text or a content")
	}
}

// Text checks a text that is sent: 1 to 10,000 code points.
func Text(field, s string) error {
	switch {
	case s == "":
		return fault.Invalid(field, required, "a text has at least one code point")
	case !utf8.ValidString(s):
		return fault.Invalid(field, badUTF8, "a text is valid UTF-8")
	// A string of n bytes has at most n code points: most need no count.
	case len(s) > MaxTextRunes && utf8.RuneCountInString(s) > MaxTextRunes:
		return fault.Invalid(field, tooLong, "a text has at most 10,000 code points")
	}
	return nil
}

func content(field string, c *tegamiv1.Content) error {
	if c.GetMimeType() == "" {
		return fault.Invalid(field+".mimeType", required, "a content has a MIME type")
	}
	if err := printable(field+".mimeType", c.GetMimeType(), MaxMimeTypeLength); err != nil {
		return err
	}
	if len(c.GetData()) > MaxDataBytes {
		return fault.Invalid(field+".data", tooLarge, "data has at most 65,536 bytes")
	}
	return nil
}

// printable checks that s is of at most limit printable ASCII characters.
func printable(field, s string, limit int) error {
	if len(s) > limit {
		return fault.Invalid(field, tooLong, "at most "+strconv.Itoa(limit)+" characters")
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return fault.Invalid(field, badCharacter, "only printable ASCII characters")
		}
	}
	return nil
}

// FetchOps checks a poll, which may be held for maxHold.
func FetchOps(r *tegamiv1.FetchOpsRequest, maxHold time.Duration) error {
	if r.GetAfterRevision() < 0 {
		return fault.Invalid("afterRevision", outOfBounds, "a revision is not negative")
	}
	if err := Limit("limit", r.GetLimit()); err != nil {
		return err
	}
	if r.GetChatId() != "" {
		if err := ChatID("chatId", r.GetChatId()); err != nil {
			return err
		}
	}
	return hold("timeout", r.GetTimeout(), maxHold)
}

func hold(field string, d *durationpb.Duration, maxHold time.Duration) error {
	switch {
	case d == nil:
		return nil
	case !d.IsValid(), d.AsDuration() < 0, d.AsDuration() > maxHold:
		return fault.Invalid(field, outOfBounds, "a timeout is between 0 s and "+strconv.FormatFloat(maxHold.Seconds(), 'f', -1, 64)+" s")
	}
	return nil
}

// Limit checks the size of a page: 0 to 1,000.
func Limit(field string, limit int32) error {
	if limit < 0 || limit > MaxPageOperations {
		return fault.Invalid(field, outOfBounds, "a limit is between 1 and 1,000, or 0 for the default")
	}
	return nil
}

// PageSize returns the size of the page that a valid limit asks for.
func PageSize(limit int32) int {
	if limit == 0 {
		return DefaultPageOperations
	}
	return int(limit)
}

// ListMessages checks a request for a page of a conversation.
func ListMessages(r *tegamiv1.ListMessagesRequest) error {
	if err := Peer("peer", r.GetPeer()); err != nil {
		return err
	}
	if r.GetBefore() < 0 {
		return fault.Invalid("before", outOfBounds, "a revision is not negative")
	}
	return Limit("limit", r.GetLimit())
}

// Register checks a registration.
func Register(r *tegamiv1.RegisterRequest) error {
	if err := UserID("userId", r.GetUserId()); err != nil {
		return err
	}
	if err := NewPassword("password", r.GetPassword()); err != nil {
		return err
	}
	return DisplayName("displayName", r.GetDisplayName())
}

// Login checks a sign-in, but for a missing device id, which is made later, and
// a missing user id, which the ID token tells.
func Login(r *tegamiv1.LoginRequest) error {
	if r.GetIdToken() == "" || r.GetUserId() != "" {
		if err := UserID("userId", r.GetUserId()); err != nil {
			return err
		}
	}
	if err := proof(r); err != nil {
		return err
	}
	return OptionalDeviceID("deviceId", r.GetDeviceId())
}

// proof checks that there is either a password or an ID token.
func proof(r *tegamiv1.LoginRequest) error {
	switch {
	case r.GetIdToken() == "" && r.GetPassword() == "":
		return fault.Invalid("password", required, "a password or an ID token is needed")
	case r.GetIdToken() == "":
		return Password("password", r.GetPassword())
	case r.GetPassword() != "":
		return fault.Invalid("idToken", ambiguous, "a password and an ID token exclude each other")
	}
	return IDToken("idToken", r.GetIdToken())
}

// IDToken checks that a text may be an ID token: at most 16,384 bytes of
// base64url and dots. Whether it is good is not said.
func IDToken(field, token string) error {
	if len(token) > MaxIDTokenBytes {
		return fault.Invalid(field, tooLong, "an ID token has at most 16,384 bytes")
	}
	for i := range len(token) {
		if c := token[i]; !isLower(c) && !isMark(c) && (c < 'A' || c > 'Z') {
			return fault.Invalid(field, badCharacter, "an ID token consists of A-Z a-z 0-9 _ - .")
		}
	}
	return nil
}

// OptionalDeviceID checks a device id unless it is empty.
func OptionalDeviceID(field, id string) error {
	if id == "" {
		return nil
	}
	return DeviceID(field, id)
}

// CreateUsers checks the users that an application wants to have.
func CreateUsers(r *tegamiv1.CreateUsersRequest) error {
	if len(r.GetUsers()) > MaxNewUsers {
		return fault.Invalid("users", tooMany, "at most 5,000 users at once")
	}
	for i, user := range r.GetUsers() {
		field := "users[" + strconv.Itoa(i) + "]"
		if err := UserID(field+".userId", user.GetUserId()); err != nil {
			return err
		}
		if err := DisplayName(field+".displayName", user.GetDisplayName()); err != nil {
			return err
		}
	}
	return nil
}

// IssueToken checks a request for a user's tokens.
func IssueToken(r *tegamiv1.IssueTokenRequest) error {
	if err := UserID("userId", r.GetUserId()); err != nil {
		return err
	}
	return OptionalDeviceID("deviceId", r.GetDeviceId())
}
