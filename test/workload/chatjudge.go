package workload

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

// judgeChats replays the chats, which have been read again as all mailboxes have,
// and returns what is wrong with what clients have of them.
func (w *Workload) judgeChats(ctx context.Context) (chats map[string]*verdict, wrong []string, err error) {
	chats = map[string]*verdict{}
	whileLarge := 0
	for _, c := range w.chats {
		e := w.evidenceOf(c)
		v := e.judge()
		chats[c.id] = v
		for _, finding := range v.wrong {
			wrong = append(wrong, "chat "+c.id+": "+finding)
		}
		whileLarge += v.whileLarge
		if len(v.wrong) > 0 {
			continue // What else is wrong with it follows from that.
		}
		asked, err := w.askOf(ctx, c, e, v.chatState)
		if err != nil {
			return nil, nil, err
		}
		wrong = append(wrong, asked...)
	}
	if len(w.users) > tableSize && whileLarge == 0 {
		wrong = append(wrong, "no chat was ever large: the server is to be configured with what Unlimited has")
	}
	return chats, wrong, nil
}

// describeChats says how much the chats have proved.
func (w *Workload) describeChats(chats map[string]*verdict) string {
	operations, messages, whileLarge, ended, visited := int64(0), 0, 0, 0, 0
	for _, v := range chats {
		operations += v.revision
		messages += len(v.messages)
		whileLarge += v.whileLarge
		ended += v.ended
	}
	for _, c := range w.chats {
		visited += len(c.visitor.got)
	}
	return fmt.Sprintf("%d chats with %d operations, %d messages among them, %d while the chat was large; %d memberships ended; visitors read %d",
		len(chats), operations, messages, whileLarge, ended, visited)
}

// evidenceOf collects what clients know of a chat.
func (w *Workload) evidenceOf(c *chat) *evidence {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &evidence{
		chat: c.id, sequence: c.readers[0].replica.copies[c.id], told: c.told, promises: c.promises, places: c.places,
		copies: map[seat][]*tegamiv1.Operation{}, visits: map[string][]*tegamiv1.Operation{c.visitor.device.user: c.visitor.got},
	}
	for _, d := range w.devices { // those outside of the pool have nothing of it
		e.copies[seat{d.user, d.name}] = d.replica.copies[c.id]
	}
	return e
}

// askOf asks for each of a chat's pool what the chat is to them, and returns what
// is otherwise than the chat's operations make it.
func (w *Workload) askOf(ctx context.Context, c *chat, e *evidence, s *chatState) (wrong []string, err error) {
	for _, user := range c.pool {
		d := w.mixerOf(user).device
		now := new(tegamiv1.GetChatResponse)
		err := d.client.Call(ctx, "ChatService/GetChat", &tegamiv1.GetChatRequest{ChatId: c.id}, now)
		if isUnknownChat(err) && s.role(user) == tegamiv1.ChatRole_CHAT_NONE {
			err = nil
		} else if is := s.chatFor(user); err == nil && !proto.Equal(now.GetChat(), is) {
			wrong = append(wrong, fmt.Sprintf("GetChat tells %s of %v, it is %v", user, now.GetChat(), is))
		}
		if err != nil {
			return nil, fmt.Errorf("GetChat of %s by %s, who is %v: %w", c.id, user, s.role(user), err)
		}
		first := s.users[user].first
		ops, err := d.readChat(ctx, c.id, max(first-1, 0))
		if isUnknownChat(err) && !s.isMember(user) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s by %s, who is %v: %w", c.id, user, s.role(user), err)
		}
		if !s.isMember(user) || !equal(ops, e.sequence[first-1:]) {
			wrong = append(wrong, fmt.Sprintf("%s, %v from %d on, reads %d operations of %s, which has %d", user, s.role(user), first, len(ops), c.id, s.revision))
		}
	}
	return wrong, nil
}

func isUnknownChat(err error) bool {
	refusal, ok := errors.AsType[*process.Error](err)
	return ok && refusal.Code == "not_found" && refusal.Detail.GetReason() == "unknown_chat"
}

// forAll returns what a device reads of a chat as the chat has it for everybody: to
// whoever wrote a message it is a sent one, and to all others one that is received.
// One that is sent without being the reader's stays what it is.
func (d *device) forAll(ops []*tegamiv1.Operation) []*tegamiv1.Operation {
	for _, op := range ops {
		if sent := op.GetSendMessage(); sent != nil && sent.GetFrom() == d.user {
			op.Kind = &tegamiv1.Operation_ReceiveMessage{ReceiveMessage: sent}
		}
	}
	return ops
}

// readChat reads a chat to its end.
func (d *device) readChat(ctx context.Context, chat string, after int64) (ops []*tegamiv1.Operation, err error) {
	for more := true; more; {
		page := new(tegamiv1.FetchOpsResponse)
		request := &tegamiv1.FetchOpsRequest{ChatId: chat, AfterRevision: after, Limit: 100 + d.rand.Int32N(900)}
		if err := d.client.Call(ctx, "TalkService/FetchOps", request, page); err != nil {
			return nil, err
		}
		ops = append(ops, d.forAll(page.GetOps())...)
		after, more = page.GetRevision(), page.GetHasMore()
	}
	return ops, nil
}

func equal(a, b []*tegamiv1.Operation) bool {
	for i := range a {
		if i == len(b) || !proto.Equal(a[i], b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

// listChats pages through the chats of a device's user.
func (d *device) listChats(ctx context.Context) (chats []*tegamiv1.Chat, err error) {
	for request := new(tegamiv1.ListChatsRequest); ; {
		request.Limit = 1 + d.rand.Int32N(1000)
		page := new(tegamiv1.ListChatsResponse)
		if err := d.client.Call(ctx, "ChatService/ListChats", request, page); err != nil {
			return nil, fmt.Errorf("chats of %s/%s: %w", d.user, d.name, err)
		}
		chats = append(chats, page.Chats...)
		if request.PageToken = page.NextPageToken; page.NextPageToken == "" {
			return chats, nil
		}
	}
}

// compareChats returns what is otherwise in a list of all chats.
func (r *replica) compareChats(listed []*tegamiv1.Chat) string {
	for _, chat := range listed {
		if !proto.Equal(chat, r.chats[chat.ChatId]) {
			return fmt.Sprintf("ListChats has %v, the operations make %v", chat, r.chats[chat.ChatId])
		}
	}
	if len(listed) != len(r.chats) {
		return fmt.Sprintf("ListChats has %d chats, the operations make %d", len(listed), len(r.chats))
	}
	return ""
}
