package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/actors/node"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/transfer"
)

const shards = 4

// patience bounds every wait.
const patience = 20 * time.Second

// place is a data folder that a node can run on.
type place struct {
	*embedded.Storage
	t     *testing.T
	cache *memory.Cache
}

func newPlace(t *testing.T, shards int) *place {
	t.Helper()
	data, err := embedded.Open(embedded.Options{Dir: t.TempDir(), Shards: shards, Durability: persistence.DurabilityOS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = data.Close() })
	return &place{Storage: data, t: t, cache: memory.NewCache()}
}

func (p *place) context() context.Context {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	p.t.Cleanup(cancel)
	return ctx
}

// run runs a node on the place while f does something with it, and drains it.
func (p *place) run(f func(n *node.Node)) {
	p.t.Helper()
	n, err := node.Start(node.Options{Journal: p.Journal, Store: p.Store, Keys: p.Keys, Cache: p.cache, Shards: p.Shards})
	if err != nil {
		p.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !n.Ready(); {
		if time.Now().After(deadline) {
			p.t.Fatal("not ready in time")
		}
		<-time.After(time.Millisecond)
	}
	f(n)
	if err := errors.Join(n.Drain(p.context()), n.Close()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) send(n *node.Node, from, to, id string) talk.Sent {
	p.t.Helper()
	answers := make(chan error, 1)
	var sent talk.Sent
	n.Send(p.context(), talk.Send{
		From: from, FromDevice: "phone", To: to, ClientMessageID: id, Body: talk.Body{Text: id},
		Answer: func(s talk.Sent, err error) {
			sent = s
			answers <- err
		},
	})
	if err := <-answers; err != nil {
		p.t.Fatalf("%s to %s: %v", from, to, err)
	}
	return sent
}

var users = []string{"alice", "bob", "carol", "dave"}

// inhabit has users write to each other, and returns the answers by id.
func (p *place) inhabit() map[string]talk.Sent {
	sent := map[string]talk.Sent{}
	p.run(func(n *node.Node) {
		for _, user := range users {
			if _, err := n.CreateAccounts(p.context(), []talk.NewAccount{{User: user}}); err != nil {
				p.t.Fatal(err)
			}
		}
		for _, from := range users {
			for _, to := range users {
				id := from + " to " + to
				sent[id] = p.send(n, from, to, id)
			}
			session, favorite := talk.Session{User: from, Device: "phone"}, true
			if err := n.EditContact(p.context(), session, "dave", talk.ContactEdit{Favorite: &favorite}); err != nil && from != "dave" {
				p.t.Fatal(err)
			}
			if _, err := n.Invite(p.context(), session); err != nil { // a part whose key is no text
				p.t.Fatal(err)
			}
		}
	})
	return sent
}

func (p *place) source() transfer.Source {
	return transfer.Source{Journal: p.Journal, Store: p.Store, Keys: p.Keys, Shards: p.Shards, Secrets: map[string][]byte{"signing.key": []byte("secret")}}
}

func (p *place) target() transfer.Target {
	places, err := cluster.NewMap(p.Shards, cluster.Snapshot{})
	if err != nil {
		p.t.Fatal(err)
	}
	return transfer.Target{Journal: p.Journal, Store: p.Store, Keys: p.Keys, Cache: p.cache, Shards: p.Shards, ShardOf: places.Shard}
}

func (p *place) export(selection transfer.Selection) []byte {
	p.t.Helper()
	var file bytes.Buffer
	if _, err := transfer.Export(p.context(), p.source(), selection, &file, nil); err != nil {
		p.t.Fatal(err)
	}
	return file.Bytes()
}

var all = transfer.Selection{UpTo: shards}

// checksums returns a checksum of all that is stored of each mailbox.
func (p *place) checksums() map[string]string {
	p.t.Helper()
	sums := map[string]string{}
	for shard := range uint32(p.Shards) {
		contents := map[string]*strings.Builder{}
		err := p.Store.Scan(p.context(), shard, func(item *persistence.Item) error {
			if contents[item.Mailbox] == nil {
				contents[item.Mailbox] = &strings.Builder{}
			}
			_, _ = fmt.Fprintf(contents[item.Mailbox], "%+v\n", *item)
			return item.Err
		})
		if err != nil {
			p.t.Fatal(err)
		}
		for name, content := range contents {
			key, err := p.Keys.Get(p.context(), name)
			if err != nil {
				p.t.Fatal(err)
			}
			sums[name] = fmt.Sprintf("%x %x", sha256.Sum256([]byte(content.String())), key)
		}
	}
	return sums
}

func TestWhatIsImportedIsWhatWasExported(t *testing.T) {
	from, to := newPlace(t, shards), newPlace(t, shards)
	sent := from.inhabit()
	file := from.export(all)
	counts, secrets, err := transfer.Import(to.context(), to.target(), bytes.NewReader(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := transfer.Counts{Mailboxes: 4, Rows: 16 + 12 + 3, Dedup: 4 + 16 + 4 + 4, Sources: 12, StateParts: 3 + 16 + 4}
	if counts != want || string(secrets["signing.key"]) != "secret" {
		t.Errorf("imported %+v with secrets %q", counts, secrets)
	}
	if diff := cmp.Diff(from.checksums(), to.checksums()); diff != "" {
		t.Error(diff)
	}
	to.run(func(n *node.Node) {
		for id, first := range sent {
			sender, recipient, _ := strings.Cut(id, " to ")
			if again := to.send(n, sender, recipient, id); again != first {
				t.Errorf("%s, again: %+v, want %+v", id, again, first)
			}
		}
		to.send(n, "alice", "bob", "new")
		for user, want := range map[string]int64{"alice": 9, "bob": 9, "carol": 8} {
			if head, err := n.Head(to.context(), user); err != nil || head.Revision != want {
				t.Errorf("the head of %s is %d, %v; want %d", user, head.Revision, err, want)
			}
		}
	})
	// And from there on, to a third.
	third := newPlace(t, shards)
	if _, _, err := transfer.Import(t.Context(), third.target(), bytes.NewReader(to.export(all)), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(to.checksums(), third.checksums()); diff != "" {
		t.Error(diff)
	}
}

// A mailbox alone takes its sources along: what comes from them next is above.
func TestOneMailboxIsMoved(t *testing.T) {
	from, to := newPlace(t, shards), newPlace(t, shards)
	from.inhabit()
	target := to.target()
	shard := target.ShardOf("bob")
	file := from.export(transfer.Selection{From: shard, UpTo: shard + 1, Mailbox: "bob"})
	counts, _, err := transfer.Import(t.Context(), target, bytes.NewReader(file), nil)
	if err != nil || counts.Mailboxes != 1 {
		t.Fatalf("%+v, %v", counts, err)
	}
	to.run(func(n *node.Node) {
		if _, err := n.CreateAccounts(to.context(), []talk.NewAccount{{User: "alice"}}); err != nil {
			t.Fatal(err)
		}
		to.send(n, "bob", "alice", "from the new place") // bob's copy comes from alice, who was elsewhere
		if head, err := n.Head(to.context(), "bob"); err != nil || head.Revision != counts.Rows+1 {
			t.Errorf("head %+v, %v; want %d", head, err, counts.Rows+1)
		}
	})
	_, err = transfer.Export(t.Context(), from.source(), transfer.Selection{From: 0, UpTo: 1, Mailbox: "nobody"}, &bytes.Buffer{}, nil)
	if !errors.Is(err, persistence.ErrNotFound) {
		t.Errorf("nobody is exported: %v", err)
	}
}

func TestAFileIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	from := newPlace(t, shards)
	from.inhabit()
	file := from.export(all)
	flipped := bytes.Clone(file)
	flipped[len(flipped)/2] ^= 1
	for _, c := range []struct {
		name string
		file []byte
	}{
		{"empty", nil},
		{"another kind", []byte("PK\x03\x04 and more")},
		{"cut off", file[:len(file)-1]},
		{"cut off in the middle", file[:len(file)/2]},
		{"continued", append(bytes.Clone(file), 0)},
		{"damaged", flipped},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := newPlace(t, shards)
			_, _, err := transfer.Import(t.Context(), to.target(), bytes.NewReader(c.file), nil)
			if !errors.Is(err, transfer.ErrFile) {
				t.Errorf("error %v", err)
			}
			if sums := to.checksums(); len(sums) != 0 {
				t.Errorf("written: %v", sums)
			}
		})
	}
	to := newPlace(t, shards+1)
	if _, _, err := transfer.Import(t.Context(), to.target(), bytes.NewReader(file), nil); err == nil || !strings.Contains(err.Error(), "data.shards: 4") {
		t.Errorf("another number of shards: %v", err)
	}
}

func TestATargetThatHasAMailboxIsLeftAlone(t *testing.T) {
	from, to := newPlace(t, shards), newPlace(t, shards)
	from.inhabit()
	to.inhabit()
	before := to.checksums()
	_, _, err := transfer.Import(t.Context(), to.target(), bytes.NewReader(from.export(all)), nil)
	if !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, to.checksums()); diff != "" {
		t.Error(diff)
	}
}

// One mailbox that is there keeps all others of the file out.
func TestAnImportThatIsRefusedWritesNothing(t *testing.T) {
	from, to := newPlace(t, shards), newPlace(t, shards)
	from.inhabit()
	shard := to.target().ShardOf("bob")
	other := persistence.MailboxWrite{Mailbox: "bob", Position: persistence.Position{Generation: 1}, State: []byte("another")}
	if err := to.Store.Write(t.Context(), shard, persistence.Batch{Mailboxes: []persistence.MailboxWrite{other}}); err != nil {
		t.Fatal(err)
	}
	_, _, err := transfer.Import(t.Context(), to.target(), bytes.NewReader(from.export(all)), nil)
	if !errors.Is(err, transfer.ErrNotEmpty) {
		t.Errorf("error %v", err)
	}
	for shard := range uint32(shards) {
		if bounds, err := to.Journal.Bounds(t.Context(), shard); err != nil || bounds.Generation > 1 {
			t.Errorf("shard %d: generation %d, %v", shard, bounds.Generation, err)
		}
		err := to.Store.Scan(t.Context(), shard, func(item *persistence.Item) error {
			if item.Mailbox != "bob" || item.Kind != persistence.ItemState {
				t.Errorf("written: %+v", item)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestAnImportMayBeMadeAgain(t *testing.T) {
	from, to := newPlace(t, shards), newPlace(t, shards)
	from.inhabit()
	file := from.export(all)
	for range 2 {
		if _, _, err := transfer.Import(t.Context(), to.target(), bytes.NewReader(file), nil); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(from.checksums(), to.checksums()); diff != "" {
		t.Error(diff)
	}
}

// A mailbox that is more than one write takes comes in several, its state last.
func TestALargeMailboxIsMoved(t *testing.T) {
	from, to := newPlace(t, shards), newPlace(t, shards)
	from.inhabit()
	shard := to.target().ShardOf("bob")
	loaded, err := from.Store.Load(t.Context(), shard, "bob", 100)
	if err != nil {
		t.Fatal(err)
	}
	next := loaded.Position
	next.Generation++
	var rows []persistence.Row
	for revision := range int64(10_000) {
		rows = append(rows, persistence.Row{Revision: revision + 100, Peer: "alice", Data: bytes.Repeat([]byte("x"), 300)})
	}
	err = from.Store.Write(t.Context(), shard, persistence.Batch{
		Highest: loaded.Position, Mailboxes: []persistence.MailboxWrite{{Mailbox: "bob", Position: next, State: loaded.State, Rows: rows}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := transfer.Import(t.Context(), to.target(), bytes.NewReader(from.export(all)), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(from.checksums(), to.checksums()); diff != "" {
		t.Error(diff)
	}
}

// What the journal has and the store has not would be missing.
func TestAStoreThatIsBehindIsNotExported(t *testing.T) {
	from := newPlace(t, shards)
	from.inhabit()
	appended := make(chan error, 1)
	from.Journal.Append(2, [][]byte{{}}, func(_ persistence.Appended, err error) { appended <- err })
	if err := <-appended; err != nil {
		t.Fatal(err)
	}
	_, err := transfer.Export(t.Context(), from.source(), all, &bytes.Buffer{}, nil)
	if !errors.Is(err, transfer.ErrNotStopped) || !strings.Contains(err.Error(), "SIGTERM") {
		t.Errorf("error %v", err)
	}
}
