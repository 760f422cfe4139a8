package telemetry

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/authority"
	"github.com/tegami-im/tegami/cluster/remote"
)

func TestMembersAreCountedByRoleAndState(t *testing.T) {
	m := New()
	m.WatchMembers(func() cluster.Snapshot {
		return cluster.Snapshot{Members: []cluster.Member{
			{Role: cluster.RoleTalk, State: cluster.StateActive},
			{Role: cluster.RoleTalk, State: cluster.StateActive},
			{Role: cluster.RoleTalk, State: cluster.StateDraining},
			{Role: cluster.RoleGateway, State: cluster.StateActive},
		}}
	})
	want := []string{
		`tegami_cluster_members{role="gateway",state="active"} 1`,
		`tegami_cluster_members{role="gateway",state="draining"} 0`,
		`tegami_cluster_members{role="gateway",state="joining"} 0`,
		`tegami_cluster_members{role="talk",state="active"} 2`,
		`tegami_cluster_members{role="talk",state="draining"} 1`,
		`tegami_cluster_members{role="talk",state="joining"} 0`,
	}
	if diff := cmp.Diff(want, scrape(t, m, "tegami_cluster_members")); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestVersionIsTold(t *testing.T) {
	m := New()
	m.WatchBuild("v1.2.3", 7)
	want := []string{`tegami_build_info{apply="7",version="v1.2.3"} 1`}
	if diff := cmp.Diff(want, scrape(t, m, "tegami_build_info")); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// A certificate that was replaced is seen, and one that is not to be read alarms.
func TestCertificatesTellWhenTheyEnd(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "talk-1.pem")
	m := New()
	m.WatchCertificates(map[string]string{"cluster": file})
	scraped := func(want string) {
		t.Helper()
		if diff := cmp.Diff([]string{want}, scrape(t, m, "tegami_certificate_expires_seconds")); diff != "" {
			t.Errorf("metrics (-want +got):\n%s", diff)
		}
	}
	scraped(`tegami_certificate_expires_seconds{of="cluster"} 0`)
	if err := authority.Create(dir); err != nil {
		t.Fatal(err)
	}
	for _, valid := range []time.Duration{time.Hour, 48 * time.Hour} {
		identity := remote.Identity{Role: cluster.RoleTalk, Name: "talk-1"}
		if err := authority.Issue(dir, identity, []string{"127.0.0.1"}, valid); err != nil {
			t.Fatal(err)
		}
		ends, err := expiry(file)
		if err != nil {
			t.Fatal(err)
		}
		scraped(fmt.Sprintf(`tegami_certificate_expires_seconds{of="cluster"} %v`, float64(ends.Unix())))
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	scraped(`tegami_certificate_expires_seconds{of="cluster"} 0`)
}
