package mailbox

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

func joins() *record.ChatStep { return &record.ChatStep{Act: &record.ChatStep_Join{Join: true}} }

func leaves() *record.ChatStep { return &record.ChatStep{Act: &record.ChatStep_Leave{Leave: true}} }

func writes(body string, hops int32) *record.ChatStep {
	return &record.ChatStep{Act: &record.ChatStep_Message{Message: &record.StepMessage{
		MessageId: hash(16, "in chat", body), SealedBody: []byte(body), Hops: hops,
	}}}
}

// behave has a behaviour take a step in which it does something in a chat.
func (w *world) behave(bot, chat string, act *record.ChatStep) Outcome {
	w.t.Helper()
	w.minted++
	step := &record.Step{Sends: []*record.StepSend{{To: chat, Chat: act}}}
	if before, _ := w.mailboxes[bot].Behaviour(); before != nil {
		step.After = before.Step
	}
	return w.apply(&record.Record{
		Id: hash(16, "world", w.minted), Mailbox: bot, ApplyVersion: ApplyVersion, Kind: &record.Record_Step{Step: step},
	})
}

// inChat returns what the behaviours' messages say that a chat has.
func (w *world) inChat(chat string) (texts []string) {
	for _, op := range w.operations(chat) {
		if m := op.GetReceiveMessage(); m.GetHops() > 0 {
			texts = append(texts, m.GetFrom()+": "+string(m.GetSealedBody()))
		}
	}
	return texts
}

// A behaviour is in a chat as a user is: it accepts an invitation, writes, once
// for each step, and leaves; and does nothing where it is not.
func TestABehaviourInAChat(t *testing.T) {
	w := newWorld(t, "alice", "bob", "bot")
	chat, other := chatNamed("lunch"), chatNamed("other")
	for _, c := range []struct {
		name    string
		invited []string
	}{{chat, []string{"bob", "bot"}}, {other, []string{"bob"}}} {
		w.mailboxes[c.name] = &place{State: New(c.name)}
		w.do(c.name, &record.Record{Kind: &record.Record_CreateChat{CreateChat: &record.CreateChat{Creator: "alice", Invite: c.invited}}})
	}
	w.do(chat, changeChat("bob", "d", &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}}))
	w.settle()

	w.behave("bot", chat, writes("too early", 1))
	w.behave("bot", other, joins())
	w.behave("bot", other, writes("as a stranger", 1))
	w.settle()
	if got := slices.Concat(w.inChat(chat), w.inChat(other)); len(got) != 0 {
		t.Errorf("who is no member wrote %q", got)
	}

	w.behave("bot", chat, joins())
	out := w.behave("bot", chat, writes("hello", 3))
	w.settle()
	for way := range w.onTheWay {
		t.Errorf("left on the way: %v", way)
	}
	if got := w.inChat(chat); !slices.Equal(got, []string{"bot: hello"}) {
		t.Errorf("the chat has %q", got)
	}
	copied := w.operations("bob")
	if m := copied[len(copied)-1].GetReceiveMessage(); m.GetFrom() != "bot" || m.GetHops() != 3 || m.GetTo() != chat || copied[len(copied)-1].Chat != chat {
		t.Errorf("bob has %v", m)
	}
	again := proto.CloneOf(out.FollowUps[0].Record)
	if out := w.apply(again); len(out.Operations)+len(out.FollowUps) != 0 {
		t.Error("a copy of the follow-up was taken again")
	}

	long := strings.Repeat("x", MaxCopiedBody+1)
	w.behave("bot", chat, writes(long, 2))
	w.settle()
	copied = w.operations("bob")
	if m := copied[len(copied)-1].GetReceiveMessage(); m.GetHops() != 2 || len(m.GetSealedBody()) != 0 {
		t.Errorf("bob has %d bytes with %d hops", len(m.GetSealedBody()), m.GetHops())
	}

	w.behave("bot", chat, leaves())
	w.behave("bot", chat, writes("afterwards", 1))
	w.settle()
	if got := w.inChat(chat); len(got) != 2 || w.mailboxes["bot"].parts.chats[chat] != nil {
		t.Errorf("who left: %d messages", len(got))
	}
	w.reload()
}

// A server's mistakes are refused, and a step into a chat is none before its
// version.
func TestMalformedStepsIntoChats(t *testing.T) {
	chat := chatNamed("lunch")
	for what, send := range map[string]*record.StepSend{
		"to a user":            {To: "alice", Chat: joins()},
		"nothing":              {To: chat, Chat: new(record.ChatStep)},
		"a message of no hops": {To: chat, Chat: writes("hello", 0)},
		"two at once":          {To: chat, Chat: joins(), Message: stepSend(chat, 1).Message},
	} {
		b := newAccount(t)
		if out := b.apply(step("a", "", &record.Step{Sends: []*record.StepSend{send}})); out.Answer.Reason != refusal.Internal {
			t.Errorf("%s: outcome %+v", what, out)
		}
	}
	into := step("a", "", &record.Step{Sends: []*record.StepSend{{To: chat, Chat: joins()}}})
	if got := Since(into); got != chatStepVersion {
		t.Errorf("a step into a chat is there since version %d", got)
	}
	if got := Since(step("a", "", new(record.Step))); got != behaviourVersion {
		t.Errorf("a step is there since version %d", got)
	}
}

// A timer that comes and is set again is one part that changed: of two, a store
// need not know which is the newer.
func TestATimerIsWrittenOnce(t *testing.T) {
	b := newAccount(t)
	out := b.accept(step("a", "", &record.Step{Timers: []*record.Timer{timer("x", 0), timer("x", start+5), timer("y", start+5), timer("y", 0)}}))
	if len(out.Write.Parts) != 3 { // with that of the behaviour
		t.Errorf("%d parts are written", len(out.Write.Parts))
	}
	if _, timers := b.Behaviour(); len(timers) != 1 || timers[0].Name != "x" || timers[0].DueTime != start+5 {
		t.Errorf("timers %v", timers)
	}
}
