package mailbox

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// world is the mailboxes of several users, each in a journal of its own, and
// the follow-ups on their way between them: those of one mailbox for another
// come in order, others in any.
type world struct {
	t         testing.TB
	mailboxes map[string]*place
	onTheWay  map[way][]*record.Record
	time      int64
	minted    int
	// heard has the operations that were made since it was emptied, by mailbox.
	heard map[string][]*record.Operation
}

type way struct{ from, to string }

// place is a mailbox with what is stored of it.
type place struct {
	*State
	offset int64
	stored history
	log    []Input
}

func newWorld(t testing.TB, users ...string) *world {
	w := &world{
		t: t, mailboxes: map[string]*place{}, onTheWay: map[way][]*record.Record{}, time: start,
		heard: map[string][]*record.Operation{},
	}
	for _, user := range users {
		w.mailboxes[user] = &place{State: New(user)}
		w.do(user, createAccount(user))
	}
	return w
}

// do appends a command to a mailbox's journal and applies it.
func (w *world) do(mailbox string, r *record.Record) Outcome {
	w.t.Helper()
	w.minted++
	id := hash(16, "world", w.minted)
	r.Id, r.Mailbox, r.MintTime, r.ApplyVersion = id, mailbox, w.time, ApplyVersion
	r.DedupKey, r.BodyHash = id[:persistence.DedupKeySize], id[persistence.DedupKeySize:]
	return w.apply(r)
}

func (w *world) apply(r *record.Record) Outcome {
	w.t.Helper()
	p := w.mailboxes[r.Mailbox]
	p.offset++
	in := Input{Position: at(p.offset), Time: w.time, Record: r}
	out := p.Apply(in)
	if out.Fault != "" {
		w.t.Fatalf("%s: %T: %s", r.Mailbox, r.Kind, out.Fault)
	}
	if k := kindOf(r); k.command && len(out.FollowUps) > 0 && !k.follows && r.GetSend() == nil {
		w.t.Fatalf("%T has follow-ups, and a repeat of it would not wait for them", r.Kind)
	}
	p.log = append(p.log, in)
	p.stored.keep(out)
	w.heard[r.Mailbox] = append(w.heard[r.Mailbox], out.Operations...)
	targets := map[string]bool{}
	for _, f := range out.FollowUps {
		if targets[f.Mailbox] || f.Mailbox == r.Mailbox {
			w.t.Fatalf("%s: %T: follow-ups %v", r.Mailbox, r.Kind, out.FollowUps)
		}
		targets[f.Mailbox] = true
		way := way{r.Mailbox, f.Mailbox}
		w.onTheWay[way] = append(w.onTheWay[way], f.Record)
	}
	return out
}

// ways returns those on which there is something, in order.
func (w *world) ways() []way {
	return slices.SortedFunc(maps.Keys(w.onTheWay), func(a, b way) int {
		return cmp.Or(strings.Compare(a.from, b.from), strings.Compare(a.to, b.to))
	})
}

// deliver applies the next follow-up on a way.
func (w *world) deliver(way way) {
	w.t.Helper()
	queue := w.onTheWay[way]
	if w.onTheWay[way] = queue[1:]; len(queue) == 1 {
		delete(w.onTheWay, way)
	}
	w.apply(queue[0])
}

// settle delivers all that is on its way.
func (w *world) settle() {
	w.t.Helper()
	for ways := w.ways(); len(ways) > 0; ways = w.ways() {
		for _, way := range ways {
			w.deliver(way)
		}
	}
}

// reload stores and loads every mailbox, and compares it with what it was.
func (w *world) reload() {
	w.t.Helper()
	for user, p := range w.mailboxes {
		before := p.State
		p.State = p.stored.load(w.t, user, MaxDedupInMemory)
		if !bytes.Equal(p.encode(), before.encode()) || p.describe() != before.describe() {
			w.t.Fatalf("%s after loading:\n%s\nwant:\n%s", user, p.describe(), before.describe())
		}
	}
}

// describe puts what a mailbox knows into words.
func (s *State) describe() string {
	var lines []string
	for user, c := range s.parts.contacts {
		lines = append(lines, fmt.Sprintf("%s: %s @%d", user, contactInWords(c), c.Revision))
	}
	for hash, i := range s.parts.invitations {
		lines = append(lines, fmt.Sprintf("invitation %x until +%v", hash, sinceStart(i.ExpireTime)))
	}
	for peer, c := range s.parts.conversations {
		lines = append(lines, fmt.Sprintf("with %s: %s", short(peer), conversationInWords(c)))
	}
	if s.parts.settings != nil {
		lines = append(lines, "settings "+fieldsInWords(s.parts.settings))
	}
	for device, settings := range s.parts.devices {
		lines = append(lines, "settings of "+device+" "+fieldsInWords(settings))
	}
	if s.parts.profile != nil {
		lines = append(lines, "profile "+fieldsInWords(s.parts.profile))
	}
	lines = append(lines, s.describeChats()...)
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func sinceStart(millis int64) time.Duration { return time.Duration(millis-start) * time.Millisecond }

func conversationInWords(c *record.Conversation) string {
	words := fmt.Sprintf("%d unread, last %d, read to %d", c.Received-c.Read, c.LastRevision, c.ReadRevision)
	if c.Pinned {
		words += ", pinned"
	}
	if c.Muted {
		words += ", muted"
	}
	if len(c.PeerReadId) > 0 {
		words += fmt.Sprintf(", peer read %x", c.PeerReadId[:2])
	}
	return words
}

func contactInWords(c *record.Contact) string {
	words := []string{strings.ToLower(strings.TrimPrefix(c.GetRelation().String(), "RELATION_"))}
	if c.GetBlocked() {
		words = append(words, "blocked")
	}
	if c.GetFavorite() {
		words = append(words, "favorite")
	}
	if c.GetAlias() != "" {
		words = append(words, "alias "+c.GetAlias())
	}
	if c.GetProfile() != nil {
		words = append(words, "shows "+fieldsInWords(c.Profile))
	}
	return strings.Join(words, ", ")
}

// fieldsInWords puts the fields of a message that are set into words.
func fieldsInWords(m proto.Message) string {
	var words []string
	m.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Enum() != nil {
			value = protoreflect.ValueOfString(string(field.Enum().Values().ByNumber(value.Enum()).Name()))
		}
		if field.Message() != nil {
			value = protoreflect.ValueOfString(fieldsInWords(value.Message().Interface()))
		}
		words = append(words, fmt.Sprintf("%s %v", field.Name(), value))
		return true
	})
	slices.Sort(words)
	return "(" + strings.Join(words, "; ") + ")"
}

// The commands of the services, as the node makes them.

func befriend(actor, device, peer string, action record.Befriend_Action) *record.Record {
	return &record.Record{Kind: &record.Record_Befriend{Befriend: &record.Befriend{
		Actor: actor, ActorDevice: device, Peer: peer, Action: action,
	}}}
}

func editContact(user, device string, set func(*record.EditContact)) *record.Record {
	c := &record.EditContact{UserId: user, Device: device}
	set(c)
	return &record.Record{Kind: &record.Record_EditContact{EditContact: c}}
}

func block(blocked bool) func(*record.EditContact) {
	return func(c *record.EditContact) { c.Change = &record.EditContact_Blocked{Blocked: blocked} }
}

func favor(favorite bool) func(*record.EditContact) {
	return func(c *record.EditContact) { c.Change = &record.EditContact_Favorite{Favorite: favorite} }
}

func rename(alias string) func(*record.EditContact) {
	return func(c *record.EditContact) { c.Change = &record.EditContact_Alias{Alias: alias} }
}

func createInvitation(code string) *record.Record {
	return &record.Record{Kind: &record.Record_CreateInvitation{CreateInvitation: &record.CreateInvitation{Hash: token(code)}}}
}

func redeemInvitation(code, user, device string) *record.Record {
	return &record.Record{Kind: &record.Record_RedeemInvitation{RedeemInvitation: &record.RedeemInvitation{
		Hash: token(code), UserId: user, Device: device,
	}}}
}

// request has a user's device do what a line of a script says, and returns the
// mailbox that decides it and the record.
func (w *world) request(user, device, verb string, args []string) (mailbox string, r *record.Record) {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	peer := arg(0)
	if id, r := w.chatRequest(user, device, verb, args); r != nil {
		return id, r
	}
	actions := map[string]record.Befriend_Action{
		"request": record.Befriend_REQUEST, "accept": record.Befriend_ACCEPT,
		"decline": record.Befriend_DECLINE, "remove": record.Befriend_REMOVE,
	}
	if action, ok := actions[verb]; ok {
		return Home(user, peer), befriend(user, device, peer, action)
	}
	switch verb {
	case "block", "unblock":
		return user, editContact(peer, device, block(verb == "block"))
	case "favor", "unfavor":
		return user, editContact(peer, device, favor(verb == "favor"))
	case "rename":
		return user, editContact(peer, device, rename(arg(1)))
	case "invite":
		return user, createInvitation(arg(0))
	case "redeem":
		return peer, redeemInvitation(arg(1), user, device)
	case "read":
		r, _ := w.markRead(user, device, peer, arg(1))
		return user, r
	case "unsend", "edit", "react":
		id, _ := strconv.ParseUint(arg(1), 16, 16)
		amendment := &record.Amendment{MessageId: make([]byte, persistence.MessageIDSize), By: user}
		binary.BigEndian.PutUint16(amendment.MessageId, uint16(id))
		c := &record.Amend{From: user, FromDevice: device, MessageTime: start, Amendment: amendment}
		switch verb {
		case "unsend":
			amendment.Change = &record.Amendment_Unsent{Unsent: true}
		case "edit":
			amendment.Change = &record.Amendment_SealedBody{SealedBody: []byte(arg(2) + " to them")}
			c.SealedCopy = []byte(arg(2) + " to me")
		default:
			amendment.Change = &record.Amendment_Reaction{Reaction: arg(2)}
		}
		return peer, &record.Record{Kind: &record.Record_Amend{Amend: c}}
	case "pin", "unpin":
		return user, editConversation(peer, device, &record.EditConversation_Pinned{Pinned: verb == "pin"}, nil)
	case "mute", "unmute":
		return user, editConversation(peer, device, nil, &record.EditConversation_Muted{Muted: verb == "mute"})
	case "sign-in":
		return user, signIn(device, fmt.Sprint("token", w.minted))
	case "sign-out":
		return user, signOut(arg(0), 0)
	case "set":
		settings := new(record.Settings)
		return user, &record.Record{Kind: &record.Record_UpdateSettings{UpdateSettings: &record.UpdateSettings{
			OriginDevice: device, Scope: &record.UpdateSettings_Settings{Settings: settings}, Fields: w.fields(settings, args),
		}}}
	case "set-device":
		settings := new(record.DeviceSettings)
		return user, &record.Record{Kind: &record.Record_UpdateSettings{UpdateSettings: &record.UpdateSettings{
			OriginDevice: device, DeviceId: device, Scope: &record.UpdateSettings_DeviceSettings{DeviceSettings: settings},
			Fields: w.fields(settings, args),
		}}}
	case "show":
		profile := new(record.Profile)
		return user, &record.Record{Kind: &record.Record_UpdateProfile{UpdateProfile: &record.UpdateProfile{
			OriginDevice: device, Profile: profile, Fields: w.fields(profile, args),
		}}}
	case "send":
		r := send(user, fmt.Sprint("m", w.minted), 1)
		m := r.GetSend()
		m.MessageId[0], m.MessageId[1] = byte(w.minted>>8), byte(w.minted)
		m.FromDevice, m.SealedBody, m.SealedCopy = device, []byte(strings.Join(args[1:], " ")), []byte(strings.Join(args[1:], " "))
		return peer, r
	}
	w.t.Fatalf("no such request: %s", verb)
	return "", nil
}

func editConversation(peer, device string, pinned *record.EditConversation_Pinned, muted *record.EditConversation_Muted) *record.Record {
	c := &record.EditConversation{Peer: peer, Device: device}
	if c.Change = muted; pinned != nil {
		c.Change = pinned
	}
	return &record.Record{Kind: &record.Record_EditConversation{EditConversation: c}}
}

// markRead makes the record that marks a conversation read up to a revision, as
// the node does; ok is false when there is no message up to there.
func (w *world) markRead(user, device, peer, revision string) (r *record.Record, ok bool) {
	upTo, _ := strconv.ParseInt(revision, 10, 64)
	c := &record.MarkRead{Peer: peer, Device: device}
	for _, write := range slices.Backward(w.mailboxes[user].stored) {
		for _, row := range write.Rows {
			op := new(record.Operation)
			if err := proto.Unmarshal(row.Data, op); err != nil {
				w.t.Fatal(err)
			}
			if row.Peer != peer || row.Revision > upTo {
				continue
			}
			m := op.GetReceiveMessage()
			if c.Revision == 0 {
				c.Revision, c.Received = op.Revision, max(m.GetReceived(), op.GetSendMessage().GetReceived())
			}
			if m != nil && c.MessageId == nil {
				c.MessageId, c.MessageTime = m.MessageId, m.Time
			}
		}
	}
	return &record.Record{Kind: &record.Record_MarkRead{MarkRead: c}}, c.Revision > 0
}

// fields sets fields of a message, name=value or name= for none, and returns
// their names.
func (w *world) fields(m proto.Message, args []string) (names []string) {
	var texts []string
	for _, arg := range args {
		name, value, _ := strings.Cut(arg, "=")
		names = append(names, name)
		if value != "" {
			texts = append(texts, name+": "+value)
		}
	}
	if err := prototext.Unmarshal([]byte(strings.Join(texts, "\n")), m); err != nil {
		w.t.Fatal(err)
	}
	return names
}

// run runs a line of a script and returns what it prints.
//
//	alice.phone send bob hello    a request
//	hold, deliver alice bob       follow-ups wait, and one comes
//	wait 25h                      time passes
//	know alice                    what a mailbox knows
func (w *world) run(line string, hold *bool) string {
	fields := strings.Fields(line)
	switch fields[0] {
	case "hold":
		*hold = true
		return ""
	case "deliver":
		*hold = false
		if len(fields) == 3 {
			*hold = true
			w.deliver(way{fields[1], fields[2]})
		} else {
			w.settle()
		}
		return w.printHeard()
	case "wait":
		d, err := time.ParseDuration(fields[1])
		if err != nil {
			w.t.Fatal(err)
		}
		w.time += d.Milliseconds()
		return ""
	case "know":
		name := fields[1]
		if w.mailboxes[name] == nil {
			name = chatNamed(name)
		}
		return fields[1] + " knows\n" + w.mailboxes[name].describe() + "\n"
	}
	user, device, _ := strings.Cut(fields[0], ".")
	mailbox, r := w.request(user, device, fields[1], fields[2:])
	out := w.do(mailbox, r)
	if !*hold {
		w.settle()
	}
	w.reload()
	answer := "ok"
	if out.Answer.Reason != refusal.None {
		answer = "refused: " + out.Answer.Reason.String()
	}
	return answer + "\n" + w.printHeard()
}

// printHeard puts the operations that each mailbox got since the last time into
// words: every device of the user receives them.
func (w *world) printHeard() string {
	var printed strings.Builder
	for _, user := range slices.Sorted(maps.Keys(w.heard)) {
		for _, op := range w.heard[user] {
			fmt.Fprintf(&printed, "  %s %d: %s%s\n", short(user), op.Revision, operationInWords(op), optional(", by ", op.OriginDevice))
		}
		delete(w.heard, user)
	}
	return printed.String()
}

func operationInWords(op *record.Operation) string {
	if op.GetChat() != "" {
		return chatOperationInWords(op)
	}
	switch kind := op.Kind.(type) {
	case *record.Operation_ReceiveMessage:
		return fmt.Sprintf("from %s: %s", kind.ReceiveMessage.From, kind.ReceiveMessage.SealedBody)
	case *record.Operation_SendMessage:
		return fmt.Sprintf("to %s: %s", kind.SendMessage.To, kind.SendMessage.SealedBody)
	case *record.Operation_ContactUpdated:
		return fmt.Sprintf("contact %s: %s", kind.ContactUpdated.UserId, contactInWords(kind.ContactUpdated.Contact))
	case *record.Operation_ConversationUpdated:
		return fmt.Sprintf("with %s: %s", short(kind.ConversationUpdated.Peer), conversationInWords(kind.ConversationUpdated.Conversation))
	case *record.Operation_MessageAmended:
		a := kind.MessageAmended
		return fmt.Sprintf("with %s: %s", a.Peer, amendmentInWords(a))
	case *record.Operation_MessageRead:
		return fmt.Sprintf("%s has read to %x", kind.MessageRead.Peer, kind.MessageRead.MessageId[:2])
	case *record.Operation_SettingsUpdated:
		if s := kind.SettingsUpdated.GetDeviceSettings(); s != nil {
			return "settings of " + kind.SettingsUpdated.DeviceId + " " + fieldsInWords(s)
		}
		return "settings " + fieldsInWords(kind.SettingsUpdated.GetSettings())
	case *record.Operation_ProfileUpdated:
		return "profile " + fieldsInWords(kind.ProfileUpdated)
	}
	return fmt.Sprintf("%T", op.Kind)
}
