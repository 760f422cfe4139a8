package correction_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/correction"
	"github.com/tegami-im/tegami/persistence/sealing"
)

// behave has a behaviour take a step in which it writes to users and chats.
func (w *world) behave(bot string, sends ...*record.StepSend) {
	w.t.Helper()
	id := uuid.New()
	step := &record.Step{SealedMemory: sealing.Seal(w.key(bot), bot, id[:], []byte("memory")), Sends: sends}
	if before, _ := w.states[bot].Behaviour(); before != nil {
		step.After = before.Step
	}
	w.do(&record.Record{Id: id[:], Mailbox: bot, ApplyVersion: mailbox.ApplyVersion, Kind: &record.Record_Step{Step: step}})
}

// says is a message of a behaviour.
func (w *world) says(to, text string) *record.StepMessage {
	w.t.Helper()
	id := uuid.New()
	return &record.StepMessage{MessageId: id[:], SealedBody: sealing.Seal(w.key(to), to, id[:], []byte("t"+text)), Hops: 1}
}

// answers has a behaviour write to a user.
func (w *world) answers(bot, to string) {
	w.t.Helper()
	w.behave(bot, &record.StepSend{To: to, Message: w.says(to, "hello")})
}

// What behaviours write to users and to chats comes by follow-ups: nobody has a
// dedup entry of it, and it is in the journal like what users write.
func TestMessagesOfBehavioursAreAsTheyShouldBe(t *testing.T) {
	w := newWorld(t)
	w.register("alice", "bob", "bot")
	chat := mailbox.ChatPrefix + strings.Repeat("0", 32)
	w.key(chat)
	w.command(chat, func(r *record.Record) {
		r.Kind = &record.Record_CreateChat{CreateChat: &record.CreateChat{Creator: "alice", Name: "lunch", Invite: []string{"bot"}}}
	})
	w.behave("bot", &record.StepSend{To: chat, Chat: &record.ChatStep{Act: &record.ChatStep_Join{Join: true}}})
	for range 3 {
		w.send("alice", "bot")
		w.answers("bot", "alice")
		w.send("bob", "alice")
		w.behave("bot", &record.StepSend{To: chat, Chat: &record.ChatStep{Act: &record.ChatStep_Message{Message: w.says(chat, "hello all")}}})
	}
	w.check(w.store.Sync(t.Context()))
	if report := w.look(); correction.Total(report.Found) != 0 || report.Operations < 4*3 {
		t.Errorf("%+v", report)
	}
}

// A row with a behaviour's message that was lost is made again from the journal, and
// so is one of what it was told, though it took steps in between.
func TestMessagesOfBehavioursAreMadeAgain(t *testing.T) {
	for _, c := range []struct {
		user  string
		whole bool // the journal has all that there was
	}{{"alice", true}, {"alice", false}, {"bot", true}, {"bot", false}} {
		t.Run(fmt.Sprint(c.user, ", whole journal: ", c.whole), func(t *testing.T) {
			w := newWorld(t)
			w.register("alice", "bob", "bot")
			w.talk(1, "alice", "bot")
			if !c.whole {
				w.letGo()
			}
			for range 3 {
				w.send("bob", "alice")
				w.send("alice", "bot")
				w.answers("bot", "alice")
			}
			w.check(w.store.Sync(t.Context()))
			lost := w.row(c.user, w.states[c.user].Head()-1)
			w.harm(c.user, func(r *persistence.Repair) { r.Remove = []int64{lost.Revision} })
			w.look(repairing)
			if report := w.look(); correction.Total(report.Found) != 0 {
				t.Fatalf("%+v", report)
			}
			if again := w.row(c.user, lost.Revision); string(again.Data) != string(lost.Data) {
				t.Errorf("made again as %q, it was %q", again.Data, lost.Data)
			}
		})
	}
}
