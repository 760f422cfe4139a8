package workload

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

// behaviourLimit is a limit against hanging.
const behaviourLimit = 2 * time.Minute

// talker is one user who writes to behaviours.
type talker struct {
	*process.Client
	t    testing.TB
	name string
}

// say sends a text until it is acknowledged.
func (u *talker) say(ctx context.Context, to, text string) error {
	return u.sayAs(ctx, to+" "+text, to, text)
}

// sayAs is say with a client message id.
func (u *talker) sayAs(ctx context.Context, id, to, text string) error {
	request := &tegamiv1.SendMessageRequest{To: to, ClientMessageId: id, Body: &tegamiv1.SendMessageRequest_Text{Text: text}}
	return u.insist(ctx, "TalkService/SendMessage", request, new(tegamiv1.SendMessageResponse))
}

// insist calls until it is answered.
func (u *talker) insist(ctx context.Context, procedure string, request, response proto.Message) error {
	for {
		err := u.Call(ctx, procedure, request, response)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// heard returns how often each text came in, by its sender.
func (u *talker) heard() map[string]map[string]int {
	u.t.Helper()
	texts := map[string]map[string]int{}
	for after, more := int64(0), true; more; {
		page := new(tegamiv1.FetchOpsResponse)
		if err := u.Call(u.t.Context(), "TalkService/FetchOps", &tegamiv1.FetchOpsRequest{AfterRevision: after, Limit: 1000}, page); err != nil {
			u.t.Fatal(err)
		}
		for _, op := range page.GetOps() {
			m := op.GetReceiveMessage()
			if m == nil {
				continue
			}
			if texts[m.GetFrom()] == nil {
				texts[m.GetFrom()] = map[string]int{}
			}
			texts[m.GetFrom()][m.GetText()]++
		}
		after, more = page.GetRevision(), page.GetHasMore()
	}
	return texts
}

// await waits until a user has heard so many texts of a behaviour.
func (u *talker) await(from string, count int) {
	u.t.Helper()
	for deadline := time.Now().Add(behaviourLimit); ; {
		total := 0
		for _, n := range u.heard()[from] {
			total += n
		}
		if total >= count {
			return
		}
		if time.Now().After(deadline) {
			u.t.Fatalf("%s has heard %d of %d texts of %s", u.name, total, count, from)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// BehavioursConfig has a server run what KillBehaviours talks to.
const BehavioursConfig = "behaviours: {run: \"echo=echo, reminder=reminder, poll=poll\"}\n"

// asking is a chat in which one user asks a poll bot.
type asking struct {
	*talker
	chat  string
	asked int
}

// newAsking makes the chat.
func newAsking(ctx context.Context, u *talker) *asking {
	u.t.Helper()
	made := new(tegamiv1.CreateChatResponse)
	err := u.say(ctx, "poll", "hello") // its account is there then
	if err == nil {
		request := &tegamiv1.CreateChatRequest{Name: "chat", Invite: []string{"poll"}, ClientChatId: "chat"}
		err = u.insist(ctx, "ChatService/CreateChat", request, made)
	}
	if err != nil {
		u.t.Fatal(err)
	}
	u.await("poll", 2) //nolint:contextcheck // for what it says alone and when it has joined, with a limit of its own
	return &asking{talker: u, chat: made.GetChat().GetChatId()}
}

// ask asks once more, and ends the poll.
func (a *asking) ask(ctx context.Context) error {
	err := a.sayAs(ctx, fmt.Sprint("ask ", a.asked), a.chat, fmt.Sprintf("poll: %d? | yes | no", a.asked))
	if err == nil {
		err = a.sayAs(ctx, fmt.Sprint("end ", a.asked), a.chat, "poll: end")
	}
	if err == nil {
		a.asked++
	}
	return err
}

// check waits until each question was repeated and each poll ended, and reports
// what was not, or not once.
func (a *asking) check() {
	a.t.Helper()
	a.await("poll", 2+2*a.asked)
	heard := a.heard()["poll"]
	for n := range a.asked {
		for _, text := range []string{fmt.Sprintf("%d?\n1: yes\n2: no", n), fmt.Sprintf("The poll has ended. %d?\nyes: 0\nno: 0", n)} {
			if heard[text] != 1 {
				a.t.Errorf("%q was said %d times in the chat", text, heard[text])
			}
		}
	}
}

// KillBehaviours has kill called, so many times and once more, while users talk by
// way of a server to an echo bot and a reminder bot, and one to a poll bot in a
// chat. Each message must get one answer, and each timer come once, whatever was
// killed and started again.
func KillBehaviours(t *testing.T, server *process.Server, kills int, kill func()) {
	t.Helper()
	const users, least = 6, 20
	random := rand.New(rand.NewPCG(Seed(t), 0))
	talkers := make([]*talker, users)
	for i := range talkers {
		name := fmt.Sprint("user", i)
		server.CreateUsers(name)
		talkers[i] = &talker{Client: server.Device(name, "phone"), t: t, name: name}
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var enough atomic.Bool
	var acked atomic.Int64
	var talking sync.WaitGroup
	poll := newAsking(ctx, talkers[0])
	talking.Go(func() {
		for (!enough.Load() || poll.asked < least) && poll.ask(ctx) == nil {
		}
	})
	said := make([]int, users) // to each bot
	for i, u := range talkers {
		talking.Go(func() {
			for ; !enough.Load() || said[i] < least; said[i]++ {
				for to, text := range map[string]string{"echo": "text %d", "reminder": "in 700ms text %d"} {
					if err := u.say(ctx, to, fmt.Sprintf(text, said[i])); err != nil {
						return
					}
					acked.Add(1)
				}
			}
		})
	}
	for range kills {
		target := acked.Load() + 1 + random.Int64N(60)
		for deadline := time.Now().Add(behaviourLimit); acked.Load() < target; {
			if time.Now().After(deadline) {
				t.Fatal("nothing goes on")
			}
			<-time.After(time.Millisecond)
		}
		<-time.After(time.Duration(random.Int64N(int64(30 * time.Millisecond))))
		kill()
	}
	enough.Store(true)
	talking.Wait()

	messages := 0
	for i, u := range talkers {
		u.await("echo", said[i])
		u.await("reminder", 2*said[i])
		messages += said[i]
	}
	poll.check()
	// Whatever would come twice has come when this is answered by the next run.
	kill()
	if err := poll.ask(ctx); err != nil {
		t.Fatal(err)
	}
	poll.check()
	numbers := map[string]int{}
	for i, u := range talkers {
		for _, bot := range []string{"echo", "reminder"} {
			if err := u.say(ctx, bot, "end"); err != nil {
				t.Fatal(err)
			}
		}
		u.await("echo", said[i]+1)
		u.await("reminder", 2*said[i]+1)
		heard := u.heard()
		want := map[string]int{"end": 1}
		for n := range said[i] {
			want[fmt.Sprint("text ", n)] = 1
		}
		if !maps.Equal(heard["echo"], want) {
			t.Errorf("%s said %d texts and heard of echo %v", u.name, said[i], heard["echo"])
		}
		reminders := 0
		for text, count := range heard["reminder"] {
			var number int
			switch _, err := fmt.Sscanf(text, "%d: in 700ms", &number); {
			case err == nil:
				numbers[text] += count
			case want[text] == 1 && count == 1:
				reminders++
			case text != `Write "in 10m drink tea", or "cancel 1".`:
				t.Errorf("%s was reminded %d times of %q", u.name, count, text)
			}
		}
		if reminders != said[i] {
			t.Errorf("%s was reminded of %d of %d", u.name, reminders, said[i])
		}
	}
	if len(numbers) != messages || slices.Max(slices.Collect(maps.Values(numbers))) != 1 {
		t.Errorf("%d reminders got %d numbers", messages, len(numbers))
	}
	t.Logf("progress: %d kills, %d messages to each bot, each answered once; %d timers, each came once; %d polls in a chat, each begun and ended once",
		kills+1, messages, messages, poll.asked)
}
