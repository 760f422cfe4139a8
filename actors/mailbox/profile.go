package mailbox

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

var updateProfileKind = kind{
	since:          3,
	command:        true,
	follows:        true,
	withoutAccount: refusal.UnknownRecipient,
	malformed: func(r *record.Record) bool {
		return r.GetUpdateProfile().GetProfile() == nil || !hasFields(r.GetUpdateProfile().Profile, r.GetUpdateProfile().Fields)
	},
	decide: func(d *decision, r *record.Record) { d.updateProfile(r.GetUpdateProfile()) },
}

var profileCopyKind = kind{
	since:     3,
	source:    recordSource,
	malformed: func(r *record.Record) bool { return r.GetProfileCopy().GetProfile() == nil },
	decide:    func(d *decision, r *record.Record) { d.profileCopy(r.GetProfileCopy(), r.GetSource().GetMailbox()) },
}

// updateProfile changes what the owner shows, and lets friends know.
func (d *decision) updateProfile(c *record.UpdateProfile) {
	old := d.profile()
	profile := merged(old, c.Profile, c.Fields)
	if profile.DisplayName == nil { // not that of the account again
		profile.DisplayName = new("")
	}
	if proto.Equal(old, profile) {
		return
	}
	if !d.operate(&record.Operation{OriginDevice: c.OriginDevice, Kind: &record.Operation_ProfileUpdated{ProfileUpdated: profile}}) {
		return
	}
	d.changePart(profilePart, "", profile)
	d.tellFriends(profile, d.parts.settings)
}

// profileCopy keeps what a friend shows. What comes from one who is none any
// more was under way.
func (d *decision) profileCopy(c *record.ProfileCopy, other string) {
	if d.parts.contact(other).GetRelation() == record.Relation_RELATION_FRIEND {
		edited := copyOf(d.parts.contact(other))
		edited.Profile = c.Profile
		d.setContact(other, edited, "")
	}
}

// tellFriends lets friends know what they may see when the profile and the
// settings have come to be these, if that is another than before.
func (d *decision) tellFriends(profile *record.Profile, settings *record.Settings) {
	shown := shownTo(true, profile, settings)
	if proto.Equal(shown, d.shown()) {
		return
	}
	for _, user := range sortedKeys(d.parts.contacts) {
		if d.parts.contacts[user].Relation == record.Relation_RELATION_FRIEND {
			d.follow(user, &record.Record{Kind: &record.Record_ProfileCopy{ProfileCopy: &record.ProfileCopy{Profile: shown}}})
		}
	}
}

// profile returns the owner's profile before the record.
func (d *decision) profile() *record.Profile { return profileOf(d.account, d.parts.profile) }

// shown returns what of it friends may see.
func (d *decision) shown() *record.Profile { return shownTo(true, d.profile(), d.parts.settings) }

func profileOf(account *record.Account, stored *record.Profile) *record.Profile {
	if stored != nil {
		return stored
	}
	return &record.Profile{DisplayName: new(account.GetDisplayName())}
}

// shownTo returns what of a profile a friend or somebody else may see.
func shownTo(friend bool, profile *record.Profile, settings *record.Settings) *record.Profile {
	sees := func(audience record.Audience) bool {
		switch audience {
		case record.Audience_AUDIENCE_NOBODY:
			return false
		case record.Audience_AUDIENCE_FRIENDS:
			return friend
		default:
			return true
		}
	}
	shown := &record.Profile{DisplayName: profile.DisplayName}
	if sees(settings.GetSeesStatusMessage()) {
		shown.StatusMessage = profile.StatusMessage
	}
	if sees(settings.GetSeesAvatar()) {
		shown.Avatar = profile.Avatar
	}
	return shown
}

// Profile returns what a user may see of the owner's profile. It is shared.
func (s *State) Profile(viewer string) *record.Profile {
	profile := profileOf(s.account, s.parts.profile)
	if viewer == s.user {
		return profile
	}
	return shownTo(s.parts.contact(viewer).GetRelation() == record.Relation_RELATION_FRIEND, profile, s.parts.settings)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
