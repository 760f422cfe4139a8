package mailbox

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/record"
)

// The first of some are those that come first when all are sorted.
func TestFirstIsTheBeginningOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfDistinct(rapid.Int(), func(i int) int { return i }).Draw(t, "all")
		limit := rapid.IntRange(-1, 8).Draw(t, "limit")
		page, more := first(limit, cmp.Compare[int], slices.Values(all))
		want := slices.Sorted(slices.Values(all))
		n := min(max(limit, 0), len(want))
		if !slices.Equal(page, want[:n]) || more != (len(want) > n) {
			t.Fatalf("the first %d of %v are %v, more %v", limit, all, page, more)
		}
	})
}

// A page of contacts with large profiles ends before it is too large.
func TestPagesOfContactsAreBoundedInBytes(t *testing.T) {
	s := New("bob")
	const contacts = 100
	for i := range contacts {
		s.parts.set(&change{kind: contactPart, name: fmt.Sprintf("friend%03d", i), value: &record.Contact{
			Relation: record.Relation_RELATION_FRIEND, Revision: 1, Profile: &record.Profile{StatusMessage: new(strings.Repeat("x", knownBytes/16))},
		}})
	}
	s.head = 1
	query := &record.ContactsQuery{Limit: contacts}
	seen := 0
	for more := true; more; {
		known, refused := s.Query(&record.Query{About: &record.Query_Contacts{Contacts: query}})
		n := len(known.GetContacts())
		if refused != nil || n == 0 || n > 16 {
			t.Fatalf("%d contacts, %v", n, refused)
		}
		seen, query.After, more = seen+n, known.Contacts[n-1].UserId, known.HasMore
	}
	if seen != contacts {
		t.Errorf("%d contacts", seen)
	}
}
