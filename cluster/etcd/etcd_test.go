//go:build stores

package etcd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/etcd"
	"github.com/tegami-im/tegami/test/stack"
)

var _ cluster.Membership = (*etcd.Membership)(nil)

// limit is against hanging.
const limit = 30 * time.Second

// lease is the shortest that etcd knows.
const lease = 2 * time.Second

// memberEnv has the test binary be a member of the cluster at the etcd that it
// names: one that can be killed and paused.
const memberEnv = "TEGAMI_TEST_ETCD"

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(memberEnv); endpoint != "" {
		if err := beMember(endpoint); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	stack.Main(m)
}

// beMember joins, says so, and says when it is evicted.
func beMember(endpoint string) error {
	m, err := etcd.Join(context.Background(), etcd.Options{Endpoints: []string{endpoint}, Lease: lease}, member("process"))
	if err != nil {
		return err
	}
	fmt.Println("joined", m.Self().ID)
	<-m.Evicted()
	fmt.Println("evicted", m.Self().ID)
	return m.Leave(context.Background())
}

func member(name string) cluster.Member {
	return cluster.Member{
		Name: name, Address: name + ":7500", Role: cluster.RoleTalk, State: cluster.StateActive,
		Weight: cluster.DefaultWeight, Version: "1.2.3", Apply: 4,
	}
}

func join(t *testing.T, servers *stack.Stack, name string) *etcd.Membership {
	t.Helper()
	return joinAt(t, servers.Addr(stack.Etcd), name)
}

// joinAt joins through an address of etcd.
func joinAt(t *testing.T, address, name string) *etcd.Membership {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	m, err := etcd.Join(ctx, etcd.Options{Endpoints: []string{address}, Lease: lease}, member(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Leave(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return m
}

// watcher is a member or an observer.
type watcher interface {
	Subscribe(func(cluster.Snapshot)) (unsubscribe func())
	Snapshot() cluster.Snapshot
}

// await waits until what is seen is as it should be.
func await(t *testing.T, m watcher, what string, seen func(cluster.Snapshot) bool) {
	t.Helper()
	done := make(chan struct{}, 1)
	defer m.Subscribe(func(s cluster.Snapshot) {
		if seen(s) {
			select {
			case done <- struct{}{}:
			default:
			}
		}
	})()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s: not seen within %v; the members are %v", what, limit, m.Snapshot())
	}
}

func among(ids ...string) func(cluster.Snapshot) bool {
	slices.Sort(ids)
	return func(s cluster.Snapshot) bool {
		var all []string
		for _, m := range s.Members {
			all = append(all, m.ID)
		}
		return slices.Equal(all, ids)
	}
}

func TestAnObserverSeesMembersAndIsNone(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one := join(t, servers, "one")
	seen, err := etcd.Observe(t.Context(), etcd.Options{Endpoints: []string{servers.Addr(stack.Etcd)}})
	if err != nil {
		t.Fatal(err)
	}
	two := join(t, servers, "two")
	await(t, seen, "both", among(one.Self().ID, two.Self().ID))
	await(t, one, "both", among(one.Self().ID, two.Self().ID))
	if err := errors.Join(seen.Close(), seen.Close()); err != nil {
		t.Error(err)
	}
}

func isEvicted(m *etcd.Membership) bool {
	select {
	case <-m.Evicted():
		return true
	default:
		return false
	}
}

func TestMembersSeeEachOtherComeChangeAndGo(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one := join(t, servers, "one")
	if !among(one.Self().ID)(one.Snapshot()) {
		t.Fatalf("a new member sees %v", one.Snapshot())
	}
	two := join(t, servers, "two")
	for _, m := range []*etcd.Membership{one, two} {
		await(t, m, "both", among(one.Self().ID, two.Self().ID))
	}
	if got, _ := one.Snapshot().Member(two.Self().ID); got != two.Self() {
		t.Errorf("a member is %+v, and is seen as %+v", two.Self(), got)
	}
	before := one.Snapshot().Revision
	if err := two.SetState(t.Context(), cluster.StateDraining); err != nil {
		t.Fatal(err)
	}
	await(t, one, "draining", func(s cluster.Snapshot) bool {
		m, ok := s.Member(two.Self().ID)
		return ok && m.State == cluster.StateDraining && s.Revision > before
	})
	if err := two.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, one, "one", among(one.Self().ID))
	if isEvicted(two) {
		t.Error("a member that left was evicted")
	}
	again := join(t, servers, "two")
	if again.Self().ID == two.Self().ID {
		t.Error("a member returned under its old id")
	}
}

func TestAMemberThatWasRemovedIsEvicted(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one, two := join(t, servers, "one"), join(t, servers, "two")
	edit(t, servers, clientv3.OpDelete("tegami/members/"+two.Self().ID))
	select {
	case <-two.Evicted():
	case <-time.After(limit):
		t.Fatal("not evicted")
	}
	if err := two.SetState(t.Context(), cluster.StateDraining); !errors.Is(err, cluster.ErrEvicted) {
		t.Errorf("its state was set: %v", err)
	}
	await(t, one, "one", among(one.Self().ID))
}

func TestWhatIsNoMemberIsLeftOut(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one := join(t, servers, "one")
	edit(t, servers, clientv3.OpPut("tegami/members/x", "not JSON"))
	edit(t, servers, clientv3.OpPut("tegami/members/y", `{"name":"y","address":"y:1","role":"king","state":"active","weight":1}`))
	edit(t, servers, clientv3.OpPut("tegami/members/z", `{"name":"z","address":"z:1","role":"talk","state":"active","weight":1,"later":true}`))
	await(t, one, "z", among(one.Self().ID, "z"))
	if isEvicted(one) {
		t.Error("evicted")
	}
}

// edit does to etcd what no member does.
func edit(t *testing.T, servers *stack.Stack, operation clientv3.Op) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{servers.Addr(stack.Etcd)}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Do(t.Context(), operation); err != nil {
		t.Fatal(err)
	}
}

// process is a member in a process of its own.
type process struct {
	t       *testing.T
	command *exec.Cmd
	output  *bufio.Scanner
}

func startProcess(t *testing.T, servers *stack.Stack) *process {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), memberEnv+"="+servers.Addr(stack.Etcd))
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, command: command, output: bufio.NewScanner(output)}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return p
}

// says waits for a line that begins so and returns its rest.
func (p *process) says(what string) string {
	p.t.Helper()
	for p.output.Scan() {
		if rest, ok := strings.CutPrefix(p.output.Text(), what+" "); ok {
			return rest
		}
	}
	p.t.Fatalf("the process ended before it said %q", what)
	return ""
}

func (p *process) signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
}

func TestAMemberThatDiedIsGoneWhenItsLeaseEnds(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one, other := join(t, servers, "one"), startProcess(t, servers)
	await(t, one, "both", among(one.Self().ID, other.says("joined")))
	killed := time.Now()
	other.signal(syscall.SIGKILL)
	await(t, one, "one", among(one.Self().ID))
	t.Logf("gone %v after it was killed, with a lease of %v", time.Since(killed).Round(time.Millisecond), lease)
}

func TestAMemberThatSleptLearnsThatItWasEvicted(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one, other := join(t, servers, "one"), startProcess(t, servers)
	id := other.says("joined")
	await(t, one, "both", among(one.Self().ID, id))
	other.signal(syscall.SIGSTOP)
	await(t, one, "one", among(one.Self().ID))
	other.signal(syscall.SIGCONT)
	woken := time.Now()
	if got := other.says("evicted"); got != id {
		t.Errorf("%s was evicted, want %s", got, id)
	}
	t.Logf("it knew %v after it woke", time.Since(woken).Round(time.Millisecond))
}

// While etcd is away, and when it is back, everyone stays a member: etcd gives
// each lease its whole time again when it starts.
func TestNobodyIsEvictedByAnOutageOfEtcd(t *testing.T) {
	servers := stack.Start(t, stack.Etcd)
	one, two := join(t, servers, "one"), join(t, servers, "two")
	ids := []string{one.Self().ID, two.Self().ID}
	await(t, one, "both", among(ids...))
	for range 2 {
		servers.Kill(t, stack.Etcd)
		<-time.After(3 * lease) // what it tests is that the leases would have ended
		if !among(ids...)(one.Snapshot()) {
			t.Errorf("while etcd is away the members are %v", one.Snapshot())
		}
		servers.Up(t, stack.Etcd)
		<-time.After(2 * lease) // and that they go on
		for _, m := range []*etcd.Membership{one, two} {
			if isEvicted(m) || !among(ids...)(m.Snapshot()) {
				t.Fatalf("after an outage of etcd the members are %v", m.Snapshot())
			}
		}
	}
	three := join(t, servers, "three")
	await(t, one, "three", among(append(ids, three.Self().ID)...))
	await(t, two, "three", among(append(ids, three.Self().ID)...))
}

func TestJoinRefusesWhatCannotWork(t *testing.T) {
	good := etcd.Options{Endpoints: []string{"127.0.0.1:1"}}
	for name, test := range map[string]struct {
		change func(*etcd.Options)
		member cluster.Member
	}{
		"no endpoints":    {func(o *etcd.Options) { o.Endpoints = nil }, member("m")},
		"a short lease":   {func(o *etcd.Options) { o.Lease = time.Second }, member("m")},
		"a broken lease":  {func(o *etcd.Options) { o.Lease = 2500 * time.Millisecond }, member("m")},
		"no such role":    {func(*etcd.Options) {}, cluster.Member{Name: "m", Address: "m:1"}},
		"nobody answers":  {func(*etcd.Options) {}, member("m")},
		"a wrong address": {func(o *etcd.Options) { o.Endpoints = []string{"\x00"} }, member("m")},
	} {
		t.Run(name, func(t *testing.T) {
			options := good
			test.change(&options)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if _, err := etcd.Join(ctx, options, test.member); err == nil {
				t.Error("no error")
			}
		})
	}
}
