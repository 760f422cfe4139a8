package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/client"
	"github.com/tegami-im/tegami/test/process"
)

// crowd is users of the SDK who send, and poll all the time. Each call that is
// not answered the first time counts, as does each message that is missing, there
// twice, or out of order.
type crowd struct {
	t       *testing.T
	url     string
	members []*member
	// failures has what went wrong; slowest is how long a send took at most, in
	// nanoseconds.
	failures struct {
		sync.Mutex
		list []string
	}
	slowest atomic.Int64
	acked   atomic.Int64
	// closed counts connections that the server ended.
	closed atomic.Int64

	polling, sending sync.WaitGroup
	stopPolling      context.CancelFunc
	stopSending      chan struct{}
}

// member is a user with one device.
type member struct {
	client *client.Client
	name   string

	mu       sync.Mutex          // guards the following
	received map[string][]string // texts, by sender
}

// newCrowd signs users in.
func newCrowd(t *testing.T, admin *process.Server, url string, users int) *crowd {
	t.Helper()
	c := &crowd{t: t, url: url, stopSending: make(chan struct{})}
	names := make([]string, users)
	for i := range names {
		names[i] = fmt.Sprintf("user%04d", i)
	}
	admin.CreateUsers(names...)
	c.members = make([]*member, users)
	var signing sync.WaitGroup
	next := make(chan int)
	for range 16 {
		signing.Go(func() {
			for i := range next {
				c.members[i] = c.signIn(admin, names[i])
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	signing.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return c
}

func (c *crowd) signIn(admin *process.Server, name string) *member {
	api := admin.AdminClient()
	defer api.HTTP.CloseIdleConnections()
	tokens := new(tegamiv1.IssueTokenResponse)
	if err := api.Call(c.t.Context(), "AdminService/IssueToken", &tegamiv1.IssueTokenRequest{UserId: name, DeviceId: "phone"}, tokens); err != nil {
		c.t.Errorf("sign in %s: %v", name, err)
		return nil
	}
	httpClient := c.httpClient()
	c.t.Cleanup(httpClient.CloseIdleConnections)
	one, err := client.New(client.Session{
		Server: c.url, UserID: name, DeviceID: "phone",
		AccessToken: tokens.GetAccessToken(), RefreshToken: tokens.GetRefreshToken(), ExpireTime: tokens.GetExpireTime().AsTime(),
	}, client.WithHTTPClient(httpClient), client.WithPollTimeout(20*time.Second),
		client.WithOnRetry(func(failure error, _ time.Duration) { c.fail("%s: %v", name, failure) }))
	if err != nil {
		c.t.Error(err)
	}
	return &member{client: one, name: name, received: map[string][]string{}}
}

// httpClient returns one with connections of its own that are watched.
func (c *crowd) httpClient() *http.Client {
	httpClient := client.NewHTTPClient()
	httpClient.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &watched{Conn: conn, crowd: c}, nil
	}
	return httpClient
}

// watched is a connection that tells when the other end closes it.
type watched struct {
	net.Conn

	crowd *crowd
	ours  atomic.Bool
}

// Read implements net.Conn.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil && !w.ours.Load() {
		w.crowd.closed.Add(1)
	}
	return n, err
}

// Close implements net.Conn.
func (w *watched) Close() error {
	w.ours.Store(true)
	return w.Conn.Close()
}

func (c *crowd) fail(format string, arguments ...any) {
	c.failures.Lock()
	defer c.failures.Unlock()
	c.failures.list = append(c.failures.list, fmt.Sprintf(format, arguments...))
}

// forget makes nothing of what failed until now.
func (c *crowd) forget() {
	c.failures.Lock()
	defer c.failures.Unlock()
	c.failures.list = nil
}

// poll has every member poll until judge.
func (c *crowd) poll() {
	ctx, stop := context.WithCancel(c.t.Context())
	c.stopPolling = stop
	for _, m := range c.members {
		c.polling.Go(func() {
			cursor := new(client.MemoryCursor)
			err := m.client.Run(ctx, cursor, func(_ context.Context, operation *client.Operation) error {
				if message := operation.GetReceiveMessage(); message != nil {
					m.mu.Lock()
					defer m.mu.Unlock()
					m.received[message.GetFrom()] = append(m.received[message.GetFrom()], message.GetText())
				}
				return nil
			})
			if ctx.Err() == nil {
				c.fail("%s does not poll any more: %v", m.name, err)
			}
		})
	}
}

// send has the first members send until judge, each to all in turn, with a pause
// after each message.
func (c *crowd) send(senders int, pause time.Duration) {
	for i, m := range c.members[:senders] {
		c.sending.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-c.stopSending:
					return
				case <-time.After(pause):
				}
				to := c.members[(i+1+n)%len(c.members)]
				began := time.Now()
				if _, err := m.client.Send(c.t.Context(), to.name, fmt.Sprint(n)); err != nil {
					c.fail("%s sends: %v", m.name, err)
					return
				}
				took := int64(time.Since(began))
				for slowest := c.slowest.Load(); took > slowest && !c.slowest.CompareAndSwap(slowest, took); {
					slowest = c.slowest.Load()
				}
				c.acked.Add(1)
			}
		})
	}
}

// flows waits until so many more were acknowledged.
func (c *crowd) flows(when string, more int64) {
	c.t.Helper()
	began, want := time.Now(), c.acked.Load()+more
	for c.acked.Load() < want {
		if time.Since(began) > hangLimit {
			c.t.Fatalf("%s: %d of %d were acknowledged within %v", when, c.acked.Load()-want+more, more, hangLimit)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// judge ends the sending, waits for what was sent, ends the polls, and returns
// how many were acknowledged.
func (c *crowd) judge(senders int) int64 {
	c.t.Helper()
	close(c.stopSending)
	c.sending.Wait()
	received := func() (n int64) {
		for _, m := range c.members {
			m.mu.Lock()
			for _, texts := range m.received {
				n += int64(len(texts))
			}
			m.mu.Unlock()
		}
		return n
	}
	for began := time.Now(); received() < c.acked.Load() && time.Since(began) < hangLimit; {
		<-time.After(10 * time.Millisecond)
	}
	c.stopPolling()
	c.polling.Wait()
	if got := received(); got != c.acked.Load() {
		c.t.Errorf("%d were acknowledged, %d received", c.acked.Load(), got)
	}
	for i, sender := range c.members[:senders] {
		for k, m := range c.members {
			want := (k - i - 1 + 2*len(c.members)) % len(c.members) // the first number that it is sent
			for _, text := range m.received[sender.name] {
				if text != fmt.Sprint(want) {
					c.t.Fatalf("%s received %s of %s, want %d", m.name, text, sender.name, want)
				}
				want += len(c.members)
			}
		}
	}
	c.failures.Lock()
	defer c.failures.Unlock()
	if n := len(c.failures.list); n > 0 {
		c.t.Errorf("%d calls were not answered the first time, such as\n%s", n, strings.Join(c.failures.list[:min(n, 10)], "\n"))
	}
	return c.acked.Load()
}

// connect makes a call on a new connection again and again until the end of the
// test, and counts those that fail.
func (c *crowd) connect(token string) (stop func() (calls int)) {
	ctx, cancel := context.WithCancel(c.t.Context())
	calls := 0
	var running sync.WaitGroup
	running.Go(func() {
		for ; ctx.Err() == nil; calls++ {
			httpClient := client.NewHTTPClient()
			one, err := client.New(client.Session{Server: c.url, AccessToken: token}, client.WithHTTPClient(httpClient))
			if err == nil {
				_, _, err = one.Head(ctx)
			}
			httpClient.CloseIdleConnections()
			if err != nil && ctx.Err() == nil {
				c.fail("a new connection: %v", err)
			}
		}
	})
	return func() int {
		cancel()
		running.Wait()
		return calls
	}
}

// TestGatewayIsUpgradedWithoutARefusedConnection has one process after the other
// be the gateway, with the same sockets, under clients who hold polls, send, and
// connect all the time.
func TestGatewayIsUpgradedWithoutARefusedConnection(t *testing.T) {
	const users, senders = 200, 8
	address, clusterAddress, data := freeAddress(t), freeAddress(t), t.TempDir()
	config := generous + "data: {shards: 16}\nserver: {drain_spread: 2s}\ncluster: {membership: static, members: \"talk-1=" + address + "\"}\n"
	talk := node(t, "talk", "talk-1", address, config)
	talk.Start()
	gateway := func(flags ...string) *process.Server {
		return process.New(t, process.Options{
			Binary: process.Build(t), Command: "gateway", Config: config, Data: data,
			Flags: append([]string{"--set", "cluster.name=gateway-1", "--set", "cluster.listen=" + clusterAddress}, flags...),
		})
	}
	running := gateway("--takeover") // from nobody
	running.Start()
	c := newCrowd(t, running, running.URL(), users)
	stopConnecting := c.connect(c.members[0].client.Session().AccessToken)
	c.poll()
	c.send(senders, 5*time.Millisecond)
	c.flows("before", 200)

	succeed := func() *process.Server {
		next := gateway("--takeover")
		next.Address, next.Admin = running.Address, running.Admin
		next.Launch()
		return next
	}
	// A successor that does not come up changes nothing.
	succeed().Kill()
	c.flows("after a successor was killed", 200)
	servers := []*process.Server{running}
	for range 2 {
		next := succeed()
		began := time.Now()
		if code := running.Exit(); code != 0 {
			t.Fatalf("the predecessor ended with %d", code)
		}
		t.Logf("progress: succeeded in %d ms", time.Since(began).Milliseconds())
		running = next
		servers = append(servers, next)
		c.flows("after the upgrade", 200)
	}
	calls := stopConnecting()
	acked := c.judge(senders)
	t.Logf("progress: %d acknowledged, %d new connections, the slowest send took %d ms",
		acked, calls, time.Duration(c.slowest.Load()).Milliseconds())
	for _, server := range append(servers, talk) {
		for _, complaint := range server.Complaints() {
			t.Errorf("complaint: %s", complaint)
		}
	}
}

// TestEverybodyComesBack kills a gateway that holds 2,000 polls and starts it
// again: all of them are held again, and messages go on.
func TestEverybodyComesBack(t *testing.T) {
	const users, senders = 2000, 4
	address := freeAddress(t)
	config := generous + "data: {shards: 16}\ncluster: {membership: static, members: \"talk-1=" + address + "\"}\n"
	talk := node(t, "talk", "talk-1", address, config)
	talk.Start()
	gateway := node(t, "gateway", "gateway-1", freeAddress(t), config)
	gateway.Start()
	c := newCrowd(t, gateway, gateway.URL(), users)
	c.poll()
	allHeld := func() time.Duration {
		t.Helper()
		began := time.Now()
		for gateway.Metric("tegami_polls_held") < users {
			if time.Since(began) > hangLimit {
				t.Fatalf("%v polls are held", gateway.Metric("tegami_polls_held"))
			}
			<-time.After(20 * time.Millisecond)
		}
		return time.Since(began)
	}
	allHeld()
	gateway.Kill()
	gateway.Start()
	took := allHeld()
	c.forget()
	c.send(senders, 5*time.Millisecond)
	c.flows("with all back", 500)
	c.judge(senders)
	t.Logf("progress: all %d polls are held again %d ms after the gateway was", users, took.Milliseconds())
	if shed := gateway.Sum("tegami_shed_total"); shed != 0 {
		t.Errorf("%v were refused", shed)
	}
	for _, server := range []*process.Server{talk, gateway} {
		for _, complaint := range server.Complaints() {
			t.Errorf("complaint: %s", complaint)
		}
	}
}
