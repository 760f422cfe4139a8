// Package remote carries frames between the nodes of a cluster over
// protoactor's remote.
//
// That delivers at most once, and loses what is on its way when a connection
// ends, without telling anybody; package link is made for that. Its port lets
// whoever connects stop any actor and end the process. So it runs in an actor
// system of its own, in which there is one actor, which takes frames; a guard
// in front lets nothing else through, and no frame in the name of a node other
// than the one in the certificate; and it is cleartext on loopback alone.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	protoremote "github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/tegami-im/tegami/actors/link"
	"github.com/tegami-im/tegami/actors/wire"
)

// Options say where a node hears others.
type Options struct {
	// Listen is the address, as host:port. Port 0 takes a free one.
	Listen string
	// Advertise is where others reach that address, when they reach it under
	// another. Empty: under the one that is listened on.
	Advertise string
	// TLS is for both directions: it has this node's certificate and the
	// authorities of the others', and verifies those that connect. Each
	// certificate must have an Identity. Nil: cleartext, on loopback alone.
	TLS *tls.Config
	// Renewed, unless nil, returns what takes the place of TLS for the next
	// connection: certificates change while a node runs. It must be quick, and
	// safe for concurrent use.
	Renewed func() *tls.Config
	// Logger takes what goes wrong. Nil means nothing is said.
	Logger *slog.Logger
}

// ErrCleartext is returned for an address that other machines reach without
// TLS.
var ErrCleartext = errors.New("cluster traffic beyond this machine needs TLS")

// ErrUnverified is returned for TLS that lets in whoever connects.
var ErrUnverified = errors.New("cluster traffic needs the certificates of both ends verified")

// Sizes. A frame is a megabyte and its last message, which is no larger than a
// page of operations, so that a batch fits what is received.
const (
	batchFrames = 8
	maxReceive  = 64 << 20
	queueFrames = 1024 // room that is made at once; it grows
)

// Remote is one node's end. It implements link.Network.
type Remote struct {
	system  *actor.ActorSystem
	remote  *protoremote.Remote
	receive atomic.Pointer[func(*wire.Frame)]
	closing sync.Once
}

var _ link.Network = (*Remote)(nil)

const framesActor = "frames"

// Listen starts to hear other nodes. The caller must Close it.
func Listen(options Options) (_ *Remote, err error) {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	host, port, err := split(options)
	if err != nil {
		return nil, fmt.Errorf("listen for the cluster on %s: %w", options.Listen, err)
	}
	r := &Remote{system: actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		// It says much at every connection; what matters package link says.
		return slog.New(slog.DiscardHandler)
	}))}
	if _, err := r.system.Root.SpawnNamed(actor.PropsFromFunc(r.take), framesActor); err != nil {
		return nil, err
	}
	config := protoremote.Configure(host, port,
		protoremote.WithAdvertisedHost(options.Advertise),
		protoremote.WithEndpointWriterBatchSize(batchFrames),
		protoremote.WithEndpointWriterQueueSize(queueFrames),
		protoremote.WithServerOptions(serverOptions(options)...),
		protoremote.WithDialOptions(dialOptions(options)...),
	)
	config.MaxRetryCount = 1 // it sleeps in between; the next frame tries again
	r.remote = protoremote.NewRemote(r.system, config)
	defer func() { // it panics when the address is taken
		if failed := recover(); failed != nil {
			err = fmt.Errorf("listen for the cluster on %s: %v", options.Listen, failed)
		}
	}()
	r.remote.Start()
	return r, nil
}

// split returns the host and port to listen on, if that is allowed.
func split(options Options) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(options.Listen)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, err
	}
	if ip := net.ParseIP(host); options.TLS == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, ErrCleartext
	}
	if options.TLS != nil && (options.TLS.ClientAuth != tls.RequireAndVerifyClientCert || options.TLS.InsecureSkipVerify) {
		return "", 0, ErrUnverified
	}
	return host, int(number), nil
}

// A connection on which nothing comes is given up after about ten seconds. It
// is not needed to notice that a node is silent, but to connect anew.
const (
	pingAfter   = 10 * time.Second // gRPC allows no less
	pingTimeout = 3 * time.Second
)

func serverOptions(options Options) []grpc.ServerOption {
	all := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxReceive),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingAfter / 2}),
		grpc.UnaryInterceptor(refuseUnary),
		grpc.StreamInterceptor(guarding(options.Logger)),
	}
	if options.TLS != nil {
		all = append(all, grpc.Creds(credentialsOf(options)))
	}
	return all
}

func dialOptions(options Options) []grpc.DialOption {
	secure := insecure.NewCredentials()
	if options.TLS != nil {
		secure = credentialsOf(options)
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(secure),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithStreamInterceptor(waiting),
	}
}

// connectPatience is how long a node that does not answer is dialled before the
// library hears of it.
const connectPatience = 10 * time.Second

// waiting opens a stream when there is a connection. The library sleeps for two
// seconds when there is none: a node that is back in one would wait for it.
func waiting(ctx context.Context, desc *grpc.StreamDesc, connection *grpc.ClientConn, method string, stream grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	connecting, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	connection.Connect()
	for state := connection.GetState(); state != connectivity.Ready; state = connection.GetState() {
		if !connection.WaitForStateChange(connecting, state) {
			return nil, status.Error(codes.Unavailable, "no connection")
		}
	}
	return stream(ctx, desc, connection, method, options...)
}

// Address returns where others reach this node.
func (r *Remote) Address() string { return r.system.Address() }

// Send implements link.Network.
func (r *Remote) Send(address string, frame *wire.Frame) {
	r.system.Root.Send(actor.NewPID(address, framesActor), frame)
}

// Receive implements link.Network.
func (r *Remote) Receive(receive func(*wire.Frame)) { r.receive.Store(&receive) }

func (r *Remote) take(ctx actor.Context) {
	frame, ok := ctx.Message().(*wire.Frame)
	if receive := r.receive.Load(); ok && receive != nil {
		(*receive)(frame)
	}
}

// Close ends all connections.
func (r *Remote) Close() {
	r.closing.Do(func() {
		r.remote.Shutdown(false)
		r.system.Shutdown()
	})
}
