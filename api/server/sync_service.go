package server

import (
	"context"

	"github.com/tegami-im/tegami/actors/record"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/validate"
)

func (s talkService) Sync(ctx context.Context, request *tegamiv1.SyncRequest) (*tegamiv1.SyncResponse, error) {
	categories, place, err := validate.Sync(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	// What is read from here on is at least as new as this.
	head, err := s.talk.Head(ctx, callerOf(ctx).User)
	if err != nil {
		return nil, err
	}
	page := syncPage{server: s, room: validate.PageSize(request.GetLimit()), response: &tegamiv1.SyncResponse{Revision: head.Revision}}
	for _, category := range categories {
		if category < place.Category {
			continue
		}
		if category > place.Category {
			place = validate.SyncPlace{Category: category}
		}
		if page.room < validate.MinSyncItems {
			page.response.NextPageToken = place.Token()
			return page.response, nil
		}
		next, err := page.add(ctx, place)
		if err != nil {
			return nil, err
		}
		if next != nil {
			page.response.NextPageToken = next.Token()
			return page.response, nil
		}
	}
	return page.response, nil
}

// syncPage is a page of a snapshot that is being filled.
type syncPage struct {
	server   talkService
	response *tegamiv1.SyncResponse
	room     int
}

func (p *syncPage) item(item *tegamiv1.SyncResponse_Item) {
	p.response.Items = append(p.response.Items, item)
	p.room--
}

// add adds what there is of a category from a place on, and returns where the
// next page begins; nil when that is all.
func (p *syncPage) add(ctx context.Context, place validate.SyncPlace) (*validate.SyncPlace, error) {
	switch place.Category {
	case tegamiv1.SyncCategory_SETTINGS:
		return nil, p.addSettings(ctx)
	case tegamiv1.SyncCategory_PROFILE:
		return nil, p.addProfile(ctx)
	case tegamiv1.SyncCategory_CONTACTS:
		return p.addContacts(ctx, place)
	case tegamiv1.SyncCategory_CONVERSATIONS:
		return p.addConversations(ctx, place)
	default:
		return p.addChats(ctx, place)
	}
}

func (p *syncPage) addSettings(ctx context.Context) error {
	caller := callerOf(ctx)
	settings, err := p.server.talk.Settings(ctx, caller)
	if err != nil {
		return err
	}
	for _, update := range []*tegamiv1.SettingsUpdate{
		{Scope: &tegamiv1.SettingsUpdate_Settings{Settings: settingsOf(settings.User)}},
		{Scope: &tegamiv1.SettingsUpdate_DeviceSettings{DeviceSettings: deviceSettingsOf(settings.Device)}, DeviceId: caller.Device},
	} {
		p.item(&tegamiv1.SyncResponse_Item{Item: &tegamiv1.SyncResponse_Item_Settings{Settings: update}})
	}
	return nil
}

func (p *syncPage) addProfile(ctx context.Context) error {
	user := callerOf(ctx).User
	profile, err := p.server.talk.Profile(ctx, user, user)
	if err != nil {
		return err
	}
	p.item(&tegamiv1.SyncResponse_Item{Item: &tegamiv1.SyncResponse_Item_Profile{Profile: profileOf(profile)}})
	return nil
}

func (p *syncPage) addContacts(ctx context.Context, place validate.SyncPlace) (*validate.SyncPlace, error) {
	list, err := p.server.talk.Contacts(ctx, callerOf(ctx).User, &record.ContactsQuery{After: place.User, Limit: int32(p.room)})
	if err != nil {
		return nil, err
	}
	contacts, next := contactPage(list)
	for _, contact := range contacts {
		p.item(&tegamiv1.SyncResponse_Item{Item: &tegamiv1.SyncResponse_Item_Contact{Contact: contact}})
	}
	if next == "" {
		return nil, nil
	}
	return &validate.SyncPlace{Category: place.Category, User: next}, nil
}

func (p *syncPage) addConversations(ctx context.Context, place validate.SyncPlace) (*validate.SyncPlace, error) {
	items, list, err := p.server.conversations(ctx, &record.ConversationsQuery{ByPeer: true, After: place.User, Limit: int32(p.room)})
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		p.item(&tegamiv1.SyncResponse_Item{Item: &tegamiv1.SyncResponse_Item_Conversation{Conversation: item}})
	}
	if !list.HasMore {
		return nil, nil
	}
	return &validate.SyncPlace{Category: place.Category, User: items[len(items)-1].Conversation.Peer}, nil
}

func (p *syncPage) addChats(ctx context.Context, place validate.SyncPlace) (*validate.SyncPlace, error) {
	list, err := p.server.talk.Chats(ctx, callerOf(ctx).User, &record.ChatsQuery{After: place.User, Limit: int32(p.room)})
	if err != nil {
		return nil, err
	}
	chats, next := chatPage(list)
	for _, chat := range chats {
		p.item(&tegamiv1.SyncResponse_Item{Item: &tegamiv1.SyncResponse_Item_Chat{Chat: chat}})
	}
	if next == "" {
		return nil, nil
	}
	return &validate.SyncPlace{Category: place.Category, User: next}, nil
}
