package validate

import (
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// Fields returns the names of the fields that an update changes: those of its
// mask, or without one those that are set.
func Fields(values proto.Message, mask *fieldmaskpb.FieldMask) ([]string, error) {
	message := values.ProtoReflect()
	if len(mask.GetPaths()) == 0 {
		var names []string
		message.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			names = append(names, string(field.Name()))
			return true
		})
		return names, nil
	}
	for _, name := range mask.GetPaths() {
		if message.Descriptor().Fields().ByName(protoreflect.Name(name)) == nil {
			return nil, fault.Invalid("updateMask", unknownField, "there is no such field")
		}
	}
	if len(mask.GetPaths()) > message.Descriptor().Fields().Len() {
		return nil, fault.Invalid("updateMask", tooMany, "a field is named twice")
	}
	return mask.GetPaths(), nil
}

// Settings checks a user's settings, where they are set.
func Settings(field string, s *tegamiv1.Settings) error {
	if s.MayWrite != nil && s.GetMayWrite() != tegamiv1.Audience_EVERYONE && s.GetMayWrite() != tegamiv1.Audience_FRIENDS {
		return fault.Invalid(field+".mayWrite", outOfBounds, "EVERYONE or FRIENDS")
	}
	if s.SeesStatusMessage != nil && !isAudience(s.GetSeesStatusMessage()) {
		return fault.Invalid(field+".seesStatusMessage", outOfBounds, "EVERYONE, FRIENDS or NOBODY")
	}
	if s.SeesAvatar != nil && !isAudience(s.GetSeesAvatar()) {
		return fault.Invalid(field+".seesAvatar", outOfBounds, "EVERYONE, FRIENDS or NOBODY")
	}
	return tag(field+".language", s.GetLanguage(), MaxLanguageLength, "-")
}

func isAudience(a tegamiv1.Audience) bool {
	return a >= tegamiv1.Audience_EVERYONE && a <= tegamiv1.Audience_NOBODY
}

// DeviceSettings checks a device's settings, where they are set.
func DeviceSettings(field string, s *tegamiv1.DeviceSettings) error {
	if s.QuietHours == nil {
		return nil
	}
	field += ".quietHours"
	hours := s.QuietHours
	if hours.StartMinute < 0 || hours.StartMinute >= minutesOfDay {
		return fault.Invalid(field+".startMinute", outOfBounds, "a minute of the day is between 0 and 1,439")
	}
	if hours.EndMinute < 0 || hours.EndMinute >= minutesOfDay {
		return fault.Invalid(field+".endMinute", outOfBounds, "a minute of the day is between 0 and 1,439")
	}
	if hours.TimeZone == "" {
		return fault.Invalid(field+".timeZone", required, "a time zone is needed")
	}
	return tag(field+".timeZone", hours.TimeZone, MaxTimeZoneLength, "/_+-")
}

const minutesOfDay = 24 * 60

// tag checks a name of letters, digits and some marks.
func tag(field, name string, limit int, marks string) error {
	if len(name) > limit {
		return fault.Invalid(field, tooLong, "the name is too long")
	}
	for i := range len(name) {
		c := name[i]
		if !isLower(c) && (c < 'A' || c > 'Z') && !containsByte(marks, c) {
			return fault.Invalid(field, badCharacter, "letters, digits and "+marks)
		}
	}
	return nil
}

func containsByte(s string, c byte) bool {
	for i := range len(s) {
		if s[i] == c {
			return true
		}
	}
	return false
}

// Profile checks a profile, where it is set.
func Profile(field string, p *tegamiv1.Profile) error {
	if err := DisplayName(field+".displayName", p.GetDisplayName()); err != nil {
		return err
	}
	switch {
	case !utf8.ValidString(p.GetStatusMessage()):
		return fault.Invalid(field+".statusMessage", badUTF8, "a status message is valid UTF-8")
	case utf8.RuneCountInString(p.GetStatusMessage()) > MaxStatusMessageRunes:
		return fault.Invalid(field+".statusMessage", tooLong, "a status message has at most 500 code points")
	}
	return printable(field+".avatar", p.GetAvatar(), MaxAvatarLength)
}
