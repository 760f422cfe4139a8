package workload

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/node"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/limit"
	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/test/process"
)

// steps is how long a life of the clients is.
const steps = 10_000

// However answers are lost, pages come late, twice and out of order, devices
// begin anew, and the server dies: in the end every device has what the server
// has, each message once, and two users have the same of what is between them; and
// of a chat, which is large at times, all have what they are to.
func TestClientsOnABadNetworkEndEqualToTheServer(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) node.Options{
		"memory": func(*testing.T) node.Options {
			return node.Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys()}
		},
		"embedded": func(t *testing.T) node.Options {
			data, err := embedded.Open(embedded.Options{Dir: t.TempDir(), Shards: 4, Durability: persistence.DurabilityOS})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = data.Close() })
			return node.Options{Journal: data.Journal, Store: data.Store, Keys: data.Keys}
		},
	} {
		t.Run(name, func(t *testing.T) {
			seed := Seed(t)
			w := newBadWorld(t, open(t), rand.New(rand.NewPCG(seed, 0)))
			for range steps {
				w.step()
			}
			v := w.judge()
			t.Logf("progress: %d messages, %d lost answers, %d late pages, %d snapshots, %d crashes", len(w.sent), w.lost, w.late, w.snapshots, w.crashes)
			t.Logf("progress: a chat with %d operations, %d messages among them, %d while it was large; %d memberships ended", v.revision, len(v.messages), v.whileLarge, v.ended)
			if w.crashes == 0 || w.lost == 0 || w.late == 0 || w.snapshots == 0 || v.whileLarge == 0 || v.ended == 0 {
				t.Error("too little went wrong to prove anything")
			}
		})
	}
}

// badWorld is a server in this process and users with devices on a network that
// loses, doubles and delays.
type badWorld struct {
	t       *testing.T
	rand    *rand.Rand
	stores  node.Options
	node    *node.Node
	server  *server.Server
	options server.Options
	users   []string
	devices []*badDevice
	// sent has the messages by sender and client message id; those that are true
	// were acknowledged.
	sent map[string]bool
	// chat is one of all users, said the messages to it, as in sent.
	chat string
	said map[string]bool

	lost, late, snapshots, crashes int
}

// badDevice is a device on a bad network. The first of each user never begins
// anew: it has read everything from the first revision on.
type badDevice struct {
	*replica
	user, name string
	client     *process.Client
	first      bool
	cursor     int64
	inFlight   []*tegamiv1.FetchOpsResponse // pages that have not come, or come again
	again      []call                       // whose answer did not come
	messages   []*tegamiv1.Message
	inChat     []*tegamiv1.Message // of the chat
	delivered  map[string]int
	sync       *tegamiv1.SyncRequest // of a snapshot that is under way
	lowest     int64
}

// call is a request that can be made again.
type call struct {
	procedure         string
	request, response proto.Message
	message, said     string // that it sends, to a user or to the chat
}

func newBadWorld(t *testing.T, stores node.Options, random *rand.Rand) *badWorld {
	stores.Shards, stores.ChatCopies = 4, copies
	unlimited := limit.Rate{PerSecond: -1}
	w := &badWorld{t: t, rand: random, stores: stores, sent: map[string]bool{}, said: map[string]bool{}, options: server.Options{
		SigningKey: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), AdminToken: "admin",
		Limits: server.Limits{Sends: unlimited, Polls: unlimited, Finds: unlimited},
	}}
	w.start()
	t.Cleanup(w.kill)
	admin := &process.Client{HTTP: process.HTTP1(), URL: "http://" + w.server.AdminAddr().String(), Token: "admin"}
	create := new(tegamiv1.CreateUsersRequest)
	for i := range 4 {
		w.users = append(w.users, fmt.Sprint("user", i))
		create.Users = append(create.Users, &tegamiv1.NewUser{UserId: w.users[i]})
	}
	for i := range quiet {
		create.Users = append(create.Users, &tegamiv1.NewUser{UserId: fmt.Sprint("quiet", i)})
	}
	must := func(procedure string, request, response proto.Message) {
		t.Helper()
		if err := admin.Call(t.Context(), procedure, request, response); err != nil {
			t.Fatal(err)
		}
	}
	must("AdminService/CreateUsers", create, new(tegamiv1.CreateUsersResponse))
	for _, user := range w.users {
		for i := range 3 {
			d := &badDevice{replica: newReplica(), user: user, name: fmt.Sprint("device", i), first: i == 0, delivered: map[string]int{}}
			token := new(tegamiv1.IssueTokenResponse)
			must("AdminService/IssueToken", &tegamiv1.IssueTokenRequest{UserId: user, DeviceId: d.name}, token)
			d.client = &process.Client{HTTP: process.HTTP2(), URL: "http://" + w.server.PublicAddr().String(), Token: token.AccessToken}
			w.devices = append(w.devices, d)
		}
	}
	w.newChat()
	return w
}

// start starts a server where the last one was, over the same stores.
func (w *badWorld) start() {
	w.t.Helper()
	var err error
	if w.node, err = node.Start(w.stores); err != nil {
		w.t.Fatal(err)
	}
	w.options.Listen, w.options.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	if w.server, err = server.New(w.options, w.node); err != nil {
		w.t.Fatal(err)
	}
	go func(s *server.Server) { _ = s.Serve() }(w.server) // ends with Close
	for deadline := time.Now().Add(hangLimit); !w.node.Ready(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("the server does not become ready")
		}
	}
	for _, d := range w.devices {
		d.client.URL = "http://" + w.server.PublicAddr().String()
	}
}

const hangLimit = 10 * time.Second

// kill ends the server where it is: what is not in the journal is lost.
func (w *badWorld) kill() {
	w.t.Helper()
	if err := errors.Join(w.server.Close(), w.node.Close()); err != nil {
		w.t.Error(err)
	}
}

func (w *badWorld) step() {
	d := w.devices[w.rand.IntN(len(w.devices))]
	switch roll := w.rand.IntN(1000); {
	case roll < 4:
		w.crashes++
		w.kill()
		w.start()
	case roll < 12 && !d.first && d.sync == nil:
		w.snapshots++ // it begins anew
		d.replica, d.sync, d.lowest, d.inFlight, d.messages, d.inChat = newReplica(), new(tegamiv1.SyncRequest), 1<<62, nil, nil, nil
	case d.sync != nil:
		w.syncOn(d, 3+w.rand.Int32N(10))
	case roll < 350:
		w.fetch(d, 1+w.rand.Int32N(20))
	case roll < 650:
		w.arrive(d)
	default:
		w.act(d)
	}
}

// call makes a call whose answer may be lost, and reports whether there is one.
func (w *badWorld) call(d *badDevice, c call) (answered bool) {
	ctx, cancel := context.WithTimeout(w.t.Context(), hangLimit)
	defer cancel()
	err := d.client.Call(ctx, c.procedure, c.request, c.response)
	if _, refused := errors.AsType[*process.Error](err); err != nil && !refused {
		w.t.Fatalf("%s by %s: %v", c.procedure, d.user, err)
	}
	if outcome(err) == unknown || outcome(err) == notTaken || w.rand.IntN(5) == 0 {
		w.lost++
		return false
	}
	if err == nil && c.message != "" {
		w.sent[c.message] = true
	}
	if err == nil && c.said != "" {
		w.said[c.said] = true
	}
	return err == nil
}

// fetch asks for a page, which may come at once, later, twice, or never.
func (w *badWorld) fetch(d *badDevice, limit int32) {
	page := new(tegamiv1.FetchOpsResponse)
	if w.call(d, call{procedure: "TalkService/FetchOps", request: &tegamiv1.FetchOpsRequest{AfterRevision: d.cursor, Limit: limit}, response: page}) {
		d.inFlight = append(d.inFlight, page)
	}
}

// arrive hands a device one of the pages on their way.
func (w *badWorld) arrive(d *badDevice) {
	if len(d.inFlight) == 0 {
		return
	}
	i := w.rand.IntN(len(d.inFlight))
	d.take(d.inFlight[i])
	if i > 0 {
		w.late++
	}
	if w.rand.IntN(3) > 0 {
		d.inFlight = slices.Delete(d.inFlight, i, i+1)
	}
}

// take handles what follows the cursor, and passes over what came before.
func (d *badDevice) take(page *tegamiv1.FetchOpsResponse) {
	for _, op := range page.Ops {
		if op.Revision != d.cursor+1 {
			continue
		}
		d.cursor = op.Revision
		d.apply(op)
		message := op.GetReceiveMessage()
		if op.ChatId != "" {
			if message = cmp.Or(message, op.GetSendMessage()); message != nil {
				d.inChat = append(d.inChat, message)
			}
			continue
		}
		if message != nil {
			d.delivered[message.From+" "+message.ClientMessageId]++
		} else if message = op.GetSendMessage(); message == nil {
			continue
		}
		d.messages = append(d.messages, message)
	}
}

// syncOn reads the next page of a snapshot; after the last, operations go on from
// the lowest revision of all pages.
func (w *badWorld) syncOn(d *badDevice, limit int32) {
	d.sync.Limit = limit
	page := new(tegamiv1.SyncResponse)
	if !w.call(d, call{procedure: "TalkService/Sync", request: d.sync, response: page}) {
		return
	}
	for _, item := range page.Items {
		d.replica.take(item)
	}
	d.lowest = min(d.lowest, page.Revision)
	if d.sync.PageToken = page.NextPageToken; page.NextPageToken == "" {
		d.cursor, d.sync = d.lowest, nil
	}
}

// act does something new, or again what there was no answer to.
func (w *badWorld) act(d *badDevice) {
	if len(d.again) > 0 && w.rand.IntN(2) == 0 {
		if i := w.rand.IntN(len(d.again)); w.call(d, d.again[i]) && w.rand.IntN(2) == 0 { // else once more
			d.again = slices.Delete(d.again, i, i+1)
		}
		return
	}
	if c := w.choose(d); c.procedure != "" && !w.call(d, c) && len(d.again) < 8 {
		d.again = append(d.again, c)
	}
}

func (w *badWorld) choose(d *badDevice) call {
	peer := w.users[w.rand.IntN(len(w.users))]
	mark := fmt.Sprintf("%s.%d.%d", d.name, len(w.sent), len(w.said))
	yes := w.rand.IntN(2) == 0
	if w.rand.IntN(3) == 0 {
		return w.chooseInChat(d, mark, yes)
	}
	other := fmt.Sprint("quiet", w.rand.IntN(quiet))
	if peer != d.user && w.rand.IntN(2) == 0 {
		other = peer
	}
	switch w.rand.IntN(13) {
	case 0:
		return call{procedure: "ContactService/RequestFriend", request: &tegamiv1.RequestFriendRequest{UserId: other}, response: new(tegamiv1.RequestFriendResponse)}
	case 1:
		return call{procedure: "ContactService/AcceptFriend", request: &tegamiv1.AcceptFriendRequest{UserId: other}, response: new(tegamiv1.AcceptFriendResponse)}
	case 2:
		if yes {
			return call{procedure: "ContactService/RemoveFriend", request: &tegamiv1.RemoveFriendRequest{UserId: other}, response: new(tegamiv1.RemoveFriendResponse)}
		}
		return call{procedure: "ContactService/SetAlias", request: &tegamiv1.SetAliasRequest{UserId: other, Alias: mark}, response: new(tegamiv1.SetAliasResponse)}
	case 3:
		if yes {
			return call{procedure: "ContactService/Block", request: &tegamiv1.BlockRequest{UserId: "quiet0"}, response: new(tegamiv1.BlockResponse)}
		}
		return call{procedure: "ContactService/Unblock", request: &tegamiv1.UnblockRequest{UserId: "quiet0"}, response: new(tegamiv1.UnblockResponse)}
	case 4:
		settings := &tegamiv1.Settings{ReadReceipts: &yes, SeesStatusMessage: tegamiv1.Audience(1 + w.rand.IntN(2)).Enum()}
		return call{procedure: "SettingsService/UpdateSettings", request: &tegamiv1.UpdateSettingsRequest{Settings: settings}, response: new(tegamiv1.UpdateSettingsResponse)}
	case 5:
		return call{
			procedure: "SettingsService/UpdateDeviceSettings", response: new(tegamiv1.UpdateDeviceSettingsResponse),
			request: &tegamiv1.UpdateDeviceSettingsRequest{Settings: &tegamiv1.DeviceSettings{Previews: &yes}},
		}
	case 6:
		return call{procedure: "ProfileService/UpdateProfile", request: &tegamiv1.UpdateProfileRequest{Profile: &tegamiv1.Profile{StatusMessage: &mark}}, response: new(tegamiv1.UpdateProfileResponse)}
	case 7, 8, 9:
		w.sent[d.user+" "+mark] = false
		return call{
			procedure: "TalkService/SendMessage", response: new(tegamiv1.SendMessageResponse), message: d.user + " " + mark,
			request: &tegamiv1.SendMessageRequest{To: peer, ClientMessageId: mark, Body: &tegamiv1.SendMessageRequest_Text{Text: mark}},
		}
	default:
		return w.chooseOf(d, mark, yes)
	}
}

// chooseOf does something with a message that the device has.
func (w *badWorld) chooseOf(d *badDevice, mark string, yes bool) call {
	if len(d.messages) == 0 {
		return call{}
	}
	m := d.messages[max(0, len(d.messages)-1-w.rand.IntN(8))]
	peer := m.From
	if peer == d.user {
		peer = m.To
	}
	switch roll := w.rand.IntN(8); {
	case roll < 3:
		return call{procedure: "TalkService/MarkRead", request: &tegamiv1.MarkReadRequest{Peer: peer, Revision: m.Revision}, response: new(tegamiv1.MarkReadResponse)}
	case roll == 3:
		return call{procedure: "TalkService/UpdateConversation", request: &tegamiv1.UpdateConversationRequest{Peer: peer, Pinned: &yes, Muted: &yes}, response: new(tegamiv1.UpdateConversationResponse)}
	case roll == 4:
		to := w.users[w.rand.IntN(len(w.users))]
		w.sent[d.user+" f"+mark] = false
		return call{
			procedure: "TalkService/ForwardMessage", response: new(tegamiv1.ForwardMessageResponse), message: d.user + " f" + mark,
			request: &tegamiv1.ForwardMessageRequest{Peer: peer, Revision: m.Revision, To: to, ClientMessageId: "f" + mark},
		}
	case roll == 5 && m.From == d.user:
		return call{procedure: "TalkService/EditMessage", request: &tegamiv1.EditMessageRequest{Peer: peer, Revision: m.Revision, Text: mark}, response: new(tegamiv1.EditMessageResponse)}
	case roll == 6 && m.From == d.user:
		return call{procedure: "TalkService/UnsendMessage", request: &tegamiv1.UnsendMessageRequest{Peer: peer, Revision: m.Revision}, response: new(tegamiv1.UnsendMessageResponse)}
	default:
		return call{procedure: "TalkService/ReactToMessage", request: &tegamiv1.ReactToMessageRequest{Peer: peer, Revision: m.Revision, Reaction: mark}, response: new(tegamiv1.ReactToMessageResponse)}
	}
}

// judge has every device read to the end and compares. It returns what the chat
// came to.
func (w *badWorld) judge() *verdict {
	w.t.Helper()
	var v *verdict
	var wrong []string
	for deadline := time.Now().Add(hangLimit); ; {
		if v, wrong = w.wrong(); len(wrong) == 0 {
			return v
		}
		if time.Now().After(deadline) {
			break
		}
	}
	for _, finding := range wrong[:min(len(wrong), maxFindings)] {
		w.t.Error(finding)
	}
	w.t.Errorf("%d things are wrong", len(wrong))
	return v
}

func (w *badWorld) wrong() (v *verdict, wrong []string) {
	firsts := map[string]*replica{}
	var snapshots [][]*tegamiv1.SyncResponse_Item
	received := map[string]int{}
	for _, d := range w.devices {
		for d.sync != nil {
			w.syncOn(d, 1000)
		}
		for before := int64(-1); before != d.cursor; {
			before = d.cursor
			for d.inFlight = nil; len(d.inFlight) == 0; {
				w.fetch(d, 1000)
			}
			d.take(d.inFlight[0])
		}
		reader := &device{user: d.user, name: d.name, client: d.client, rand: w.rand}
		snapshot, err := reader.sync(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		snapshots = append(snapshots, snapshot)
		if !d.first {
			continue
		}
		firsts[d.user] = d.replica
		for message, times := range d.delivered {
			received[message] += times
		}
	}
	v = w.judgeChat()
	wrong = append(wrong, v.wrong...)
	for i, d := range w.devices {
		if difference := d.differs(snapshots[i], d.user, d.name, map[string]*verdict{w.chat: v}); difference != "" {
			wrong = append(wrong, d.user+"/"+d.name+": "+difference)
		}
	}
	for _, user := range w.users {
		wrong = append(wrong, asymmetries(user, firsts)...)
	}
	for message, acked := range w.sent {
		if n := received[message]; n > 1 || acked && n != 1 {
			wrong = append(wrong, fmt.Sprintf("%s, acknowledged %v, was received %d times", message, acked, n))
		}
	}
	return v, wrong
}
