package shard

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/wire"
)

// BenchmarkHeldPoll measures the memory of a poll that another node holds, at the
// node that owns the mailbox: what comes over the link, noted with its mailbox.
// The connection is the other node's.
func BenchmarkHeldPoll(b *testing.B) {
	peer := actor.NewPID("talk-1", "peer/gateway-1")
	mailboxes := make([]subscribers, b.N)
	frames := make([][]byte, b.N)
	for i := range frames {
		frame, err := proto.Marshal(&wire.Fetch{
			Token: uint64(i), After: 1000, Limit: 100, Hold: true,
			Session: &wire.Session{User: fmt.Sprintf("user-%012d", i), Device: "a device's name", Epoch: 1},
		})
		if err != nil {
			b.Fatal(err)
		}
		frames[i] = frame
	}
	before := heap()
	b.ResetTimer()
	for i, frame := range frames {
		var m wire.Fetch
		if err := proto.Unmarshal(frame, &m); err != nil {
			b.Fatal(err)
		}
		mailboxes[i].put(subscriber{
			pid: peer, token: m.GetToken(), after: m.GetAfter(), limit: int(m.GetLimit()), renewed: time.Now(),
			session: talk.Session{User: m.GetSession().GetUser(), Device: m.GetSession().GetDevice(), Epoch: m.GetSession().GetEpoch()},
		})
	}
	b.StopTimer()
	b.ReportMetric(float64(heap()-before)/float64(b.N), "heap-B/poll")
	runtime.KeepAlive(mailboxes)
	runtime.KeepAlive(frames)
}

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
