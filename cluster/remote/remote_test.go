//go:build !race

// The library replaces gRPC's global logger whenever a node listens, while the
// connections of another use it: the race detector sees that in every test.

package remote_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	protoremote "github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tegami-im/tegami/actors/wire"
	"github.com/tegami-im/tegami/cluster/remote"
)

// patience is against hanging.
const patience = 20 * time.Second

type end struct {
	*remote.Remote
	frames chan *wire.Frame
}

func listen(t *testing.T, address string) end {
	t.Helper()
	return listenWith(t, remote.Options{Listen: address})
}

func listenWith(t *testing.T, options remote.Options) end {
	t.Helper()
	r, err := remote.Listen(options)
	if err != nil {
		t.Fatal(err)
	}
	e := end{r, make(chan *wire.Frame, 10_000)}
	r.Receive(func(f *wire.Frame) { e.frames <- f })
	t.Cleanup(r.Close)
	return e
}

func (e end) next(t *testing.T) *wire.Frame {
	t.Helper()
	select {
	case f := <-e.frames:
		return f
	case <-time.After(patience):
		t.Fatal("no frame came")
		return nil
	}
}

// page is a frame with a message of so many bytes.
func page(number uint64, bytes int) *wire.Frame {
	return &wire.Frame{From: "a", Number: number, Messages: []*wire.Message{{Kind: &wire.Message_KeysAnswer{
		KeysAnswer: &wire.KeysAnswer{Keys: [][]byte{make([]byte, bytes)}},
	}}}}
}

func TestFramesArriveInOrder(t *testing.T) {
	one, two := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	for _, way := range []struct{ from, to end }{{one, two}, {two, one}} {
		const n = 200
		for i := range uint64(n) {
			bytes := 100
			if i%10 == 0 {
				bytes = 2 << 20 // with its neighbours, more than gRPC takes by itself
			}
			way.from.Send(way.to.Address(), page(i, bytes))
		}
		for i := range uint64(n) {
			if got := way.to.next(t).GetNumber(); got != i {
				t.Fatalf("frame %d came where %d should", got, i)
			}
		}
	}
}

func TestANodeThatReturnsIsReached(t *testing.T) {
	one, two := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	address := two.Address()
	one.Send(address, page(1, 10))
	two.next(t)
	two.Close()
	again := listen(t, address)
	for n := uint64(2); ; n++ {
		one.Send(address, page(n, 10)) // may be lost
		select {
		case <-again.frames:
			return
		case <-time.After(100 * time.Millisecond):
		}
		if n > 200 {
			t.Fatal("not reached")
		}
	}
}

// What is not of the protocol ends its connection, and others go on.
func TestNonsenseEndsItsConnectionAlone(t *testing.T) {
	one, two := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	raw, err := new(net.Dialer).DialContext(ctx, "tcp", two.Address())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = raw.Write([]byte("GET / HTTP/1.1\r\n\r\n\x00\xff garbage"))
	_, _ = io.Copy(io.Discard, raw)
	_ = raw.Close()

	connection, err := grpc.NewClient(two.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	calls := protoremote.NewRemotingClient(connection)
	if _, err := calls.ListProcesses(ctx, &protoremote.ListProcessesRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("listing the actors: %v", err)
	}
	for name, batch := range map[string]*protoremote.MessageBatch{
		"a type out of range":   {Targets: []string{"frames"}, Envelopes: []*protoremote.MessageEnvelope{{TypeId: 7}}},
		"a target out of range": {TypeNames: []string{"tegami.node.v1.Frame"}, Envelopes: []*protoremote.MessageEnvelope{{Target: 7}}},
		"a sender out of range": {Targets: []string{"frames"}, TypeNames: []string{"tegami.node.v1.Frame"}, Envelopes: []*protoremote.MessageEnvelope{{Sender: 7}}},
		"an unknown type":       {Targets: []string{"frames"}, TypeNames: []string{"x.Y"}, Envelopes: []*protoremote.MessageEnvelope{{}}},
	} {
		stream, err := calls.Receive(ctx)
		if err == nil {
			err = stream.Send(&protoremote.RemoteMessage{MessageType: &protoremote.RemoteMessage_MessageBatch{MessageBatch: batch}})
		}
		if err == nil {
			_, err = stream.Recv()
		}
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	one.Send(two.Address(), page(1, 10))
	two.next(t)
}

func TestListenRefuses(t *testing.T) {
	taken := listen(t, "127.0.0.1:0")
	for name, address := range map[string]string{
		"a taken address":   taken.Address(),
		"no address":        "",
		"no port":           "127.0.0.1",
		"a port too high":   "127.0.0.1:70000",
		"all machines":      ":0",
		"another interface": "192.0.2.1:0",
		"a name":            "example.com:0",
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := remote.Listen(remote.Options{Listen: address}); err == nil {
				r.Close()
				t.Error("no error")
			}
		})
	}
}
