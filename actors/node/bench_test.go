package node

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
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
