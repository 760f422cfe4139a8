package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
)

// A data folder of the release before contacts, with some of it in the store
// and some in the journal only, as kill -9 leaves it, runs on: everything is
// there, and all that is new works for those who were there before.
func TestUpgradeFromVersion1(t *testing.T) {
	folder := t.TempDir()
	if output, err := exec.CommandContext(t.Context(), "tar", "-xzf", filepath.Join("testdata", "version1.tgz"), "-C", folder).CombinedOutput(); err != nil {
		t.Fatal(err, string(output))
	}
	if _, err := os.Stat(filepath.Join(folder, "data", "FORMAT")); err != nil {
		t.Fatal(err)
	}
	server := process.Start(t, process.Options{
		Binary: process.Build(t, "-race"), Data: filepath.Join(folder, "data"), Config: "data: {shards: 2}\n",
	})
	conclude(t, server)
	alice, bob := device(t, server, "alice", "phone"), device(t, server, "bob", "phone")
	old := []string{"written by version 1", "and answered", "and killed"}
	for _, u := range []user{alice, bob} {
		if diff := cmp.Diff(old, texts(u.fetch(0))); diff != "" {
			t.Errorf("%s reads (-want +got):\n%s", u.name, diff)
		}
	}
	alice.send(text("bob", "written by this one"))
	call(bob, "ContactService/Block", &tegamiv1.BlockRequest{UserId: "alice"}, new(tegamiv1.BlockResponse))
	alice.send(text("bob", "into the void"))
	for range 2 {
		if got := bob.head(); got != 5 {
			t.Errorf("bob's head is %d, want 5", got)
		}
		if diff := cmp.Diff([]string{"alice NONE blocked"}, bob.contacts(&tegamiv1.ListContactsRequest{})); diff != "" {
			t.Errorf("bob's contacts (-want +got):\n%s", diff)
		}
		server.Kill()
		server.Start()
	}
}
