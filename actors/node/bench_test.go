package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

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
	const users = 2000
	accounts := make([]talk.NewAccount, users)
	for i := range accounts {
		accounts[i].User = fmt.Sprintf("user%04d", i)
	}
	if _, err := n.CreateAccounts(b.Context(), accounts); err != nil {
		b.Fatal(err)
	}
	text := string(make([]byte, 100))
	var failed atomic.Int64
	var wg sync.WaitGroup
	window := make(chan struct{}, 256)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		window <- struct{}{}
		wg.Add(1)
		n.Send(b.Context(), talk.Send{
			From: accounts[i%users].User, FromDevice: "d", To: accounts[(i*7919+1)%users].User,
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
