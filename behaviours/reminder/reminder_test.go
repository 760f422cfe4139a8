package reminder_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/behaviour/behaviourtest"
	"github.com/tegami-im/tegami/behaviours/reminder"
)

func TestReminder(t *testing.T) {
	behaviourtest.Crashes(t, reminder.Kind(), func(w *behaviourtest.World) {
		w.Say("alice", "in 10m drink tea")
		w.Say("bob", "in 2h leave")
		w.Say("alice", "in 3h sleep")
		w.Expect("alice: 1: in 10m0s", "bob: 2: in 2h0m0s", "alice: 3: in 3h0m0s")
		w.Say("bob", "cancel 3") // not his
		w.Say("alice", "cancel 1")
		w.Expect("bob: 3 is cancelled", "alice: 1 is cancelled")
		if timers := w.Timers(); !slices.Equal(timers, []string{"alice/3", "bob/2"}) {
			t.Errorf("timers %q", timers)
		}
		w.Wait(time.Hour)
		w.Expect()
		w.Wait(2 * time.Hour)
		w.Expect("bob: leave", "alice: sleep")
		w.Wait(24 * time.Hour)
	})
}

// What was due while the server was away is not forgotten.
func TestReminderAfterAnOutage(t *testing.T) {
	behaviourtest.Run(t, reminder.Kind(), func(w *behaviourtest.World) {
		w.Say("alice", "in 10m drink tea")
		w.Forget()
		w.Down(func() { w.Wait(time.Hour) })
		w.Expect("alice: drink tea")
	})
}

func TestReminderSaysWhatItCannotDo(t *testing.T) {
	behaviourtest.Run(t, reminder.Kind(), func(w *behaviourtest.World) {
		for text, want := range map[string]string{
			"":                                     "Write",
			"hello":                                "Write",
			"in":                                   "Write",
			"in 5m":                                "Write",
			"in a while tea":                       "Write",
			"in 90000h tea":                        "That is too far",
			"in -5m tea":                           "That is too far",
			"cancel":                               "Write",
			"in 5m " + strings.Repeat("tea", 1000): "That is too long",
			"cancel " + strings.Repeat("9", 100):   "Write",
		} {
			w.Say("alice", text)
			if got := w.Said(); len(got) != 1 || !strings.HasPrefix(got[0], "alice: "+want) {
				t.Errorf("%.20q: said %q, want %q", text, got, want)
			}
		}
	})
}
