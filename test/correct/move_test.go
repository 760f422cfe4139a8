package correct

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
)

var movedUsers = []string{"alice", "bob", "carol", "dave", "erin"}

// moved is a store that moves: what was sent, with the answers, and where each
// user's poll is.
type moved struct {
	t       *testing.T
	answers map[*tegamiv1.SendMessageRequest]*tegamiv1.SendMessageResponse
	senders map[*tegamiv1.SendMessageRequest]string
	cursors map[string]int64
	sent    int
}

// live has users send to each other, retry all that they ever sent, and poll
// from where they were.
func (m *moved) live(server *process.Server) {
	m.t.Helper()
	clients := map[string]*process.Client{}
	for _, user := range movedUsers {
		clients[user] = server.Device(user, "phone")
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), hangLimit)
	defer cancel()
	for request, first := range m.answers {
		again := m.send(ctx, clients[m.senders[request]], request)
		if !proto.Equal(first, again) {
			m.t.Errorf("a retry is answered %v, the first time %v", again, first)
		}
	}
	expected := map[string]int64{}
	for range 5 {
		for _, from := range movedUsers {
			for _, to := range movedUsers {
				m.sent++
				request := &tegamiv1.SendMessageRequest{
					To: to, ClientMessageId: fmt.Sprint("m", m.sent), Body: &tegamiv1.SendMessageRequest_Text{Text: fmt.Sprint("text ", m.sent)},
				}
				m.answers[request], m.senders[request] = m.send(ctx, clients[from], request), from
				expected[to]++
				if from != to {
					expected[from]++
				}
			}
		}
	}
	for _, user := range movedUsers {
		for expected[user] > 0 {
			page := new(tegamiv1.FetchOpsResponse)
			fetch := &tegamiv1.FetchOpsRequest{AfterRevision: m.cursors[user], Limit: 100}
			if err := clients[user].Call(ctx, "TalkService/FetchOps", fetch, page); err != nil {
				m.t.Fatalf("%s polls after %d: %v", user, m.cursors[user], err)
			}
			for _, op := range page.GetOps() {
				if m.cursors[user]++; op.GetRevision() != m.cursors[user] {
					m.t.Fatalf("%s got revision %d, and expected %d", user, op.GetRevision(), m.cursors[user])
				}
				expected[user]--
			}
			if len(page.GetOps()) == 0 {
				m.t.Fatalf("%s misses %d operations after %d", user, expected[user], m.cursors[user])
			}
		}
	}
}

func (m *moved) send(ctx context.Context, client *process.Client, request *tegamiv1.SendMessageRequest) *tegamiv1.SendMessageResponse {
	m.t.Helper()
	response := new(tegamiv1.SendMessageResponse)
	if err := client.Call(ctx, "TalkService/SendMessage", request, response); err != nil {
		m.t.Fatal(err)
	}
	return response
}

// TestAStoreIsMovedAndMovedBack begins in a data folder, grows into a hybrid
// store, and comes back.
func TestAStoreIsMovedAndMovedBack(t *testing.T) {
	servers := stack.Start(t, stack.Redis, stack.HBase, stack.Kafka)
	small := fmt.Sprintf("data: {shards: %d}\naudit: {rate: 5000}\n", shards)
	large := configuration(servers, "moved", 100_000)
	newTool(t, large).run("admin", "schema", "apply")
	m := &moved{t: t, answers: map[*tegamiv1.SendMessageRequest]*tegamiv1.SendMessageResponse{}, senders: map[*tegamiv1.SendMessageRequest]string{}, cursors: map[string]int64{}}
	files := t.TempDir()

	first := process.Start(t, process.Options{Binary: process.Build(t), Config: small})
	first.CreateUsers(movedUsers...)
	m.live(first)
	first.Stop()
	before := folderChecksums(t, first.Data())
	newTool(t, small, "--data", first.Data()).run("store", "export", files+"/grow")

	second := process.New(t, process.Options{Binary: process.Build(t), Config: large})
	tl := newTool(t, large, "--data", second.Data(), "--admin", second.Admin)
	if _, code := tl.try("store", "import", files+"/grow"); code != 2 {
		t.Errorf("exit code %d without --offline", code)
	}
	tl.run("store", "import", "--offline", files+"/grow")
	sameChecksums(t, before, hybridChecksums(t, servers, "moved"))
	tl.wantNothing("after the import")
	second.Start()
	if _, code := tl.try("store", "export", "--offline", files+"/served"); code != 1 {
		t.Errorf("exit code %d while a server runs", code)
	}
	m.live(second)
	second.Stop()
	tl.wantNothing("after the server ran on it")
	for _, rebuild := range [][]string{{"--from", "hbase", "--all"}, {"--from", "hbase"}, {"--from", "journal"}} {
		t.Logf("progress: rebuild %v: %s", rebuild, tl.run(append([]string{"store", "rebuild", "--offline"}, rebuild...)...))
		tl.wantNothing(fmt.Sprint("after a rebuild ", rebuild))
	}
	before = hybridChecksums(t, servers, "moved")
	tl.run("store", "export", "--offline", files+"/shrink")

	third := process.New(t, process.Options{Binary: process.Build(t), Config: small, Data: filepath.Join(files, "third")})
	back := newTool(t, small, "--data", third.Data(), "--admin", third.Admin)
	back.run("store", "import", files+"/shrink")
	sameChecksums(t, before, folderChecksums(t, third.Data()))
	third.Start()
	m.live(third)
	third.Stop()
	back.wantNothing("after all")
	for _, server := range []*process.Server{first, second, third} {
		if complaints := server.Complaints(); len(complaints) > 0 {
			t.Errorf("the server complains: %v", complaints)
		}
	}
}

func folderChecksums(t *testing.T, folder string) map[string]string {
	t.Helper()
	data, err := embedded.Open(embedded.Options{Dir: folder, Shards: shards})
	if err != nil {
		t.Fatal(err)
	}
	sums := allChecksums(t, data.Store)
	if err := data.Close(); err != nil {
		t.Fatal(err)
	}
	return sums
}

func hybridChecksums(t *testing.T, servers *stack.Stack, name string) map[string]string {
	t.Helper()
	return allChecksums(t, openHBase(t, servers, name))
}

func allChecksums(t *testing.T, store persistence.Scanner) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the store is not read in time"))
	defer cancel()
	sums := map[string]string{}
	for shard := range uint32(shards) {
		maps.Copy(sums, checksums(ctx, t, store, shard, true))
	}
	return sums
}

func sameChecksums(t *testing.T, want, got map[string]string) {
	t.Helper()
	if len(want) != len(movedUsers) {
		t.Errorf("%d mailboxes were there", len(want))
	}
	for name := range want {
		if want[name] != got[name] {
			t.Errorf("mailbox %s is another:\n%s\nand was\n%s", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d mailboxes, and %d were there", len(got), len(want))
	}
}
