package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/api/gen/tegami/v1/tegamiv1connect"
	"github.com/tegami-im/tegami/api/server"
)

func listGateways(t *testing.T, e *env) *tegamiv1.ListGatewaysResponse {
	t.Helper()
	var response tegamiv1.ListGatewaysResponse
	err := e.clients(t)[0].call(within(t), tegamiv1connect.GatewayServiceListGatewaysProcedure, "", &tegamiv1.ListGatewaysRequest{}, &response)
	if err != nil {
		t.Fatal(err)
	}
	return &response
}

// Anybody is told of the gateways: those of the own region first, the emptiest of
// a region first.
func TestGatewaysAreListed(t *testing.T) {
	e := start(t, func(o *server.Options) {
		o.Region = "tokyo"
		o.Gateways = func() []server.Gateway {
			return []server.Gateway{
				{Address: "https://fra-1", Region: "frankfurt", Load: 0.1},
				{Address: "https://tyo-2", Region: "tokyo", Load: 0.5},
				{Address: "https://fra-2", Region: "frankfurt"},
				{Address: "https://tyo-1", Region: "tokyo", Load: 0.25},
			}
		}
	})
	response := listGateways(t, e)
	var got []string
	for _, g := range response.GetGateways() {
		got = append(got, fmt.Sprint(g.GetAddress(), " ", g.GetRegion(), " ", g.GetLoad(), " ", g.GetProbePath()))
	}
	want := []string{
		"https://tyo-1 tokyo 0.25 /probe", "https://tyo-2 tokyo 0.5 /probe",
		"https://fra-2 frankfurt 0 /probe", "https://fra-1 frankfurt 0.1 /probe",
	}
	if response.GetRegion() != "tokyo" || !slices.Equal(got, want) {
		t.Errorf("in %q: got %v, want %v", response.GetRegion(), got, want)
	}
}

// Where there are very many, each region is among those that a client is told of.
func TestEveryRegionIsListed(t *testing.T) {
	const many = 500
	e := start(t, func(o *server.Options) {
		o.Region = "tokyo"
		o.Gateways = func() []server.Gateway {
			all := []server.Gateway{{Address: "https://lone", Region: "singapore", Load: 1}}
			for i := range many {
				all = append(all, server.Gateway{Address: fmt.Sprint("https://", i), Region: []string{"tokyo", "frankfurt"}[i%2]})
			}
			return all
		}
	})
	regions := map[string]int{}
	for _, g := range listGateways(t, e).GetGateways() {
		regions[g.GetRegion()]++
	}
	if total := regions["tokyo"] + regions["frankfurt"] + regions["singapore"]; regions["singapore"] != 1 || regions["frankfurt"] < 20 || total != 64 {
		t.Errorf("got %v", regions)
	}
}

func TestThereMayBeNoChoiceOfGateways(t *testing.T) {
	if got := listGateways(t, start(t, nil)); len(got.GetGateways()) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestProbe(t *testing.T) {
	e := start(t, nil)
	probe := func() int {
		request, err := http.NewRequestWithContext(within(t), http.MethodGet, e.url()+server.ProbePath, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		got, err := do(e.httpClient(t, 2), request)
		if err != nil {
			t.Fatal(err)
		}
		return got.status
	}
	if got := probe(); got != http.StatusOK {
		t.Errorf("status %d while it takes clients", got)
	}
	if load := e.Load(); load <= 0 || load > 0.1 {
		t.Errorf("load %v with a few connections", load)
	}
	e.Refuse()
	if got := probe(); got != http.StatusServiceUnavailable {
		t.Errorf("status %d while it stops", got)
	}
}
