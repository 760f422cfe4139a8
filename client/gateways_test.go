package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/client"
)

// world is a server that is reached at several gateways, some of them far.
type world struct {
	*fakeServer

	mu       sync.Mutex // guards the following
	gateways []string   // that are listed
	away     map[string]time.Duration
	down     map[string]bool
	calls    map[string]int // but for probes and lists
}

func newWorld(gateways map[string]time.Duration) *world {
	w := &world{fakeServer: newFakeServer(), away: gateways, down: map[string]bool{}, calls: map[string]int{}}
	for host := range gateways {
		w.gateways = append(w.gateways, "http://"+host)
	}
	return w
}

// RoundTrip serves a request in place of a network.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	trip, known := w.away[r.URL.Host]
	listed, down := w.gateways, w.down[r.URL.Host] || !known
	if r.URL.Path != "/probe" && r.URL.Path != "/tegami.v1.GatewayService/ListGateways" {
		w.calls[r.URL.Host]++
	}
	w.mu.Unlock()
	select {
	case <-time.After(2 * trip):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if down {
		return nil, errors.New("connection refused")
	}
	recorder := httptest.NewRecorder()
	switch r.URL.Path {
	case "/probe":
		return recorder.Result(), nil
	case "/tegami.v1.GatewayService/ListGateways":
		response := new(tegamiv1.ListGatewaysResponse)
		for _, address := range listed {
			response.Gateways = append(response.Gateways, &tegamiv1.Gateway{Address: address, ProbePath: "/probe"})
		}
		answer(recorder, response)
		return recorder.Result(), nil
	}
	return w.fakeServer.RoundTrip(r)
}

func (w *world) set(host string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[host] = down
}

// called returns the gateways that calls were made to since it was last asked.
func (w *world) called() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = map[string]int{}
	return calls
}

func (w *world) login(t *testing.T, server string) *client.Client {
	t.Helper()
	c, err := client.Login(t.Context(), server, "alice", "secret", client.WithHTTPClient(&http.Client{Transport: w}), client.WithNearestGateway())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func only(calls map[string]int, host string) bool { return len(calls) == 1 && calls[host] > 0 }

// A client takes the nearest gateway, stays, and moves when that fails; it does
// not come back by itself, which would have all come back at once.
func TestTheNearestGatewayIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(map[string]time.Duration{"tokyo": 5 * time.Millisecond, "singapore": 40 * time.Millisecond, "frankfurt": 120 * time.Millisecond})
		c := w.login(t, "http://frankfurt")
		head := func(want string) {
			t.Helper()
			for range 3 {
				if _, _, err := c.Head(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := w.called(); !only(got, want) {
				t.Errorf("called %v, want %s", got, want)
			}
		}
		head("tokyo")
		w.set("tokyo", true)
		if _, _, err := c.Head(t.Context()); client.CodeOf(err) != client.CodeUnavailable {
			t.Errorf("a call to a gateway that is gone: %v", err)
		}
		w.called()
		head("singapore")
		w.set("tokyo", false)
		<-time.After(time.Hour)
		head("singapore")
		w.set("singapore", true)
		if _, err := c.Send(t.Context(), "alice", "goes on by itself"); err != nil {
			t.Error(err)
		}
		w.called()
		head("tokyo")
	})
}

// The one that the client knows from elsewhere is lost with its region: those that
// it was told of before do.
func TestTheKnownServerMayBeLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(map[string]time.Duration{"tokyo": time.Millisecond, "singapore": 40 * time.Millisecond})
		c := w.login(t, "http://tokyo")
		w.set("tokyo", true)
		if _, err := c.Send(t.Context(), "alice", "hello"); err != nil {
			t.Error(err)
		}
		w.called()
		if _, err := c.Send(t.Context(), "alice", "hello"); err != nil || !only(w.called(), "singapore") {
			t.Error(err)
		}
	})
}

// Gateways that are about as near share the clients.
func TestClientsSpreadOverNearGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(map[string]time.Duration{
			"tokyo-1": 10 * time.Millisecond, "tokyo-2": 11 * time.Millisecond, "tokyo-3": 10 * time.Millisecond, "frankfurt": 120 * time.Millisecond,
		})
		for range 60 {
			w.login(t, "http://tokyo-1")
		}
		got := w.called()
		for _, host := range []string{"tokyo-1", "tokyo-2", "tokyo-3"} {
			if got[host] < 5 {
				t.Errorf("%d of 60 clients are at %s", got[host], host)
			}
		}
		if got["frankfurt"] != 0 {
			t.Errorf("%d clients are in Frankfurt", got["frankfurt"])
		}
	})
}

// A gateway that drains is left; its successor at the same address may be chosen.
func TestAGatewayThatDrainsIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(map[string]time.Duration{"tokyo": time.Millisecond, "singapore": 40 * time.Millisecond})
		c := w.login(t, "http://tokyo")
		w.fault = func(method string, n int) fault {
			if method == fetch && n == 0 {
				w.set("tokyo", true)
				return fault{page: &tegamiv1.FetchOpsResponse{Reason: tegamiv1.FetchOpsResponse_DRAINING}}
			}
			return fault{}
		}
		w.deliver("hello")
		var texts []string
		if err := c.Run(t.Context(), new(client.MemoryCursor), until(1, &texts)); !errors.Is(err, errStop) {
			t.Error(err)
		}
		if got := w.called(); got["singapore"] == 0 {
			t.Errorf("called %v", got)
		}
	})
}

// Nobody is sent from TLS to cleartext, and a list of nonsense is none.
func TestAListCannotMisleadAClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(map[string]time.Duration{"seed": time.Millisecond, "clear": 0})
		w.gateways = []string{"http://clear", "ftp://clear", "://", "", "https://"}
		w.login(t, "https://seed")
		if got := w.called(); !only(got, "seed") {
			t.Errorf("called %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w.set("seed", true)
		_, err := client.Login(ctx, "https://seed", "alice", "secret", client.WithHTTPClient(&http.Client{Transport: w}), client.WithNearestGateway())
		if err == nil {
			t.Error("signed in at a server that is gone")
		}
	})
}
