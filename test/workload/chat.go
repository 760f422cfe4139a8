package workload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

const (
	// tableSize is how many users share a small chat: no more than Unlimited has
	// chats copied to.
	tableSize = 4
	// maxTables bounds the small chats.
	maxTables = 16
	// hallSize is how many users share the one chat that is larger, where there
	// are as many.
	hallSize = 10
)

// chat is a group chat of some of the users, who come and go.
type chat struct {
	id string
	// pool are all who are ever in it. The first made it, never leaves and is never
	// removed, and so sees all of it.
	pool    []string
	create  *tegamiv1.CreateChatRequest
	readers []*device // of whoever made it
	visitor *visitor

	mu sync.Mutex // guards the following
	// known is the newest revision that anybody was told of.
	known    int64
	code     string // that was good once
	told     []told
	promises []promise
	places   map[int64]string
}

// isChat reports whether a name is a chat's: users of a workload have others.
func isChat(name string) bool { return strings.HasPrefix(name, "C") }

// keeper is who made it.
func (c *chat) keeper() string { return c.pool[0] }

// forget makes nothing of what was told and promised until now.
func (c *chat) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.told, c.promises, c.places = 0, nil, nil, map[int64]string{}
	c.visitor.cursor, c.visitor.got = 0, nil
}

func (c *chat) newest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// tell notes what a user was told of the chat.
func (c *chat) tell(user string, as *tegamiv1.Chat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = max(c.known, as.GetChatRevision())
	c.told = append(c.told, told{user, as})
}

// promise notes what a user was told has come to be, at a revision or later.
func (c *chat) promise(p promise) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.promises = append(c.promises, p)
}

// place notes where a message was told to be.
func (c *chat) place(revision int64, messageID string) (before string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = max(c.known, revision)
	before = c.places[revision]
	c.places[revision] = messageID
	return before
}

// newChats makes the chats: a small one for each few users, and a hall that some of
// these share. All accept, each with their own mixer's device.
func (w *Workload) newChats() {
	w.t.Helper()
	for i := 0; i+tableSize <= len(w.users) && len(w.chats) < maxTables; i += tableSize {
		w.newChat(w.users[i : i+tableSize])
	}
	if len(w.users) > tableSize {
		hall := slices.Clone(w.users[:min(len(w.users), hallSize)])
		hall[0], hall[1] = hall[1], hall[0] // whoever made a small one need not see to both
		w.newChat(hall)
	}
}

func (w *Workload) newChat(pool []string) {
	w.t.Helper()
	n := len(w.chats)
	c := &chat{pool: pool, places: map[int64]string{}, create: &tegamiv1.CreateChatRequest{
		ClientChatId: fmt.Sprint("chat", n), Name: fmt.Sprint("chat ", n), Invite: pool[1:],
		History: tegamiv1.ChatHistory(1 + n%2),
	}}
	made := new(tegamiv1.CreateChatResponse)
	keeper := w.mixerOf(c.keeper())
	if keeper.do(w.ctx, "ChatService/CreateChat", c.create, made) != acknowledged {
		w.t.Fatalf("%s cannot make a chat", c.keeper())
	}
	c.id = made.GetChat().GetChatId()
	c.tell(c.keeper(), made.GetChat())
	w.History.Chat(c.id)
	for _, user := range pool {
		m := w.mixerOf(user)
		m.chats = append(m.chats, c)
		if user != c.keeper() {
			m.accept(w.ctx, c)
		}
	}
	for _, d := range w.devices {
		switch d.user {
		case c.keeper():
			c.readers = append(c.readers, &device{
				workload: w, user: d.user, name: d.name + " in the chat", chat: c.id,
				client: d.client, seen: w.History.Device(c.id, d.user+"/"+d.name, 0), rand: w.newRand(1<<41 + n<<8 + len(c.readers)),
			})
		case pool[1]:
			c.visitor = &visitor{chat: c, device: d} // the last of the user's
		}
	}
	w.chats = append(w.chats, c)
}

// mixerOf returns what a user does beside sending.
func (w *Workload) mixerOf(user string) *mixer {
	return w.mixers[slices.Index(w.users, user)]
}

// readers are all who read a sequence that is to end where the server says: every
// device its mailbox, and some a chat.
func (w *Workload) readers() []*device {
	all := slices.Clone(w.devices)
	for _, c := range w.chats {
		all = append(all, c.readers...)
	}
	return all
}

// endsAt checks that a chat that was read again ended where it did before, and
// where the server says.
func (d *device) endsAt(ctx context.Context, before int64) error {
	now := new(tegamiv1.GetChatResponse)
	if err := d.client.Call(ctx, "ChatService/GetChat", &tegamiv1.GetChatRequest{ChatId: d.chat}, now); err != nil {
		return err
	}
	if end := d.seen.Cursor(); end != before || now.GetChat().GetChatRevision() != end {
		return fmt.Errorf("it ended at %d, before at %d; GetChat says %d", end, before, now.GetChat().GetChatRevision())
	}
	return nil
}

// visitor reads a chat as a device of one who comes and goes does: what it may, as
// soon as it may.
type visitor struct {
	chat   *chat
	device *device
	cursor int64
	got    []*tegamiv1.Operation
}

// read reads until ctx ends.
func (v *visitor) read(ctx context.Context) {
	random := v.device.workload.newRand(1 << 42)
	for ctx.Err() == nil {
		err := v.fetch(ctx)
		refusal, refused := errors.AsType[*process.Error](err)
		switch {
		case err == nil || ctx.Err() != nil:
			continue
		case refused && refusal.Code == "out_of_range":
			v.cursor = refusal.Detail.GetResumeRevision() // it joined again
			continue
		case refused && refusal.Code == "not_found": // no member now
		case !mayRetry(err):
			v.device.workload.unexpected.add("poll of %s by %s after %d: %v", v.chat.id, v.device.user, v.cursor, err)
		}
		pause(ctx, random, retryAfter(err))
	}
}

func (v *visitor) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hold+callLimit)
	defer cancel()
	page := new(tegamiv1.FetchOpsResponse)
	request := &tegamiv1.FetchOpsRequest{ChatId: v.chat.id, AfterRevision: v.cursor, Timeout: durationpb.New(hold)}
	if err := v.device.client.Call(ctx, "TalkService/FetchOps", request, page); err != nil {
		return err
	}
	v.got = append(v.got, v.device.forAll(page.GetOps())...)
	v.cursor = page.GetRevision()
	return nil
}
