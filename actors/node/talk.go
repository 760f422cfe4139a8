package node

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/tegami-im/tegami/actors/connection"
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// referringVersion is the version of apply since which programs know bodies that
// refer to something.
const referringVersion = 5

// commandDeadline is for how long an append of unknown outcome is repeated.
const commandDeadline = 5 * time.Second

// Send seals a message and hands it to the recipient's shard. It does not wait
// for keys: with one that has to be looked up it goes on later.
func (n *Node) Send(ctx context.Context, send talk.Send) {
	if n.known(send.To) && n.known(send.From) {
		n.send(ctx, send)
		return
	}
	if !n.lookups.start(n.places.Shard(send.To), func(ending context.Context) { //nolint:contextcheck // both bound it
		ctx, cancel := context.WithCancel(ctx)
		defer context.AfterFunc(ending, cancel)()
		n.send(ctx, send)
	}) {
		send.Answer(talk.Sent{}, refusal.After(refusal.Busy, 100*time.Millisecond))
	}
}

// known reports whether the key of a user is at hand, or can be had without
// waiting.
func (n *Node) known(user string) bool {
	ring, ok := n.options.Keys.(interface{ Known(mailbox string) bool })
	return !ok || ring.Known(user)
}

func (n *Node) send(ctx context.Context, send talk.Send) {
	seal := n.seal
	if mailbox.IsChat(send.To) {
		seal = n.sealForChat
	}
	r, err := seal(ctx, send)
	if err != nil {
		send.Answer(talk.Sent{}, err)
		return
	}
	message := n.options.Observe.Trace(ctx)
	n.submit(r, message, func(a mailbox.Answer, refused *refusal.Refusal) {
		if message != nil {
			message.End(reasonOf(refused))
		}
		if refused != nil {
			if refused.Reason == refusal.UnknownRecipient {
				refused.Field = "to"
			}
			send.Answer(talk.Sent{}, refused)
			return
		}
		sent := talk.Sent{MessageID: a.MessageID, Time: a.Time}
		if mailbox.IsChat(send.To) {
			sent.ChatRevision = a.Revision
		}
		send.Answer(sent, nil)
	})
}

func reasonIs(err error, reason refusal.Reason) bool {
	refused, ok := errors.AsType[*refusal.Refusal](err)
	return ok && refused.Reason == reason
}

func reasonOf(refused *refusal.Refusal) string {
	if refused == nil {
		return ""
	}
	return refused.Reason.String()
}

// seal makes the record of a send. The body is sealed twice, for the mailbox
// that it goes to and for the sender's own, so that nothing behind the log
// needs a key.
func (n *Node) seal(ctx context.Context, send talk.Send) (*record.Record, error) {
	if send.Body.Refers() && n.apply.Load() < referringVersion {
		return nil, upgrading()
	}
	key, err := n.key(ctx, send.To)
	if err != nil {
		var refused *refusal.Refusal
		if errors.As(err, &refused) && refused.Reason == refusal.UnknownRecipient {
			refused.Field = "to"
		}
		return nil, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	body := send.Body.Encode()
	message := &record.Send{
		MessageId:       id[:],
		From:            send.From,
		ClientMessageId: send.ClientMessageID,
		FromDevice:      send.FromDevice,
		SealedBody:      sealing.Seal(key, send.To, id[:], body),
	}
	if send.From != send.To {
		own, err := n.key(ctx, send.From)
		if err != nil {
			return nil, err
		}
		message.SealedCopy = sealing.Seal(own, send.From, id[:], body)
	}
	r := n.newRecord(send.To)
	r.DedupKey = make([]byte, persistence.DedupKeySize)
	sealing.HashCommand(r.DedupKey, key, send.From, send.ClientMessageID)
	r.BodyHash = make([]byte, persistence.BodyHashSize)
	sealing.HashBody(r.BodyHash, key, body)
	r.Kind = &record.Record_Send{Send: message}
	return r, nil
}

// key returns a user's key. A user without one was never registered.
func (n *Node) key(ctx context.Context, user string) (persistence.Key, error) {
	key, err := n.options.Keys.Get(ctx, user)
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, persistence.ErrNotFound):
		return key, refusal.Of(refusal.UnknownRecipient)
	default:
		return key, n.keyFailed(ctx, err)
	}
}

// keyFailed refuses what needs a key that is not to be had now.
func (n *Node) keyFailed(ctx context.Context, err error) error {
	if ctx.Err() == nil { // else it is the caller who has gone
		if passed, due := n.keyFails.Due(time.Now()); due {
			n.options.Logger.Warn("keys are not to be had", "others", passed, "error", err)
		}
	}
	return refusal.After(refusal.StoreUnavailable, time.Second)
}

// newRecord returns a record with a new id, under which its answer is
// remembered unless the caller sets another dedup key.
func (n *Node) newRecord(user string) *record.Record {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // crypto/rand never fails: it ends the program instead
	return &record.Record{
		Id:           id,
		Mailbox:      user,
		MintTime:     time.Now().UnixMilli(),
		DedupKey:     id[:persistence.DedupKeySize],
		BodyHash:     id[persistence.DedupKeySize:],
		ApplyVersion: n.apply.Load(),
	}
}

// submit hands a command to its shard, unless the node has too many in flight.
func (n *Node) submit(r *record.Record, follow shard.Trace, answer func(mailbox.Answer, *refusal.Refusal)) {
	if r.GetApplyVersion() < mailbox.Since(r) {
		answer(mailbox.Answer{}, upgrading())
		return
	}
	if n.commands.Add(1) > int64(n.options.Commands) {
		n.commands.Add(-1)
		answer(mailbox.Answer{}, refusal.After(refusal.Busy, 100*time.Millisecond))
		return
	}
	now := time.Now()
	c := shard.Command{
		Record:   r,
		Accepted: now,
		Trace:    follow,
		Deadline: now.Add(commandDeadline),
		Answer: func(a mailbox.Answer, refused *refusal.Refusal) {
			n.commands.Add(-1)
			answer(a, refused)
		},
	}
	n.command(c, 0, false)
}

// do submits a command and waits for its answer.
func (n *Node) do(ctx context.Context, r *record.Record) (mailbox.Answer, error) {
	type result struct {
		answer  mailbox.Answer
		refused *refusal.Refusal
	}
	results := make(chan result, 1)
	n.submit(r, nil, func(a mailbox.Answer, refused *refusal.Refusal) { results <- result{a, refused} })
	select {
	case got := <-results:
		if got.refused != nil {
			return got.answer, got.refused
		}
		return got.answer, nil
	case <-ctx.Done():
		return mailbox.Answer{}, refusal.After(refusal.OutcomeUnknown, time.Second)
	}
}

// CreateAccounts creates users; taken tells for each whether it existed.
func (n *Node) CreateAccounts(ctx context.Context, accounts []talk.NewAccount) ([]bool, error) {
	users := make([]string, len(accounts))
	for i, account := range accounts {
		users[i] = account.User
	}
	if _, err := n.options.Keys.Create(ctx, users); err != nil {
		return nil, n.keyFailed(ctx, err)
	}
	type result struct {
		index   int
		refused *refusal.Refusal
	}
	results := make(chan result, len(accounts))
	for i, account := range accounts {
		r := n.newRecord(account.User)
		r.Kind = &record.Record_CreateAccount{CreateAccount: &record.CreateAccount{
			DisplayName: account.DisplayName, PasswordHash: account.PasswordHash,
		}}
		n.submit(r, nil, func(_ mailbox.Answer, refused *refusal.Refusal) { results <- result{i, refused} })
	}
	taken := make([]bool, len(accounts))
	var failed error
	for range accounts {
		select {
		case got := <-results:
			switch {
			case got.refused == nil:
			case got.refused.Reason == refusal.UserExists:
				taken[got.index] = true
			default:
				failed = got.refused
			}
		case <-ctx.Done():
			return nil, refusal.After(refusal.OutcomeUnknown, time.Second)
		}
	}
	return taken, failed
}

// SignIn gives a device a session.
func (n *Node) SignIn(ctx context.Context, user, device string, refreshHash [32]byte) (talk.Session, error) {
	if _, err := n.key(ctx, user); err != nil {
		return talk.Session{}, err
	}
	r := n.newRecord(user)
	r.Kind = &record.Record_SignIn{SignIn: &record.SignIn{DeviceId: device, RefreshHash: refreshHash[:]}}
	answer, err := n.do(ctx, r)
	return answer.Session, err
}

// Refresh rotates the refresh token of a session.
func (n *Node) Refresh(ctx context.Context, session talk.Session, presented, next [32]byte) error {
	if _, err := n.key(ctx, session.User); err != nil {
		return err
	}
	r := n.newRecord(session.User)
	r.Kind = &record.Record_Refresh{Refresh: &record.Refresh{
		DeviceId: session.Device, Epoch: session.Epoch, PresentedHash: presented[:], RefreshHash: next[:],
	}}
	_, err := n.do(ctx, r)
	return err
}

// SignOut ends a session; Epoch 0 ends whichever the device has.
func (n *Node) SignOut(ctx context.Context, session talk.Session) error {
	r := n.newRecord(session.User)
	r.Kind = &record.Record_SignOut{SignOut: &record.SignOut{DeviceId: session.Device, Epoch: session.Epoch}}
	_, err := n.do(ctx, r)
	return err
}

// Poll hands a poll to the connection actor of its device. The function that
// it returns cancels it.
func (n *Node) Poll(poll talk.Poll) func() {
	if poll.Chat != "" && n.apply.Load() < mailbox.ChatVersion {
		poll.Answer(talk.Page{}, upgrading())
		return func() {}
	}
	id := n.polls.Add(1)
	session := poll.Session
	supervisor := n.supervisors[n.places.Shard(session.Device+"@"+session.User)%supervisorCount]
	n.system.Root.Send(supervisor, &connection.Start{ID: id, Poll: poll})
	return func() {
		n.system.Root.Send(supervisor, &connection.Cancel{ID: id, User: session.User, Device: session.Device, Chat: poll.Chat})
	}
}

// OnSessionEnded has a function called for each session that ends.
func (n *Node) OnSessionEnded(listener func(talk.Session)) {
	n.ended.Lock()
	defer n.ended.Unlock()
	n.ended.listeners = append(n.ended.listeners, listener)
}

func (n *Node) sessionEnded(session talk.Session) {
	n.ended.RLock()
	defer n.ended.RUnlock()
	for _, listener := range n.ended.listeners {
		listener(session)
	}
}
