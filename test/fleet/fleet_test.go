// Package fleet runs the local cluster of `make cluster` as a developer does: it
// is started, started again, used through both gateways, loses a node and gets it
// back, and is stopped, with no process left.
package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
)

var nodes = []string{"gateway-1", "gateway-2", "talk-1", "talk-2", "talk-3", "worker-1"}

// fleet is a local cluster in a folder of its own, on ports of its own.
type fleet struct {
	t      *testing.T
	folder string
	port   int
	env    []string
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	servers, err := stack.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, folder: filepath.Join(t.TempDir(), "cluster"), port: freePorts(t)}
	// Its own makefile and flags are those of the make that runs this test.
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "MAKE") && !strings.HasPrefix(variable, "MFLAGS=") {
			f.env = append(f.env, variable)
		}
	}
	f.env = append(f.env, servers.Environ()...)
	f.env = append(f.env,
		"CLUSTER_DIR="+f.folder, "CLUSTER_PORT="+strconv.Itoa(f.port), "CLUSTER_OWNER="+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() {
		if t.Failed() {
			f.showLogs()
		}
		f.make("cluster-down", "WIPE=1")
	})
	return f
}

// freePorts returns the first of 300 ports of which the nodes' are free.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		first, err := stack.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		taken := false
		for offset := 0; offset < 300 && !taken; offset++ {
			taken = listening(first + offset)
		}
		if !taken {
			return first
		}
	}
	t.Fatal("no free ports found")
	return 0
}

func listening(port int) bool {
	connection, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second) //nolint:noctx // it has a limit
	if err != nil {
		return false
	}
	_ = connection.Close()
	return true
}

// try runs a target of the Makefile and returns what it says.
func (f *fleet) try(arguments ...string) (string, error) {
	command := exec.Command("make", append([]string{"--no-print-directory", "-C", "../.."}, arguments...)...) //nolint:noctx // what stops processes must not be stopped with the test
	command.Env = f.env
	output, err := command.CombinedOutput()
	return string(output), err
}

// make runs a target that must succeed.
func (f *fleet) make(arguments ...string) string {
	f.t.Helper()
	output, err := f.try(arguments...)
	if err != nil {
		f.t.Fatalf("make %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return output
}

func (f *fleet) showLogs() {
	for _, node := range nodes {
		content, err := os.ReadFile(filepath.Join(f.folder, node, "log"))
		if err != nil {
			continue
		}
		const shown = 2 << 10
		f.t.Logf("end of the log of %s:\n%s", node, content[max(0, len(content)-shown):])
	}
}

// pid returns the process of a node; 0 when it has none.
func (f *fleet) pid(node string) int {
	f.t.Helper()
	content, err := os.ReadFile(filepath.Join(f.folder, node, "pid"))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		f.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		f.t.Fatal(err)
	}
	return pid
}

// alive reports whether a process runs. One that ended stays, as a zombie, until
// its parent has asked for its result, which is not ours to do.
func alive(pid int) bool {
	if pid == 0 || syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || !strings.HasPrefix(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " Z")
}

// addresses reads cluster.env.
func (f *fleet) addresses() map[string]string {
	f.t.Helper()
	content, err := os.ReadFile(filepath.Join(f.folder, "cluster.env"))
	if err != nil {
		f.t.Fatal(err)
	}
	variables := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			variables[name] = value
		}
	}
	return variables
}

// device signs a user's device in at one gateway.
func (f *fleet) device(gateway int, user string) *process.Client {
	f.t.Helper()
	variables := f.addresses()
	admin := &process.Client{
		HTTP: process.HTTP1(), URL: "http://" + strings.Split(variables["ADMINS"], ",")[gateway],
		Token: variables["ADMIN_TOKEN"], JSON: true,
	}
	defer admin.HTTP.CloseIdleConnections()
	created := new(tegamiv1.CreateUsersResponse)
	if err := admin.Call(f.t.Context(), "AdminService/CreateUsers", &tegamiv1.CreateUsersRequest{Users: []*tegamiv1.NewUser{{UserId: user}}}, created); err != nil {
		f.t.Fatal(err)
	}
	session := new(tegamiv1.IssueTokenResponse)
	if err := admin.Call(f.t.Context(), "AdminService/IssueToken", &tegamiv1.IssueTokenRequest{UserId: user, DeviceId: "phone"}, session); err != nil {
		f.t.Fatal(err)
	}
	// At the other gateway: each knows the keys of all.
	other := strings.Split(variables["GATEWAYS"], ",")[1-gateway]
	client := &process.Client{HTTP: process.HTTP2(), URL: "http://" + other, Token: session.GetAccessToken()}
	f.t.Cleanup(client.HTTP.CloseIdleConnections)
	return client
}

// delivers has a message go from one device to another, whose cursor it moves.
func (f *fleet) delivers(from, to *process.Client, text string, cursor *int64) {
	f.t.Helper()
	request := &tegamiv1.SendMessageRequest{To: "bob", ClientMessageId: text, Body: &tegamiv1.SendMessageRequest_Text{Text: text}}
	if err := from.Call(f.t.Context(), "TalkService/SendMessage", request, new(tegamiv1.SendMessageResponse)); err != nil {
		f.t.Fatalf("send %q: %v", text, err)
	}
	page := new(tegamiv1.FetchOpsResponse)
	if err := to.Call(f.t.Context(), "TalkService/FetchOps", &tegamiv1.FetchOpsRequest{AfterRevision: *cursor, Timeout: durationpb.New(time.Minute)}, page); err != nil {
		f.t.Fatalf("fetch %q: %v", text, err)
	}
	if got := page.GetOps(); len(got) != 1 || got[0].GetReceiveMessage().GetText() != text {
		f.t.Fatalf("fetched %v, want the message %q", got, text)
	}
	*cursor = page.GetRevision()
}

// tegami runs the program on the configuration of the cluster.
func (f *fleet) tegami(arguments ...string) []byte {
	f.t.Helper()
	command := exec.CommandContext(f.t.Context(), "../../bin/tegami", append(arguments, "--config", filepath.Join(f.folder, "tegami.yaml"))...)
	command.Env = append(f.env, "TEGAMI_ADMIN_TOKEN="+f.addresses()["ADMIN_TOKEN"])
	output, err := command.CombinedOutput()
	if err != nil {
		f.t.Fatalf("tegami %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
	return output
}

// looks has the commands for operators look at the cluster.
func (f *fleet) looks() {
	f.t.Helper()
	var status struct {
		Shards  int
		Members []struct {
			Name, Error string
			Seen        struct{ Open int }
		}
	}
	if err := json.Unmarshal(f.tegami("cluster", "status", "--output", "json"), &status); err != nil {
		f.t.Fatal(err)
	}
	open := 0
	for _, m := range status.Members {
		if open += m.Seen.Open; m.Error != "" {
			f.t.Errorf("%s does not say how it is: %s", m.Name, m.Error)
		}
	}
	// While shards move, two nodes have them open.
	if len(status.Members) != 5 || open < status.Shards {
		f.t.Errorf("%d of %d shards are open on %d members", open, status.Shards, len(status.Members))
	}
	if top := string(f.tegami("cluster", "top")); !strings.Contains(top, "Of 64 shards, over 10 s.") {
		f.t.Errorf("the busiest shards:\n%s", top)
	}
	if found := string(f.tegami("doctor", "--cluster")); !strings.Contains(found, "3 talk nodes and 2 gateways are active") {
		f.t.Errorf("the doctor finds:\n%s", found)
	}
}

func TestLocalCluster(t *testing.T) {
	f := newFleet(t)
	f.make("cluster")
	pids := map[string]int{}
	for _, node := range nodes {
		if pids[node] = f.pid(node); !alive(pids[node]) {
			t.Errorf("%s has no process", node)
		}
	}
	t.Log("progress: started")

	alice, bob := f.device(1, "alice"), f.device(0, "bob") // at gateway-1 and gateway-2
	var cursor int64
	f.delivers(alice, bob, "hello", &cursor)

	f.looks()
	again := f.make("cluster")
	for _, node := range nodes {
		if !strings.Contains(again, node+" is up already") || f.pid(node) != pids[node] {
			t.Errorf("%s did not stay what it was:\n%s", node, again)
		}
	}

	f.make("node-down", "NODE=talk-2")
	if alive(pids["talk-2"]) || f.pid("talk-2") != 0 {
		t.Error("talk-2 is still there")
	}
	if got := f.addresses()["TALK_ADMINS"]; strings.Count(got, ",") != 1 {
		t.Errorf("talk nodes answer at %q, want two", got)
	}
	f.delivers(alice, bob, "without talk-2", &cursor)
	f.make("node-up", "NODE=talk-2")
	if got := f.pid("talk-2"); got == pids["talk-2"] || !alive(got) {
		t.Error("talk-2 did not come back")
	}
	f.delivers(alice, bob, "with talk-2", &cursor)
	t.Log("progress: talk-2 went and came back")

	for _, name := range []string{"", "talk", "talk-0", "store-1", "../talk-1"} {
		if output, err := f.try("node-down", "NODE="+name); err == nil || !strings.Contains(output, "gateway-N, talk-N or worker-N") {
			t.Errorf("node-down NODE=%s: %v\n%s", name, err, output)
		}
	}

	for _, node := range nodes {
		pids[node] = f.pid(node)
	}
	f.make("cluster-down")
	for node, pid := range pids {
		if alive(pid) {
			t.Errorf("%s is left, with process %d", node, pid)
		}
	}
	for _, variable := range f.env {
		name, value, _ := strings.Cut(variable, "=")
		if port, err := strconv.Atoi(value); err == nil && strings.HasSuffix(name, "_PORT") && listening(port) {
			t.Errorf("something still listens on %s", variable)
		}
	}
}

func TestATakenPortIsNamed(t *testing.T) {
	f := newFleet(t)
	// Ports are looked at before any server is started.
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(f.port))) //nolint:noctx // it returns at once
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	output, err := f.try("cluster")
	if want := fmt.Sprintf("gateway-1 wants port %d, which is in use", f.port); err == nil || !strings.Contains(output, want) {
		t.Errorf("%v, want %q in\n%s", err, want, output)
	}
	if f.pid("gateway-1") != 0 {
		t.Error("gateway-1 has a process")
	}
}
