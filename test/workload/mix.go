package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/checker"
	"github.com/tegami-im/tegami/test/process"
)

// Unlimited is the configuration of a server that a mix is for: with limits above
// those that are usual, and chats that soon are large.
const Unlimited = "limits: {find_rate: 10000, find_burst: 10000}\nmailbox: {chat_copies: 4}\n"

// quiet are users that nobody writes to: blocking them disturbs no message.
const quiet = 3

// mixer does what a user does beside sending, one thing after another, each again
// until it is decided.
type mixer struct {
	workload *Workload
	device   *device
	rand     *rand.Rand
	next     int
	facts    facts
	chats    []*chat
	said     []said // messages to chats, which are sent again
}

// facts are what the mixer's user made so, and nobody else can: for each name the
// values that it may have in the end, one unless an outcome is not known.
type facts map[string][]string

// newMixers gives each user a mixer, on the user's last device.
func (w *Workload) newMixers() {
	var names []string
	for i := range quiet {
		names = append(names, fmt.Sprintf("quiet%d", i))
	}
	w.server.CreateUsers(names...)
	for i := range w.users {
		d := w.devices[(i+1)*w.options.Devices-1]
		w.mixers = append(w.mixers, &mixer{workload: w, device: d, rand: w.newRand(1<<40 + i), facts: facts{}})
	}
	w.newChats()
}

func (m *mixer) run(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-time.After(m.workload.options.Mix):
			m.step(ctx)
		}
	}
}

func (m *mixer) step(ctx context.Context) {
	// A server that stays away must not keep a test for ever.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	m.next++
	peer := m.workload.users[m.rand.IntN(len(m.workload.users))]
	mark := fmt.Sprintf("%s %d", m.device.user, m.next)
	yes := m.rand.IntN(2) == 0
	if len(m.chats) > 0 && m.rand.IntN(10) < 4 {
		m.inChat(ctx, mark, yes)
		return
	}
	switch roll := m.rand.IntN(100); {
	case roll < 20:
		m.befriend(ctx, peer)
	case roll < 35:
		m.editContact(ctx, fmt.Sprintf("quiet%d", m.rand.IntN(quiet)), mark, yes)
	case roll < 42:
		m.make(ctx, "language", mark[len(mark)-1:], "SettingsService/UpdateSettings", &tegamiv1.UpdateSettingsRequest{
			Settings: &tegamiv1.Settings{Language: new(mark[len(mark)-1:]), SeesAvatar: tegamiv1.Audience(1 + m.rand.IntN(3)).Enum()},
		}, new(tegamiv1.UpdateSettingsResponse))
	case roll < 47:
		m.make(ctx, "previews", fmt.Sprint(yes), "SettingsService/UpdateDeviceSettings", &tegamiv1.UpdateDeviceSettingsRequest{
			Settings: &tegamiv1.DeviceSettings{Previews: &yes},
		}, new(tegamiv1.UpdateDeviceSettingsResponse))
	case roll < 52:
		m.make(ctx, "status", mark, "ProfileService/UpdateProfile", &tegamiv1.UpdateProfileRequest{
			Profile: &tegamiv1.Profile{StatusMessage: &mark, Avatar: &mark},
		}, new(tegamiv1.UpdateProfileResponse))
	case roll < 57:
		m.make(ctx, "pinned "+peer, fmt.Sprint(yes), "TalkService/UpdateConversation", &tegamiv1.UpdateConversationRequest{
			Peer: peer, Pinned: &yes,
		}, new(tegamiv1.UpdateConversationResponse))
	default:
		m.message(ctx, peer, mark)
	}
}

// befriend does something about a friendship, as the other may at the same time.
func (m *mixer) befriend(ctx context.Context, peer string) {
	if peer == m.device.user {
		return
	}
	switch m.rand.IntN(5) {
	case 0, 1:
		m.do(ctx, "ContactService/RequestFriend", &tegamiv1.RequestFriendRequest{UserId: peer}, new(tegamiv1.RequestFriendResponse))
	case 2, 3:
		m.do(ctx, "ContactService/AcceptFriend", &tegamiv1.AcceptFriendRequest{UserId: peer}, new(tegamiv1.AcceptFriendResponse))
	default:
		m.do(ctx, "ContactService/RemoveFriend", &tegamiv1.RemoveFriendRequest{UserId: peer}, new(tegamiv1.RemoveFriendResponse))
	}
}

func (m *mixer) editContact(ctx context.Context, user, alias string, yes bool) {
	switch m.rand.IntN(4) {
	case 0:
		m.make(ctx, "blocked "+user, "true", "ContactService/Block", &tegamiv1.BlockRequest{UserId: user}, new(tegamiv1.BlockResponse))
	case 1:
		m.make(ctx, "blocked "+user, "false", "ContactService/Unblock", &tegamiv1.UnblockRequest{UserId: user}, new(tegamiv1.UnblockResponse))
	case 2:
		m.make(ctx, "favorite "+user, fmt.Sprint(yes), "ContactService/SetFavorite", &tegamiv1.SetFavoriteRequest{UserId: user, Favorite: yes}, new(tegamiv1.SetFavoriteResponse))
	default:
		if yes {
			alias = ""
		}
		m.make(ctx, "alias "+user, alias, "ContactService/SetAlias", &tegamiv1.SetAliasRequest{UserId: user, Alias: alias}, new(tegamiv1.SetAliasResponse))
	}
}

// message reads up to one of the newest messages of a conversation, be it with a
// user or a chat, changes it or sends it on.
func (m *mixer) message(ctx context.Context, peer, mark string) {
	page := new(tegamiv1.ListMessagesResponse)
	if knows, _ := m.call(ctx, "TalkService/ListMessages", &tegamiv1.ListMessagesRequest{Peer: peer, Limit: 8}, page); knows != acknowledged || len(page.Messages) == 0 {
		return // once is enough: a store that is away need not come back soon
	}
	message := page.Messages[m.rand.IntN(len(page.Messages))]
	id, revision, own := message.MessageId, message.Revision, message.From == m.device.user
	switch roll := m.rand.IntN(10); {
	case roll < 3:
		if before := m.facts["read "+peer]; len(before) > 0 && before[0] > fmt.Sprint(revision) && len(before[0]) >= len(fmt.Sprint(revision)) {
			return // the mark is above it
		}
		m.make(ctx, "read "+peer, fmt.Sprint(revision), "TalkService/MarkRead", &tegamiv1.MarkReadRequest{Peer: peer, Revision: revision}, new(tegamiv1.MarkReadResponse))
	case roll < 5:
		m.forward(ctx, message, peer)
	case own && roll < 7:
		m.make(ctx, "text "+id, mark, "TalkService/EditMessage", &tegamiv1.EditMessageRequest{Peer: peer, Revision: revision, Text: mark}, new(tegamiv1.EditMessageResponse))
	case own && roll < 8:
		m.make(ctx, "unsent "+id, "true", "TalkService/UnsendMessage", &tegamiv1.UnsendMessageRequest{Peer: peer, Revision: revision}, new(tegamiv1.UnsendMessageResponse))
	default:
		reaction := mark
		if m.rand.IntN(3) == 0 {
			reaction = ""
		}
		m.make(ctx, "reaction "+id, reaction, "TalkService/ReactToMessage", &tegamiv1.ReactToMessageRequest{Peer: peer, Revision: revision, Reaction: reaction}, new(tegamiv1.ReactToMessageResponse))
	}
}

// forward sends a message on, which the history judges as any other.
func (m *mixer) forward(ctx context.Context, message *tegamiv1.Message, peer string) {
	known := checker.Message{
		From: m.device.user, To: m.workload.users[m.rand.IntN(len(m.workload.users))],
		ClientID: fmt.Sprintf("%s.forward.%d", m.device.user, m.next),
	}
	if len(m.chats) > 0 && m.rand.IntN(4) == 0 {
		known.To = m.chats[m.rand.IntN(len(m.chats))].id
	}
	switch body := message.Body.(type) {
	case *tegamiv1.Message_Text:
		known.Body = textBody(body.Text, "")
	case *tegamiv1.Message_Content:
		known.Body = contentBody(body.Content.GetMimeType(), body.Content.GetData())
	}
	m.deliver(ctx, known, "TalkService/ForwardMessage", &tegamiv1.ForwardMessageRequest{
		Peer: peer, Revision: message.Revision, To: known.To, ClientMessageId: known.ClientID,
	}, new(tegamiv1.ForwardMessageResponse))
}

// make does what makes a fact so.
func (m *mixer) make(ctx context.Context, name, value, procedure string, request, response proto.Message) {
	before := m.facts[name]
	m.facts[name] = append(slices.Clip(before), value)
	switch m.do(ctx, procedure, request, response) {
	case acknowledged:
		m.facts[name] = []string{value}
	case refused:
		if m.facts[name] = before; before == nil {
			delete(m.facts, name)
		}
	case notTaken, unknown: // either way
		if before == nil { // what it was before is not known
			delete(m.facts, name)
		}
	}
}

// do calls until it is decided, or the test ends.
func (m *mixer) do(ctx context.Context, procedure string, request, response proto.Message) knowledge {
	for doubt := false; ctx.Err() == nil; {
		knows, err := m.call(ctx, procedure, request, response)
		switch knows {
		case acknowledged:
			return acknowledged
		case refused:
			if doubt { // an earlier attempt may have made it so that this one is refused
				return unknown
			}
			return refused
		case unknown:
			doubt = true
		case notTaken:
		}
		pause(ctx, m.rand, retryAfter(err))
	}
	return unknown
}

func (m *mixer) call(ctx context.Context, procedure string, request, response proto.Message) (knowledge, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	err := m.device.client.Call(ctx, procedure, request, response)
	if err != nil && !mayRetry(err) && !mayBeRefused(err) {
		m.workload.unexpected.add("%s of %s: %v", procedure, m.device.user, err)
	}
	return outcome(err), err
}

// mayBeRefused reports whether an error is a refusal to be expected: of what was not
// there, as yet or any more, or is not for the role in a chat.
func mayBeRefused(err error) bool {
	refusal, ok := errors.AsType[*process.Error](err)
	if !ok {
		return false
	}
	reason := refusal.Detail.GetReason()
	return refusal.Code == "not_found" || reason == "not_permitted" || reason == "not_invited"
}
