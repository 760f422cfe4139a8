package bridge_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/behaviour/behaviourtest"
	"github.com/tegami-im/tegami/behaviours/bridge"
)

func TestBridge(t *testing.T) {
	behaviourtest.Crashes(t, bridge.Kind(), func(w *behaviourtest.World) {
		w.Away(errors.New("away"))
		w.Say("alice", "ご飯食べた？")
		w.Say("alice", "still there?")
		w.Away(nil)
		w.Wait(time.Minute)
		for i, text := range []string{"ご飯食べた？", "still there?"} {
			var got bridge.Posted
			if posts := w.Posted(i); json.Unmarshal([]byte(posts), &got) != nil || got.From != "alice" || got.Text != text || len(got.ID) != 32 || got.Time.IsZero() {
				t.Errorf("posted %s", posts)
			}
		}
		w.Forget()
		w.Ring("1", []byte(`{"to":"alice","text":"yes"}`))
		w.Ring("1", []byte(`{"to":"alice","text":"yes"}`))
		w.Ring("2", []byte(`{"to":"nobody","text":"yes"}`))
		w.Expect("alice: yes")
	})
}

func TestBridgePassesOverNonsense(t *testing.T) {
	behaviourtest.Run(t, bridge.Kind(), func(w *behaviourtest.World) {
		w.Say("alice", "")
		w.Ring("1", []byte(`{}`))
		w.Ring("2", []byte(`?`))
		w.Wait(time.Minute)
		if passed := w.Count(behaviour.PassedOver); passed != 1 {
			t.Errorf("%d passed over", passed)
		}
	})
}
