package node

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"sync"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// CreateChat makes a chat and returns its id. That follows from who makes it and
// the client's id, so that a retry comes to the same chat.
func (n *Node) CreateChat(ctx context.Context, session talk.Session, c talk.NewChat) (chat string, err error) {
	if n.apply.Load() < mailbox.ChatVersion {
		return "", upgrading()
	}
	own, err := n.key(ctx, session.User)
	if err != nil {
		return "", err
	}
	var id [16]byte
	sealing.Hash(id[:], own, "chat", []byte(session.User), []byte(c.ClientID))
	chat = mailbox.ChatPrefix + hex.EncodeToString(id[:])
	if err := n.mayJoin(ctx, session.User, chat); err != nil {
		return "", err
	}
	if err := n.exist(ctx, c.Invite); err != nil {
		return "", err
	}
	keys, err := n.options.Keys.Create(ctx, []string{chat})
	if err != nil {
		return "", n.keyFailed(ctx, err)
	}
	create := &record.CreateChat{
		Creator: session.User, Device: session.Device, Name: c.Name, WholeHistory: c.WholeHistory, Invite: c.Invite,
		MaxCopied: int32(n.options.ChatCopies),
	}
	r := n.newRecord(chat)
	r.Kind = &record.Record_CreateChat{CreateChat: create}
	// Not as that of a message, which may have the same id.
	sealing.Hash(r.DedupKey, keys[0], "client chat id", []byte(session.User), []byte(c.ClientID))
	asked := [][]byte{[]byte(c.Name), {0}}
	if c.WholeHistory {
		asked[1][0] = 1
	}
	for _, user := range c.Invite {
		asked = append(asked, []byte(user))
	}
	sealing.Hash(r.BodyHash, keys[0], "create chat", asked...)
	_, err = n.do(ctx, r)
	return chat, err
}

// mayJoin refuses one more chat to a user who is in as many as may be, or invited
// to them. One of those is no more.
func (n *Node) mayJoin(ctx context.Context, user, chat string) error {
	// There may be some more, which were under way.
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_Chats{Chats: &record.ChatsQuery{Limit: 2 * mailbox.MaxChats}}})
	isOne := func(c *record.ChatOf) bool { return c.GetChat() == chat }
	if err == nil && len(known.GetChats()) >= mailbox.MaxChats && !slices.ContainsFunc(known.GetChats(), isOne) {
		err = refusal.Of(refusal.TooManyChats)
	}
	return err
}

// exist refuses users who never were.
func (n *Node) exist(ctx context.Context, users []string) error {
	for _, user := range users {
		if _, err := n.key(ctx, user); err != nil {
			return err
		}
	}
	return nil
}

// ChangeChat does what the session's user asks of a chat.
func (n *Node) ChangeChat(ctx context.Context, session talk.Session, chat string, change *record.ChangeChat) error {
	if n.apply.Load() < mailbox.ChatVersion {
		return upgrading()
	}
	if _, err := n.chatKey(ctx, chat); err != nil {
		return err
	}
	if err := n.exist(ctx, change.GetInvite().GetUsers()); err != nil {
		return err
	}
	if change.GetAccept() || change.GetJoin() != nil {
		if err := n.mayJoin(ctx, session.User, chat); err != nil {
			return err
		}
	}
	change.Actor, change.Device = session.User, session.Device
	r := n.newRecord(chat)
	r.Kind = &record.Record_ChangeChat{ChangeChat: change}
	_, err := n.do(ctx, r)
	return err
}

// CreateChatLink makes a code with which anybody joins a chat: the secret, then
// the chat's id.
func (n *Node) CreateChatLink(ctx context.Context, session talk.Session, chat string) (code string, err error) {
	secret := make([]byte, secretSize, secretSize+len(chat))
	_, _ = rand.Read(secret) // crypto/rand never fails: it ends the program instead
	hash := sha256.Sum256(secret)
	err = n.ChangeChat(ctx, session, chat, &record.ChangeChat{Change: &record.ChangeChat_Link{Link: hash[:]}})
	return base64.RawURLEncoding.EncodeToString(append(secret, chat...)), err
}

// JoinByLink makes the session's user a member of the chat of a code, and
// returns its id. Whatever is wrong with a code is one and the same refusal.
func (n *Node) JoinByLink(ctx context.Context, session talk.Session, code string) (chat string, err error) {
	decoded, err := base64.RawURLEncoding.DecodeString(code)
	if err != nil || len(decoded) <= secretSize || !mailbox.IsChat(string(decoded[secretSize:])) {
		return "", refusal.Of(refusal.UnknownInvitation)
	}
	chat = string(decoded[secretSize:])
	hash := sha256.Sum256(decoded[:secretSize])
	err = n.ChangeChat(ctx, session, chat, &record.ChangeChat{Change: &record.ChangeChat_Join{Join: hash[:]}})
	if reasonIs(err, refusal.UnknownChat) {
		err = refusal.Of(refusal.UnknownInvitation)
	}
	return chat, err
}

// Chat returns a chat as a user sees it who is in it or invited.
func (n *Node) Chat(ctx context.Context, user, chat string) (*record.ChatOf, error) {
	known, err := n.queryChat(ctx, chat, &record.Query{About: &record.Query_ChatFor{ChatFor: user}})
	if err != nil || len(known.GetChats()) != 1 {
		return nil, orNotReady(err)
	}
	return known.GetChats()[0], nil
}

// Chats returns a page of the chats that a user is in or invited to.
func (n *Node) Chats(ctx context.Context, user string, page *record.ChatsQuery) (talk.Chats, error) {
	known, err := n.query(ctx, user, &record.Query{About: &record.Query_Chats{Chats: page}})
	return talk.Chats{Chats: known.GetChats(), HasMore: known.GetHasMore(), Revision: known.Head}, err
}

// Members returns a page of the users of a chat.
func (n *Node) Members(ctx context.Context, chat string, page *record.MembersQuery) (talk.Members, error) {
	known, err := n.queryChat(ctx, chat, &record.Query{About: &record.Query_Members{Members: page}})
	return talk.Members{Members: known.GetMembers(), HasMore: known.GetHasMore(), Revision: known.Head}, err
}

func (n *Node) queryChat(ctx context.Context, chat string, q *record.Query) (known, error) {
	if _, err := n.chatKey(ctx, chat); err != nil {
		return known{}, err
	}
	return n.query(ctx, chat, q)
}

// chatKey returns a chat's key. A chat without one was never made.
func (n *Node) chatKey(ctx context.Context, chat string) (persistence.Key, error) {
	key, err := n.key(ctx, chat)
	if reasonIs(err, refusal.UnknownRecipient) {
		err = refusal.Of(refusal.UnknownChat)
	}
	return key, err
}

// sealForChat makes the record of a message to a chat. Who is a member is decided
// when it is applied, so that the body is sealed for all of them with the chat's
// key.
func (n *Node) sealForChat(ctx context.Context, send talk.Send) (*record.Record, error) {
	key, err := n.chatKey(ctx, send.To)
	if err != nil {
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	body := send.Body.Encode()
	r := n.newRecord(send.To)
	sealing.HashCommand(r.DedupKey, key, send.From, send.ClientMessageID)
	sealing.HashBody(r.BodyHash, key, body)
	r.Kind = &record.Record_ChatSend{ChatSend: &record.ChatSend{
		MessageId: id[:], From: send.From, FromDevice: send.FromDevice, ClientMessageId: send.ClientMessageID,
		SealedBody: sealing.Seal(key, send.To, id[:], body),
	}}
	return r, nil
}

// openedChat is what opens the bodies of a chat, and those of them that were too
// large to be copied, by revision.
type openedChat struct {
	talk.Opener

	bodies map[int64][]byte
}

// keyless opens nothing: with its key, all bodies of a chat are gone.
type keyless struct{}

func (keyless) Open(dst, _, _ []byte) []byte { return dst }

// bodyOf returns the sealed body of an operation: its own, or that of the chat.
func (c *openedChat) bodyOf(operation *record.Operation, own []byte) []byte {
	if len(own) > 0 {
		return own
	}
	return c.bodies[operation.GetChatRevision()]
}

// bodyReads is how many bodies of one page are read from chats at a time.
const bodyReads = 16

// openChats returns what opens the bodies of the chats that operations are of.
func (n *Node) openChats(ctx context.Context, operations []*record.Operation) (map[string]*openedChat, error) {
	var chats map[string]*openedChat
	var missing []*record.Operation
	for _, operation := range operations {
		chat := operation.GetChat()
		id, sealed := sealedOf(operation)
		if chat == "" || id == nil {
			continue
		}
		if chats[chat] == nil {
			opener, err := n.Opener(ctx, chat)
			if err != nil {
				return nil, err
			}
			if chats == nil {
				chats = make(map[string]*openedChat)
			}
			chats[chat] = &openedChat{Opener: opener, bodies: map[int64][]byte{}}
		}
		if len(sealed) == 0 {
			missing = append(missing, operation)
		}
	}
	return chats, n.readBodies(ctx, chats, missing)
}

// readBodies reads bodies that were not copied. What is no longer kept is left
// out.
func (n *Node) readBodies(ctx context.Context, chats map[string]*openedChat, operations []*record.Operation) error {
	var (
		readers sync.WaitGroup
		mu      sync.Mutex // guards the following, and the bodies
		failed  error
		turns   = make(chan struct{}, bodyReads)
	)
	for _, operation := range operations {
		turns <- struct{}{}
		readers.Go(func() {
			defer func() { <-turns }()
			sealed, err := n.readBody(ctx, operation)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
			}
			chats[operation.GetChat()].bodies[operation.GetChatRevision()] = sealed
		})
	}
	readers.Wait()
	return failed
}

// withBody returns an operation of a user's mailbox with its body, where that lies
// in a chat.
func (n *Node) withBody(ctx context.Context, operation *record.Operation) (*record.Operation, error) {
	if id, sealed := sealedOf(operation); operation.GetChat() == "" || id == nil || len(sealed) > 0 {
		return operation, nil
	}
	sealed, err := n.readBody(ctx, operation)
	if err != nil {
		return nil, err
	}
	operation = proto.CloneOf(operation)
	if m := messageOf(operation); m != nil {
		m.SealedBody = sealed
	} else {
		operation.GetMessageAmended().Change = &record.Amendment_SealedBody{SealedBody: sealed}
	}
	return operation, nil
}

// readBody reads the body of an operation in its chat, sealed; nil for one that is
// no longer kept.
func (n *Node) readBody(ctx context.Context, operation *record.Operation) (sealed []byte, err error) {
	inChat, err := n.operation(ctx, operation.GetChat(), operation.GetChat(), operation.GetChatRevision())
	_, sealed = sealedOf(inChat)
	return sealed, err
}
