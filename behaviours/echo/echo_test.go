package echo_test

import (
	"testing"

	"github.com/tegami-im/tegami/actors/behaviour/behaviourtest"
	"github.com/tegami-im/tegami/behaviours/echo"
)

func TestEcho(t *testing.T) {
	behaviourtest.Crashes(t, echo.Kind(), func(w *behaviourtest.World) {
		w.Say("alice", "hello")
		w.Say("bob", "hi")
		w.Say("alice", "")
		w.Expect("alice: hello", "bob: hi")
		w.Say("alice", "again")
		w.Expect("alice: again")
	})
}
