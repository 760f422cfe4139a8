package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

const unlimited = `
limits: {send_rate: 100000, send_burst: 100000, poll_rate: 100000, poll_burst: 100000, find_rate: 100000, find_burst: 100000}
auth: {access_token: 24h, refresh_token: 48h}
`

// BenchmarkSync measures how a new device gets an account with 1,000
// conversations and 100,000 operations: the time of all its requests, and their
// number.
func BenchmarkSync(b *testing.B) {
	const conversations, each = 1000, 100
	server := process.Start(b, process.Options{Binary: process.Build(b), Config: unlimited})
	peers := names(conversations)
	server.CreateUsers(append(peers, "alice")...)
	alice := server.Device("alice", "old")
	side(b, len(peers), func(ctx context.Context, i int) error {
		for n := range each {
			request := &tegamiv1.SendMessageRequest{
				To: peers[i], ClientMessageId: fmt.Sprint(i, " ", n), Body: &tegamiv1.SendMessageRequest_Text{Text: "hello, how are you?"},
			}
			if err := alice.Call(ctx, "TalkService/SendMessage", request, new(tegamiv1.SendMessageResponse)); err != nil {
				return err
			}
		}
		return nil
	})
	device := server.Device("alice", "new")
	requests, items := 0, 0
	for b.Loop() {
		requests, items = 0, 0
		for token := ""; ; {
			page := new(tegamiv1.SyncResponse)
			if err := device.Call(b.Context(), "TalkService/Sync", &tegamiv1.SyncRequest{Limit: 1000, PageToken: token}, page); err != nil {
				b.Fatal(err)
			}
			requests++
			items += len(page.GetItems())
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
	}
	if items < conversations {
		b.Errorf("%d items of %d conversations", items, conversations)
	}
	b.ReportMetric(float64(requests), "requests/op")
}

// BenchmarkContacts measures how long it takes to list 5,000 friends.
func BenchmarkContacts(b *testing.B) {
	const friends = 5000
	server := process.Start(b, process.Options{Binary: process.Build(b), Config: unlimited})
	peers := names(friends)
	server.CreateUsers(append(peers, "alice")...)
	alice := server.Device("alice", "phone")
	side(b, friends, func(ctx context.Context, i int) error {
		return alice.Call(ctx, "ContactService/RequestFriend", &tegamiv1.RequestFriendRequest{UserId: peers[i]}, new(tegamiv1.RequestFriendResponse))
	})
	for _, peer := range peers {
		err := server.Device(peer, "phone").Call(b.Context(), "ContactService/AcceptFriend",
			&tegamiv1.AcceptFriendRequest{UserId: "alice"}, new(tegamiv1.AcceptFriendResponse))
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		listed := 0
		for token := ""; ; {
			page := new(tegamiv1.ListContactsResponse)
			if err := alice.Call(b.Context(), "ContactService/ListContacts", &tegamiv1.ListContactsRequest{Limit: 1000, PageToken: token}, page); err != nil {
				b.Fatal(err)
			}
			listed += len(page.GetContacts())
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if listed != friends {
			b.Fatalf("%d contacts are listed", listed)
		}
	}
}

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("peer%05d", i)
	}
	return all
}

// side does something n times, several at a time.
func side(b *testing.B, n int, do func(ctx context.Context, i int) error) {
	b.Helper()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && !b.Failed(); i = next.Add(1) - 1 {
				if err := do(b.Context(), int(i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	if workers.Wait(); b.Failed() {
		b.FailNow()
	}
}
