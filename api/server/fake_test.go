package server_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/api/server"
)

// fakeTalk is a talk tier in memory, with the semantics that the edge depends
// on and none of the durability.
type fakeTalk struct {
	mu        sync.Mutex
	users     map[string]*fakeUser
	ended     []func(talk.Session)
	checks    int // how often CheckSession was asked
	cancelled int // how many polls were cancelled
	chats     map[string]*fakeChat
	fail      map[string]error
	silent    bool // sends and polls are never answered
}

type fakeUser struct {
	account talk.Account
	devices []*fakeDevice
	epoch   uint64
	ops     []*record.Operation
	sends   map[string]fakeSend
	polls   map[*fakePoll]struct{}

	contacts       map[string]*record.Contact
	settings       record.Settings
	deviceSettings record.DeviceSettings
	profile        record.Profile
}

type fakeDevice struct {
	talk.Device
	refresh, previous [32]byte
}

type fakeSend struct {
	body string
	sent talk.Sent
}

type fakePoll struct {
	talk.Poll
	timer *time.Timer
}

var _ server.Talk = (*fakeTalk)(nil)

func newFakeTalk() *fakeTalk {
	return &fakeTalk{users: make(map[string]*fakeUser), fail: make(map[string]error)}
}

// failWith makes a method of the tier fail, or work again with nil.
func (f *fakeTalk) failWith(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = err
}

func (f *fakeTalk) setSilent(silent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = silent
}

func (f *fakeTalk) count(of *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *of
}

// held returns how many polls the tier holds.
func (f *fakeTalk) held() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, user := range f.users {
		n += len(user.polls)
	}
	return n
}

// drain answers every held poll.
func (f *fakeTalk) drain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, user := range f.users {
		for poll := range user.polls {
			user.end(poll, talk.Page{Revision: poll.After, Reason: talk.Draining}, nil)
		}
	}
}

func (u *fakeUser) end(poll *fakePoll, page talk.Page, refused *refusal.Refusal) {
	delete(u.polls, poll)
	if poll.timer != nil {
		poll.timer.Stop()
	}
	poll.Answer(page, refused)
}

func (u *fakeUser) device(session talk.Session) *fakeDevice {
	for _, device := range u.devices {
		if device.ID == session.Device && (session.Epoch == 0 || device.Epoch == session.Epoch) {
			return device
		}
	}
	return nil
}

func (f *fakeTalk) Send(_ context.Context, send talk.Send) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return
	}
	if f.fail["panic"] != nil {
		panic("planted")
	}
	if err := f.fail["Send"]; err != nil {
		go send.Answer(talk.Sent{}, err)
		return
	}
	to, from := f.users[send.To], f.users[send.From]
	if to == nil {
		go send.Answer(talk.Sent{}, refusal.Of(refusal.UnknownRecipient))
		return
	}
	key, body := send.From+"/"+send.ClientMessageID, string(send.Body.Encode())
	if before, ok := to.sends[key]; ok {
		if before.body != body {
			go send.Answer(talk.Sent{}, refusal.Of(refusal.DifferentBody))
			return
		}
		go send.Answer(before.sent, nil)
		return
	}
	sent := talk.Sent{MessageID: uuid.Must(uuid.NewV7()), Time: time.Now().UnixMilli()}
	to.sends[key] = fakeSend{body, sent}
	message := &record.Message{
		MessageId: sent.MessageID[:], From: send.From, To: send.To,
		ClientMessageId: send.ClientMessageID, Time: sent.Time, SealedBody: []byte(body),
	}
	to.append(&record.Operation{Time: sent.Time, Kind: &record.Operation_ReceiveMessage{ReceiveMessage: message}})
	if send.From != send.To {
		from.append(&record.Operation{Time: sent.Time, OriginDevice: send.FromDevice, Kind: &record.Operation_SendMessage{SendMessage: message}})
	}
	go send.Answer(sent, nil)
}

func (u *fakeUser) append(operation *record.Operation) {
	operation.Revision = int64(len(u.ops)) + 1
	u.ops = append(u.ops, operation)
	for poll := range u.polls {
		if operation.GetOriginDevice() != poll.Session.Device {
			u.end(poll, u.page(poll.After, poll.Limit), nil)
		}
	}
}

func (u *fakeUser) page(after int64, limit int) talk.Page {
	operations := u.ops[after:]
	more := len(operations) > limit
	if more {
		operations = operations[:limit]
	}
	page := talk.Page{Operations: encoded(operations), Revision: after + int64(len(operations)), HasMore: more, Reason: talk.Operations}
	if len(operations) == 0 {
		page.Reason = talk.Timeout
	}
	return page
}

func (f *fakeTalk) Poll(request talk.Poll) (cancel func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user := f.users[request.Session.User]
	head := int64(len(user.ops))
	switch {
	case f.silent:
		return func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.cancelled++
		}
	case f.fail["Poll"] != nil:
		request.Answer(talk.Page{}, refusal.From(f.fail["Poll"]))
		return func() {}
	case request.After > head:
		request.Answer(talk.Page{}, &refusal.Refusal{Reason: refusal.CursorAhead, Field: "afterRevision", ResumeRevision: head})
		return func() {}
	case request.After < head || request.Timeout == 0:
		request.Answer(user.page(request.After, request.Limit), nil)
		return func() {}
	}
	for other := range user.polls {
		if other.Session.Device == request.Session.Device {
			user.end(other, talk.Page{Revision: other.After, Reason: talk.Superseded}, nil)
		}
	}
	poll := &fakePoll{Poll: request}
	user.polls[poll] = struct{}{}
	poll.timer = time.AfterFunc(request.Timeout, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, held := user.polls[poll]; held {
			user.end(poll, talk.Page{Revision: poll.After, Reason: talk.Timeout}, nil)
		}
	})
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, held := user.polls[poll]; held {
			delete(user.polls, poll)
			poll.timer.Stop()
			f.cancelled++
		}
	}
}

func (f *fakeTalk) CreateAccounts(_ context.Context, accounts []talk.NewAccount) ([]bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["CreateAccounts"]; err != nil {
		return nil, err
	}
	taken := make([]bool, len(accounts))
	for i, account := range accounts {
		if _, taken[i] = f.users[account.User]; !taken[i] {
			f.users[account.User] = &fakeUser{
				account: talk.Account{DisplayName: account.DisplayName, PasswordHash: account.PasswordHash},
				epoch:   1,
				sends:   make(map[string]fakeSend),
				polls:   make(map[*fakePoll]struct{}),
			}
		}
	}
	return taken, nil
}

// user returns a user, or the error that the method is to fail with.
func (f *fakeTalk) user(method, id string) (*fakeUser, error) {
	if err := f.fail[method]; err != nil {
		return nil, err
	}
	if user := f.users[id]; user != nil {
		return user, nil
	}
	return nil, refusal.Of(refusal.UnknownRecipient)
}

func (f *fakeTalk) Account(_ context.Context, id string) (talk.Account, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("Account", id)
	if err != nil {
		return talk.Account{}, err
	}
	return user.account, nil
}

func (f *fakeTalk) SignIn(_ context.Context, id, device string, refresh [32]byte) (talk.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("SignIn", id)
	if err != nil {
		return talk.Session{}, err
	}
	session := talk.Session{User: id, Device: device, Epoch: user.epoch}
	user.epoch++
	if before := user.device(talk.Session{Device: device}); before != nil {
		f.endSession(user, talk.Session{User: id, Device: device, Epoch: before.Epoch})
	}
	now := time.Now()
	user.devices = append(user.devices, &fakeDevice{
		Device:  talk.Device{ID: device, Epoch: session.Epoch, CreateTime: now, SeenTime: now},
		refresh: refresh,
	})
	return session, nil
}

func (f *fakeTalk) endSession(user *fakeUser, session talk.Session) {
	user.devices = slices.DeleteFunc(user.devices, func(d *fakeDevice) bool { return d.ID == session.Device })
	for poll := range user.polls {
		if poll.Session == session {
			user.end(poll, talk.Page{}, refusal.Of(refusal.SessionEnded))
		}
	}
	for _, tell := range f.ended {
		tell(session)
	}
}

func (f *fakeTalk) Refresh(_ context.Context, session talk.Session, presented, next [32]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("Refresh", session.User)
	if err != nil {
		return err
	}
	device := user.device(session)
	switch {
	case device == nil:
		return refusal.Of(refusal.UnknownDevice)
	case presented == device.refresh:
		device.previous = presented
	case presented != device.previous:
		f.endSession(user, session)
		return refusal.Of(refusal.TokenReused)
	}
	device.refresh = next
	return nil
}

func (f *fakeTalk) SignOut(_ context.Context, session talk.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("SignOut", session.User)
	if err != nil {
		return err
	}
	device := user.device(session)
	if device == nil {
		return refusal.Of(refusal.UnknownDevice)
	}
	session.Epoch = device.Epoch
	f.endSession(user, session)
	return nil
}

func (f *fakeTalk) CheckSession(_ context.Context, session talk.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checks++
	user, err := f.user("CheckSession", session.User)
	if err != nil {
		return err
	}
	if user.device(session) == nil {
		return refusal.Of(refusal.UnknownDevice)
	}
	return nil
}

func (f *fakeTalk) Devices(_ context.Context, id string) ([]talk.Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("Devices", id)
	if err != nil {
		return nil, err
	}
	var devices []talk.Device
	for _, device := range slices.Backward(user.devices) {
		devices = append(devices, device.Device)
	}
	return devices, nil
}

func (f *fakeTalk) Head(_ context.Context, id string) (talk.Head, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("Head", id)
	if err != nil {
		return talk.Head{}, err
	}
	return talk.Head{Revision: int64(len(user.ops)), First: 1}, nil
}

func (f *fakeTalk) Messages(_ context.Context, id, peer string, before int64, limit int) (talk.History, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	user, err := f.user("Messages", id)
	if err != nil {
		return talk.History{}, err
	}
	var history talk.History
	for _, operation := range slices.Backward(user.ops) {
		message := operation.GetReceiveMessage()
		if message == nil {
			message = operation.GetSendMessage()
		}
		if message == nil {
			continue
		}
		if before > 0 && operation.GetRevision() >= before || message.GetFrom() != peer && message.GetTo() != peer {
			continue
		}
		if len(history.Operations) == limit {
			history.HasMore = true
			break
		}
		history.Operations = append(history.Operations, operation)
	}
	return history, nil
}

func encoded(operations []*record.Operation) [][]byte {
	var encoded [][]byte
	for _, operation := range operations {
		data, err := proto.Marshal(operation)
		if err != nil {
			panic(err)
		}
		encoded = append(encoded, data)
	}
	return encoded
}

// unsealed opens bodies that are not sealed.
type unsealed struct{}

func (unsealed) Open(dst, _, sealed []byte) []byte { return append(dst, sealed...) }

func (f *fakeTalk) Opener(context.Context, string) (talk.Opener, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return unsealed{}, f.fail["Open"]
}

func (f *fakeTalk) Open(_ context.Context, _ string, operations []*record.Operation) ([]talk.Body, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail["Open"]; err != nil {
		return nil, err
	}
	bodies := make([]talk.Body, len(operations))
	for i, operation := range operations {
		message := operation.GetReceiveMessage()
		if message == nil {
			message = operation.GetSendMessage()
		}
		if message == nil {
			continue
		}
		body, err := talk.DecodeBody(message.GetSealedBody())
		if err != nil {
			return nil, err
		}
		bodies[i] = body
	}
	return bodies, nil
}

func (f *fakeTalk) OnSessionEnded(tell func(talk.Session)) { f.ended = append(f.ended, tell) }

func (f *fakeTalk) Ready() bool { return true }
