package hostile

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

// friends are Alice, who sends, and Bob, who polls, all the while.
type friends struct {
	a          *arena
	alice, bob *process.Client
	stop       context.CancelFunc
	talk       sync.WaitGroup

	mu        sync.Mutex
	sent      map[string]time.Time // not delivered yet
	latencies []time.Duration
	failures  []string

	parted bool
	story  string // how the talk went
}

// meet signs the friends in and has them talk until they part. It returns when
// the first message has arrived.
func (a *arena) meet() *friends {
	a.t.Helper()
	a.server.CreateUsers("alice", "bob")
	f := &friends{
		a: a, alice: a.server.Device("alice", "phone"), bob: a.server.Device("bob", "phone"),
		sent: map[string]time.Time{},
	}
	ctx, stop := context.WithCancel(a.t.Context())
	f.stop = stop
	a.t.Cleanup(func() { f.part() })
	f.talk.Go(func() { f.poll(ctx) })
	f.talk.Go(func() { f.send(ctx) })
	f.sayMore()
	return f
}

// sayMore waits until a hundred more messages have arrived, or the friends met
// an error.
func (f *friends) sayMore() {
	f.a.t.Helper()
	arrived := func() (int, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.latencies), len(f.failures) > 0
	}
	before, _ := arrived()
	f.a.await("messages between the friends", func() bool {
		now, failed := arrived()
		return now >= before+100 || failed
	})
}

// send sends a message every 10 ms.
func (f *friends) send(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for number := 1; ctx.Err() == nil; number++ {
		id := strconv.Itoa(number)
		f.mu.Lock()
		f.sent[id] = time.Now()
		f.mu.Unlock()
		request := &tegamiv1.SendMessageRequest{
			To: "bob", ClientMessageId: id, Body: &tegamiv1.SendMessageRequest_Text{Text: "number " + id},
		}
		err := f.alice.Call(ctx, "TalkService/SendMessage", request, new(tegamiv1.SendMessageResponse))
		f.check(ctx, "send", err)
		<-tick.C
	}
}

// poll reads every message once.
func (f *friends) poll(ctx context.Context) {
	var cursor int64
	for ctx.Err() == nil {
		request := &tegamiv1.FetchOpsRequest{AfterRevision: cursor, Timeout: durationpb.New(20 * time.Second)}
		page := new(tegamiv1.FetchOpsResponse)
		if err := f.bob.Call(ctx, "TalkService/FetchOps", request, page); err != nil {
			f.check(ctx, "poll", err)
			return
		}
		f.mu.Lock()
		for _, op := range page.GetOps() {
			id := op.GetReceiveMessage().GetClientMessageId()
			if at, ok := f.sent[id]; ok {
				f.latencies = append(f.latencies, time.Since(at))
				delete(f.sent, id)
			}
		}
		f.mu.Unlock()
		cursor = page.GetRevision()
	}
}

// check notes an error, unless the friends have parted.
func (f *friends) check(ctx context.Context, what string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, fmt.Sprintf("%s: %v", what, err))
}

// part ends the talk and tells how it went. Any error of it fails the test.
func (f *friends) part() string {
	f.a.t.Helper()
	if f.parted {
		return f.story
	}
	f.parted = true
	f.stop()
	f.talk.Wait()
	for _, failure := range f.failures[:min(len(f.failures), 10)] {
		f.a.t.Errorf("a friend met an error: %s", failure)
	}
	slices.Sort(f.latencies)
	at := func(part float64) time.Duration {
		return f.latencies[int(part*float64(len(f.latencies)-1))].Round(10 * time.Microsecond)
	}
	if len(f.latencies) > 0 {
		f.story = fmt.Sprintf("%d messages, delivered in %v p50, %v p99, %v at most",
			len(f.latencies), at(0.5), at(0.99), at(1))
	}
	return f.story
}
