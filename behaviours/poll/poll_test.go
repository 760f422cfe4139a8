package poll_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/behaviour/behaviourtest"
	"github.com/tegami-im/tegami/behaviours/poll"
)

// gather has alice and bob be in a chat with the bot.
func gather(w *behaviourtest.World) {
	w.Chat("lunch", "alice", "bob")
	w.Forget()
}

func TestPoll(t *testing.T) {
	behaviourtest.Crashes(t, poll.Kind(), func(w *behaviourtest.World) {
		gather(w)
		w.SayIn("lunch", "alice", "Poll: Lunch? | Soba | Curry")
		w.Expect("lunch: Lunch?\n1: Soba\n2: Curry")
		w.SayIn("lunch", "bob", "1")
		w.SayIn("lunch", "bob", "2") // thinks again
		w.SayIn("lunch", "alice", "2")
		w.SayIn("lunch", "alice", "I am hungry")
		w.SayIn("lunch", "bob", "poll?")
		w.Expect("lunch: Lunch?\nSoba: 0\nCurry: 2")
		w.SayIn("lunch", "bob", "poll: end")
		w.SayIn("lunch", "alice", "poll: end")
		w.Expect("lunch: That is up to alice.", "lunch: The poll has ended. Lunch?\nSoba: 0\nCurry: 2")
		w.Wait(48 * time.Hour)
	})
}

func TestPollEndsByItself(t *testing.T) {
	behaviourtest.Crashes(t, poll.Kind(), func(w *behaviourtest.World) {
		gather(w)
		w.SayIn("lunch", "alice", "poll: Lunch? | Soba | Curry")
		w.SayIn("lunch", "bob", "1")
		w.Forget()
		w.Wait(25 * time.Hour)
		w.Expect("lunch: The poll has ended. Lunch?\nSoba: 1\nCurry: 0")
		w.SayIn("lunch", "bob", "1")
		w.Expect()
	})
}

// Chats know nothing of each other's polls, and one that the bot is taken out of
// has none.
func TestPollsOfSeveralChats(t *testing.T) {
	behaviourtest.Run(t, poll.Kind(), func(w *behaviourtest.World) {
		gather(w)
		w.Chat("dinner", "alice", "carol")
		w.Forget()
		w.SayIn("lunch", "alice", "poll: Lunch? | Soba | Curry")
		w.SayIn("dinner", "carol", "poll: Dinner? | Rice | Nothing")
		w.SayIn("lunch", "alice", "1")
		w.SayIn("dinner", "alice", "2")
		w.Forget()
		w.Remove("lunch", "alice", behaviourtest.Self)
		w.SayIn("dinner", "alice", "poll?")
		w.Expect("dinner: Dinner?\nRice: 0\nNothing: 1")
		if got := w.Timers(); len(got) != 1 || got[0] != behaviourtest.ChatID("dinner") {
			t.Errorf("timers %q", got)
		}
	})
}

func TestPollSaysWhatItCannotDo(t *testing.T) {
	behaviourtest.Run(t, poll.Kind(), func(w *behaviourtest.World) {
		gather(w)
		w.Say("alice", "poll: Lunch? | Soba | Curry")
		if got := w.Said(); len(got) != 1 || !strings.HasPrefix(got[0], "alice: Invite me") {
			t.Errorf("said %q", got)
		}
		w.SayAs("another-bot", "poll:", 1)
		w.Expect()
		for _, c := range []struct{ text, want string }{
			{"", ""},
			{"1", ""},
			{"poll?", "No poll is open"},
			{"poll: end", "No poll is open"},
			{"poll:", "Write"},
			{"poll: Lunch?", "Write"},
			{"poll: Lunch? | Soba", "Write"},
			{"poll: Lunch? | | Soba", "Write"},
			{"poll: | Soba | Curry", "Write"},
			{"poll: a?" + strings.Repeat("|b", 11), "That is too much"},
			{"poll: a? | b | " + strings.Repeat("c", 300), "That is too much"},
			{"poll: Lunch? | Soba | Curry", "Lunch?"},
			{"poll: Lunch? | Soba | Curry", "A poll is open: Lunch?"},
			{"0", ""},
			{"3", ""},
			{"-1", ""},
			{"99999999999999999999", ""},
		} {
			w.SayIn("lunch", "alice", c.text)
			got := strings.Join(w.Said(), " ")
			if c.want == "" && got != "" || c.want != "" && !strings.HasPrefix(got, "lunch: "+c.want) {
				t.Errorf("%.20q: said %q, want %q", c.text, got, c.want)
			}
		}
	})
}

// More polls and votes than fit are not taken, which is said; nothing fails.
func TestPollsAreBounded(t *testing.T) {
	behaviourtest.Run(t, poll.Kind(), func(w *behaviourtest.World) {
		const chats = 300 // at some 350 bytes, more than 64 KiB
		question := "poll: a? | b | " + strings.Repeat("c", 280)
		said := map[string]int{}
		note := func() {
			for _, message := range w.Said() {
				_, text, _ := strings.Cut(message, ": ")
				said[text]++
			}
		}
		for i := range chats {
			chat := fmt.Sprint("chat ", i)
			w.Chat(chat, "alice", "bob")
			w.SayIn(chat, "alice", question)
			note()
			w.SayIn(chat, "bob", "1")
			note()
		}
		w.SayIn("chat 0", "alice", "1")
		note()
		if said["Too many polls are open."] == 0 || said["I cannot count any more votes."] == 0 || w.Count(behaviour.Failed) != 0 {
			t.Errorf("%d polls and %d votes were refused, %d events failed",
				said["Too many polls are open."], said["I cannot count any more votes."], w.Count(behaviour.Failed))
		}
	})
}
