package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
)

// On SIGTERM each held poll is answered with an empty page, nothing that was
// acknowledged is lost, and the process ends.
func TestDraining(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	alice.send(text("bob", "before"))
	polls := []*held{alice.poll(1, long), bob.poll(1, long)}
	awaitHeld(t, server, 2)

	begin := time.Now()
	server.Signal(syscall.SIGTERM)
	for _, poll := range polls {
		if page := poll.page(draining); len(page.GetOps()) != 0 || page.GetRevision() != 1 {
			t.Errorf("drained with %v, want an empty page at the same cursor", page)
		}
	}
	answered := time.Since(begin)
	if code := server.Exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("progress: polls were drained after %d ms, the process ended after %d ms (the promise: 5 s)",
		answered.Milliseconds(), time.Since(begin).Milliseconds())

	server.Start()
	if got := texts(bob.fetch(0)); !slices.Equal(got, []string{"before"}) {
		t.Errorf("bob reads %v", got)
	}
}

// An interrupt from the terminal is the same.
func TestInterrupt(t *testing.T) {
	server := start(t)
	server.Signal(os.Interrupt)
	if code := server.Exit(); code != 0 {
		t.Errorf("exit code %d after an interrupt", code)
	}
}

func TestKillLosesNothing(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	tablet := device(t, server, "bob", "tablet")
	poll := bob.poll(0, long)
	awaitHeld(t, server, 1)
	sent := alice.send(withID(text("bob", "one"), "1"))
	if got := texts(poll.page(operations)); !slices.Equal(got, []string{"one"}) {
		t.Errorf("before: bob got %v", got)
	}
	server.Kill()
	server.Start()
	if got := tablet.fetch(0); !slices.Equal(texts(got), []string{"one"}) || message(got.GetOps()[0]).GetMessageId() != sent.GetMessageId() {
		t.Errorf("after: bob's tablet got %v", got)
	}
	poll = bob.poll(1, long)
	awaitHeld(t, server, 1)
	alice.send(text("bob", "two"))
	if page := poll.page(operations); page.GetRevision() != 2 || page.GetOps()[0].GetRevision() != 2 {
		t.Errorf("the next revision is %d, want 2", page.GetRevision())
	}
}

// One process at a time on a data folder; the second says so and ends.
func TestDataFolderIsLocked(t *testing.T) {
	server := start(t)
	alice := signIn(t, server, "alice")[0]
	second := process.New(t, process.Options{Binary: process.Build(t, "-race"), Data: server.Data()})
	second.Launch()
	if code := second.Exit(); code == 0 {
		t.Error("the second process ended well")
	}
	if !strings.Contains(second.Log(), server.Data()) {
		t.Errorf("it does not name the folder:\n%s", second.Log())
	}
	alice.send(text("alice", "still here"))
}

// The folder that the server makes is its owner's alone; inside, so is every
// key, for the case that the folder was there before and is open to others.
func TestKeysAreForTheOwnerOnly(t *testing.T) {
	server := process.Start(t, process.Options{Binary: process.Build(t, "-race"), Data: filepath.Join(t.TempDir(), "made", "data")})
	conclude(t, server)
	signIn(t, server, "alice")[0].send(text("alice", "note"))
	closed := func(path string) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %o: others may use it", path, mode)
		}
	}
	closed(server.Data())
	closed(filepath.Join(server.Data(), "keys"))
	files, err := os.ReadDir(server.Data())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := file.Name(); strings.Contains(name, "key") || strings.Contains(name, "token") {
			closed(filepath.Join(server.Data(), name))
		}
	}
}

// No body lies on disk in the clear.
func TestBodiesAreSealedOnDisk(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	const body = "a body that is easy to find"
	users[0].send(text("bob", body))
	users[1].fetch(0)
	server.Stop()
	found := 0
	err := filepath.WalkDir(server.Data(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), body) {
			t.Errorf("%s holds a body in the clear", path)
		}
		if strings.Contains(string(content), "alice") {
			found++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("no file names alice: the search finds nothing and proves nothing")
	}
}

// What must not start says why, and which setting is meant.
func TestRefusesToStart(t *testing.T) {
	for _, test := range []struct {
		name, config string
		flags        []string
		says         string
	}{
		{name: "wide without TLS", flags: []string{"--listen", "0.0.0.0:0"}, says: "allow_plaintext"},
		{name: "wide admin", flags: []string{"--admin", "0.0.0.0:0"}, says: "admin.allow_plaintext"},
		{name: "unknown key", config: "server: {colour: red}", says: "colour"},
		{name: "unknown section", config: "colours: {}", says: "colours"},
		{name: "wrong type", config: "limits: {send_rate: many}", says: "send_rate"},
		{name: "certificate without key", config: "tls: {cert: x.pem}", says: "tls.key"},
		{name: "unknown durability", config: "journal: {durability: maybe}", says: "durability"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := process.New(t, process.Options{Binary: process.Build(t, "-race"), Config: test.config + "\n", Flags: test.flags})
			server.Launch()
			if code := server.Exit(); code == 0 {
				t.Error("it ended well")
			}
			if !strings.Contains(server.Log(), test.says) {
				t.Errorf("it does not speak of %q:\n%s", test.says, server.Log())
			}
		})
	}
}
