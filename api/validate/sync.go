package validate

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tegami-im/tegami/api/fault"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// MinSyncItems is the smallest page of a snapshot: settings and profile fit.
const MinSyncItems = 3

// SyncPlace is where a page of a snapshot begins.
type SyncPlace struct {
	Category tegamiv1.SyncCategory
	// User is the contact, peer or chat that the page before ended with; empty at
	// the beginning of a category.
	User string
}

// Token returns the page token that stands for a place.
func (p SyncPlace) Token() string {
	return strconv.Itoa(int(p.Category)) + "." + p.User
}

// Sync checks a request for a page of a snapshot. It returns the categories that
// are asked for, in order, and where the page begins.
func Sync(r *tegamiv1.SyncRequest) (categories []tegamiv1.SyncCategory, place SyncPlace, err error) {
	if limit := r.GetLimit(); limit != 0 && limit < MinSyncItems || limit > MaxPageOperations {
		return nil, place, fault.Invalid("limit", outOfBounds, "a limit is between 3 and 1,000, or 0 for the default")
	}
	for i, category := range r.GetCategories() {
		if category < tegamiv1.SyncCategory_SETTINGS || category > tegamiv1.SyncCategory_CHATS {
			return nil, place, fault.Invalid("categories["+strconv.Itoa(i)+"]", outOfBounds, "there is no such category")
		}
	}
	categories = slices.Compact(slices.Sorted(slices.Values(r.GetCategories())))
	if len(categories) == 0 {
		for c := tegamiv1.SyncCategory_SETTINGS; c <= tegamiv1.SyncCategory_CHATS; c++ {
			categories = append(categories, c)
		}
	}
	place.Category = categories[0]
	if r.GetPageToken() != "" {
		place, err = syncPlace(r.GetPageToken())
	}
	return categories, place, err
}

func syncPlace(token string) (place SyncPlace, err error) {
	bad := fault.Invalid("pageToken", badCharacter, "a token is that of the page before")
	category, rest, found := strings.Cut(token, ".")
	number, err := strconv.ParseInt(category, 10, 32)
	if err != nil || !found {
		return place, bad
	}
	place = SyncPlace{Category: tegamiv1.SyncCategory(number), User: rest}
	if place.Category < tegamiv1.SyncCategory_SETTINGS || place.Category > tegamiv1.SyncCategory_CHATS {
		return place, bad
	}
	if rest != "" && (place.Category < tegamiv1.SyncCategory_CONTACTS || Peer("pageToken", rest) != nil) {
		return place, bad
	}
	return place, nil
}
