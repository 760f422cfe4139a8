package node

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/memory"
)

// BenchmarkSend measures the talk tier alone, on stores in memory: sealing,
// journal, apply, the sender's copy, write-behind.
func BenchmarkSend(b *testing.B) {
	n, err := Start(Options{
		Shards: 256, Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys(),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			b.Error(err)
		}
	}()
	for !n.Ready() {
	}
	users := crowd(b, n)
	b.ReportAllocs()
	b.ResetTimer()
	sendAll(b, n, users, func(i int) string { return users[(i*7919+1)%len(users)] })
}

// BenchmarkBehaviour measures messages that a behaviour answers, from the send of
// the one until the other is durable: three appends, one after the other, and the
// behaviour's one at a time.
func BenchmarkBehaviour(b *testing.B) {
	var handled atomic.Int64
	n, err := Start(Options{
		Shards: 256, Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys(),
		Behaviours: []Behaviour{{User: "bot", Kind: behaviour.New("counter", counter{}), PerSecond: 1_000_000}},
		Observe: Observer{Behaviours: BehaviourObserver{Outcome: func(_ string, o behaviour.Outcome) {
			if o == behaviour.Handled {
				handled.Add(1)
			}
		}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			b.Error(err)
		}
	}()
	users := crowd(b, n)
	for _, err := n.Account(b.Context(), "bot"); err != nil; _, err = n.Account(b.Context(), "bot") {
	}
	b.ReportAllocs()
	b.ResetTimer()
	sendAll(b, n, users, func(int) string { return "bot" })
	for handled.Load() < int64(b.N) {
		runtime.Gosched()
	}
}

// BenchmarkChat measures what a message to a chat of 200 costs for each member
// that it reaches, in the talk tier and the store of a data folder: apply, journal,
// write-behind, and the poll that the member makes next.
func BenchmarkChat(b *testing.B) {
	const members = 200
	s, err := embedded.Open(embedded.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	n, err := Start(Options{Shards: 256, Journal: s.Journal, Store: s.Store, Keys: s.Keys})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := errors.Join(n.Close(), s.Close()); err != nil {
			b.Error(err)
		}
	}()
	users := crowd(b, n)[:members]
	chat, err := n.CreateChat(b.Context(), talk.Session{User: users[0]}, talk.NewChat{ClientID: "chat", Invite: users[1:]})
	if err != nil {
		b.Fatal(err)
	}
	reached := make(chan struct{}, 2*members)
	for _, user := range users[1:] {
		session, err := n.SignIn(b.Context(), user, "phone", [32]byte{1})
		if err == nil {
			err = n.ChangeChat(b.Context(), session, chat, &record.ChangeChat{Change: &record.ChangeChat_Accept{Accept: true}})
		}
		if err != nil {
			b.Fatal(err)
		}
		var poll func(after int64)
		poll = func(after int64) {
			n.Poll(talk.Poll{Session: session, After: after, Limit: 100, Timeout: time.Minute, Answer: func(page talk.Page, refused *refusal.Refusal) {
				if refused != nil {
					return
				}
				for _, data := range page.Operations {
					if op, err := record.DecodeOperations([][]byte{data}); err == nil && op[0].GetReceiveMessage() != nil {
						reached <- struct{}{}
					}
				}
				poll(page.Revision)
			}})
		}
		poll(0)
	}
	send := func(i int) {
		n.Send(b.Context(), talk.Send{
			From: users[0], To: chat, ClientMessageID: fmt.Sprint(i), Body: talk.Body{Text: string(bytes.Repeat([]byte("x"), 100))},
			Answer: func(talk.Sent, error) {},
		})
		for range members - 1 {
			<-reached
		}
	}
	send(-1) // by now all of them poll
	b.ReportAllocs()
	b.ResetTimer()
	spent := cpuTime()
	for i := range max(b.N/(members-1), 1) {
		send(i)
	}
	b.ReportMetric(float64((cpuTime()-spent).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
}

// cpuTime is what the process has used, user and system. It says more than the
// time that passed where others use the machine too.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// crowd makes users, and waits until the node is ready.
func crowd(b *testing.B, n *Node) []string {
	b.Helper()
	for !n.Ready() {
	}
	accounts := make([]talk.NewAccount, 2000)
	users := make([]string, len(accounts))
	for i := range accounts {
		users[i] = fmt.Sprintf("user%04d", i)
		accounts[i].User = users[i]
	}
	if _, err := n.CreateAccounts(b.Context(), accounts); err != nil {
		b.Fatal(err)
	}
	return users
}

// sendAll sends b.N messages, 256 at a time.
func sendAll(b *testing.B, n *Node, users []string, to func(i int) string) {
	b.Helper()
	text := string(bytes.Repeat([]byte("x"), 100))
	var failed atomic.Int64
	var wg sync.WaitGroup
	window := make(chan struct{}, 256)
	for i := range b.N {
		window <- struct{}{}
		wg.Add(1)
		n.Send(b.Context(), talk.Send{
			From: users[i%len(users)], FromDevice: "d", To: to(i),
			ClientMessageID: fmt.Sprint(i), Body: talk.Body{Text: text},
			Answer: func(_ talk.Sent, err error) {
				if err != nil {
					failed.Add(1)
				}
				<-window
				wg.Done()
			},
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		b.Errorf("%d sends failed", n)
	}
}
