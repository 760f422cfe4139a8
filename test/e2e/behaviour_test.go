package e2e

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/worker/hook"
)

// hear polls until a user has received so many messages, and returns each as in
// "echo: hello".
func (u user) hear(count int) (texts []string) {
	u.t.Helper()
	for after := int64(0); len(texts) < count; {
		page := u.poll(after, hangLimit).page(tegamiv1.FetchOpsResponse_OPERATIONS)
		for _, op := range page.GetOps() {
			if m := op.GetReceiveMessage(); m != nil {
				texts = append(texts, m.GetFrom()+": "+m.GetText())
			}
		}
		after = page.GetRevision()
	}
	return texts
}

// say writes to a behaviour, whose account may be under way.
func (u user) say(to, body string) {
	u.t.Helper()
	request := &tegamiv1.SendMessageRequest{To: to, Body: &tegamiv1.SendMessageRequest_Text{Text: body}}
	for deadline := time.Now().Add(hangLimit); ; {
		err := u.Call(u.t.Context(), "TalkService/SendMessage", request, new(tegamiv1.SendMessageResponse))
		if err == nil {
			return
		}
		if refused, ok := errors.AsType[*process.Error](err); !ok || refused.Detail.GetReason() != "unknown_recipient" || time.Now().After(deadline) {
			u.t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// A bridge posts what a user writes, and a user hears what is posted to it; both
// signed, and once though the server is killed.
func TestBridge(t *testing.T) {
	key := []byte("a secret of some length")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, key, 0o600); err != nil {
		t.Fatal(err)
	}
	posted := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = hook.Verify(r.Header.Get(hook.HeaderSignature), body, key, time.Now(), time.Minute)
		}
		if err != nil || r.Header.Get(hook.HeaderID) == "" {
			t.Errorf("not as it should be: id %q, %v", r.Header.Get(hook.HeaderID), err)
		}
		posted <- string(body)
	}))
	defer receiver.Close()
	server := start(t, "behaviours:", "  run: crm=bridge", "  hooks: crm="+receiver.URL, "  secret_file: "+file, "  allow_private: true")
	alice := signIn(t, server, "alice")[0]

	alice.say("crm", "ご飯食べた？")
	select {
	case body := <-posted:
		if !strings.Contains(body, `"from":"alice","text":"ご飯食べた？"`) {
			t.Errorf("posted %s", body)
		}
	case <-time.After(hangLimit):
		t.Fatal("nothing is posted")
	}
	sign := func(at time.Time, id, body string, key []byte) string {
		return hook.Sign(at, []byte("/behaviours/crm\n"+id+"\n"+body), key)
	}
	ring := func(id, body, signature string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL()+"/behaviours/crm", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(hook.HeaderID, id)
		r.Header.Set(hook.HeaderSignature, signature)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	answer := `{"to":"alice","text":"yes"}`
	if status := ring("1", answer, sign(time.Now(), "1", answer, key)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	server.Kill()
	server.Start()
	for _, call := range []struct {
		id, body string
		at       time.Time
		key      string
		want     int
	}{
		{"1", answer, time.Now(), string(key), http.StatusOK},
		{"1", `{"to":"alice","text":"no"}`, time.Now(), string(key), http.StatusConflict},
		{"2", answer, time.Now(), "another secret, as long", http.StatusUnauthorized},
		{"2", answer, time.Now().Add(-time.Hour), string(key), http.StatusUnauthorized},
		{"3", `{"to":"alice","text":"end"}`, time.Now(), string(key), http.StatusOK},
	} {
		if status := ring(call.id, call.body, sign(call.at, call.id, call.body, []byte(call.key))); status != call.want {
			t.Errorf("call %s %s: status %d, want %d", call.id, call.body, status, call.want)
		}
	}
	if status := ring("4", answer, sign(time.Now(), "1", answer, key)); status != http.StatusUnauthorized {
		t.Errorf("a call that was heard, again under another id: status %d", status)
	}
	if got := alice.hear(2); len(got) != 2 || got[0] != "crm: yes" || got[1] != "crm: end" {
		t.Errorf("alice heard %q", got)
	}
}

// hearUntil polls until a user has received a text, and returns all received up to
// there, as hear does.
func (u user) hearUntil(last string) (texts []string) {
	u.t.Helper()
	for count := 1; !slices.Contains(texts, last); count = len(texts) + 1 {
		texts = u.hear(count)
	}
	return texts
}

// The members of a chat vote by what they write there, and the tally comes once,
// though the server is killed in between.
func TestPollInAChat(t *testing.T) {
	server := start(t, "behaviours:", "  run: poll=poll")
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	alice.say("poll", "hello")
	alice.hear(1) // the account of the bot is there
	chat := alice.createChat("lunch", "bob", "poll").GetChatId()
	bob.accept(chat)
	for _, text := range alice.hear(2) {
		if !strings.Contains(text, `Write "poll: Lunch? | Soba | Curry" to ask`) {
			t.Errorf("alice heard %q", text)
		}
	}
	alice.say(chat, "poll: Lunch? | Soba | Curry")
	bob.hearUntil("poll: Lunch?\n1: Soba\n2: Curry")
	bob.say(chat, "1")
	bob.say(chat, "2") // thinks again
	server.Kill()
	server.Start()
	alice.say(chat, "2")
	alice.say(chat, "poll: end")
	const tally = "poll: The poll has ended. Lunch?\nSoba: 0\nCurry: 2"
	bob.hearUntil(tally)
	server.Kill()
	server.Start()
	bob.say(chat, "poll?")
	heard := bob.hearUntil(`poll: No poll is open. Write "poll: Lunch? | Soba | Curry" to ask, a number to vote, "poll?" to see the votes, "poll: end" to end.`)
	if i := slices.Index(heard, tally); i < 0 || slices.Contains(heard[i+1:], tally) {
		t.Errorf("bob heard %q", heard)
	}
	if got := alice.members(chat); !slices.Equal(got, []string{"alice CHAT_OWNER", "bob CHAT_MEMBER", "poll CHAT_MEMBER"}) {
		t.Errorf("members %q", got)
	}
}
