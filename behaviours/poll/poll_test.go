package poll_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/behaviour/behaviourtest"
	"github.com/tegami-im/tegami/behaviours/poll"
)

const (
	asked  = "Poll 1, of alice: Lunch?\n1 1: pizza\n1 2: sushi"
	result = "Poll 1: Lunch?\npizza: 1\nsushi: "
)

// meet has users write to the poll, so that they exist.
func meet(w *behaviourtest.World) {
	for _, user := range []string{"bob", "carol"} {
		w.Say(user, "hello")
	}
	w.Forget()
}

func TestPoll(t *testing.T) {
	behaviourtest.Crashes(t, poll.Kind(), func(w *behaviourtest.World) {
		meet(w)
		w.Say("alice", "ask bob carol bob: Lunch? pizza / sushi")
		w.Expect("alice: "+asked, "bob: "+asked, "carol: "+asked)
		w.Say("bob", "1 1")
		w.Say("bob", "1 2") // thinks again
		w.Say("alice", "1 1")
		w.Expect("bob: You voted for pizza.", "bob: You voted for sushi.", "alice: You voted for pizza.")
		w.Say("carol", "1 2")
		w.Expect("alice: "+result+"2", "bob: "+result+"2", "carol: "+result+"2")
		w.Wait(48 * time.Hour)
	})
}

func TestPollEndsByItself(t *testing.T) {
	behaviourtest.Crashes(t, poll.Kind(), func(w *behaviourtest.World) {
		meet(w)
		w.Say("alice", "ask bob: Lunch? pizza / sushi")
		w.Say("bob", "1 1")
		w.Forget()
		w.Wait(25 * time.Hour)
		w.Expect("alice: "+result+"0", "bob: "+result+"0")
	})
}

func TestPollIsClosed(t *testing.T) {
	behaviourtest.Run(t, poll.Kind(), func(w *behaviourtest.World) {
		meet(w)
		w.Say("alice", "ask bob: Lunch? pizza / sushi")
		w.Say("bob", "1 1")
		w.Forget()
		w.Say("bob", "close 1")
		w.Expect("bob: That poll is none of yours.")
		w.Say("alice", "close 1")
		w.Expect("alice: "+result+"0", "bob: "+result+"0")
	})
}

func TestPollSaysWhatItCannotDo(t *testing.T) {
	behaviourtest.Run(t, poll.Kind(), func(w *behaviourtest.World) {
		for text, want := range map[string]string{
			"":                                     "Write",
			"ask":                                  "Write",
			"ask bob Lunch":                        "Write",
			"ask bob: Lunch?":                      "Write",
			"ask bob: Lunch? pizza //":             "Write",
			"ask " + behaviourtest.Self + ": a? b": "That is too much",
			"ask bob: a? " + strings.Repeat("b/", 10) + "b": "That is too much",
			"1 1":                   "There is no such poll",
			"close 1":               "That poll is none of yours",
			"999999999999999999999": "Write",
		} {
			w.Say("alice", text)
			if got := w.Said(); len(got) != 1 || !strings.HasPrefix(got[0], "alice: "+want) {
				t.Errorf("%.20q: said %q, want %q", text, got, want)
			}
		}
	})
}
