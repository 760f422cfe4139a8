package fleet

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/actors/heat"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/config"
)

const token = "0123456789abcdef"

// node is an admin listener that answers as one of a node does, with a clock that
// is ahead.
func node(t *testing.T, name string, role cluster.Role, ahead time.Duration, busy heat.Busy) cluster.Member {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+InfoPath, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(Info{Name: name, Role: role, Time: time.Now().Add(ahead)})
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("# HELP tegami_shards Shards.\n# TYPE tegami_shards gauge\ntegami_shards{state=\"open\"} 7\ntegami_shards{state=\"halted\"} 1\ntegami_polls_held 3\n"))
	})
	mux.HandleFunc("GET "+BusyPath, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "the admin token is needed", http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(busy)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return cluster.Member{ID: name + ".1", Name: name, Role: role, Admin: server.Listener.Addr().String()}
}

func TestNodesSayHowTheyAre(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	nodes := Look(t.Context(), http.DefaultClient, []cluster.Member{
		node(t, "talk-1", cluster.RoleTalk, 0, heat.Busy{}),
		node(t, "talk-2", cluster.RoleTalk, time.Hour, heat.Busy{}),
		{ID: "talk-3.1", Name: "talk-3", Role: cluster.RoleTalk, Admin: gone.Listener.Addr().String()},
		{ID: "talk-4.1", Name: "talk-4", Role: cluster.RoleTalk},
	})
	for i, want := range []struct {
		ahead time.Duration
		err   string
	}{{ahead: 0}, {ahead: time.Hour}, {err: "connect"}, {err: "does not tell"}} {
		n := nodes[i]
		if want.err != "" {
			if n.Err == nil || !strings.Contains(n.Err.Error(), want.err) {
				t.Errorf("%s: %v, want an error with %q", n.Name, n.Err, want.err)
			}
			continue
		}
		if n.Err != nil || n.Info.Name != n.Name {
			t.Errorf("%s: %+v, %v", n.Name, n.Info, n.Err)
		}
		if skew := (n.Ahead - want.ahead).Abs(); skew > n.Within {
			t.Errorf("%s is %v ahead, give or take %v, want %v", n.Name, n.Ahead, n.Within, want.ahead)
		}
		if got := n.Metrics.Sum("tegami_shards", `state="open"`); got != 7 {
			t.Errorf("%s has %v shards open", n.Name, got)
		}
	}
}

func TestMetrics(t *testing.T) {
	m, err := ReadMetrics(strings.NewReader("# HELP a b\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4.5\nab 9\n\nb +Inf\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"a", nil, 7.5}, {"a", []string{`y="2"`}, 3}, {"a", []string{`x="1"`, `y="3"`}, 4.5}, {"a", []string{`y="4"`}, 0}, {"ab", nil, 9}, {"c", nil, 0},
	} {
		if got := m.Sum(test.name, test.labels...); got != test.want {
			t.Errorf("the sum of %s %v is %v, want %v", test.name, test.labels, got, test.want)
		}
	}
	if _, err := ReadMetrics(strings.NewReader("<html> no metrics\n")); err == nil {
		t.Error("a page that holds no metrics was taken for some")
	}
}

func TestBusiestOfAllNodes(t *testing.T) {
	members := []cluster.Member{
		node(t, "talk-1", cluster.RoleTalk, 0, heat.Busy{Seconds: 10, Shards: []heat.Shard{{Shard: 1, Writes: 5}, {Shard: 2, Writes: 1}}, Mailboxes: []heat.Mailbox{{Name: "a", Shard: 1, Count: 5}}}),
		node(t, "talk-2", cluster.RoleTalk, 0, heat.Busy{Seconds: 10, Shards: []heat.Shard{{Shard: 3, Reads: 3}}, Mailboxes: []heat.Mailbox{{Name: "b", Shard: 3, Count: 9}}}),
		node(t, "gateway-1", cluster.RoleGateway, 0, heat.Busy{Shards: []heat.Shard{{Shard: 9, Writes: 99}}}),
	}
	top, failed := Busiest(t.Context(), http.DefaultClient, token, 2, members)
	if len(failed) > 0 {
		t.Fatal(failed)
	}
	want := Top{
		Seconds:   10,
		Shards:    []Shard{{heat.Shard{Shard: 1, Writes: 5}, "talk-1"}, {heat.Shard{Shard: 3, Reads: 3}, "talk-2"}},
		Mailboxes: []heat.Mailbox{{Name: "b", Shard: 3, Count: 9}, {Name: "a", Shard: 1, Count: 5}},
	}
	if diff := cmp.Diff(want, top); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, failed := Busiest(t.Context(), http.DefaultClient, "wrong", 2, members); len(failed) != 2 || !strings.Contains(failed[0].Error(), "401") {
		t.Errorf("with a wrong token: %v", failed)
	}
}

// A key that is renamed must not fall silent.
func TestSettingsAreKeys(t *testing.T) {
	c := config.Default()
	for key, value := range Settings(&c, cluster.RoleTalk) {
		if value == "" && !MayDiffer(key) {
			t.Errorf("%s has no value", key)
		}
	}
	if got := Settings(&c, cluster.RoleGateway); got["data.shards"] != "256" || got["kafka.topic"] != "" {
		t.Errorf("a gateway has to agree on %v", got)
	}
}
