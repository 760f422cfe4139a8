package server

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// ProbePath is answered with 200 while the server takes clients, else with 503.
const ProbePath = "/probe"

// Gateway is a server that clients may connect to.
type Gateway struct {
	// Address is what calls are made to, as a URL.
	Address string
	// Region is where it is.
	Region string
	// Load is which part of its connections is in use, 0 to 1.
	Load float64
}

// maxGateways bounds what clients are told: a choice, not a directory.
const maxGateways = 64

// gatewayService is GatewayService as Connect's handlers call it.
type gatewayService struct{ *Server }

func (s gatewayService) ListGateways(context.Context, *tegamiv1.ListGatewaysRequest) (*tegamiv1.ListGatewaysResponse, error) {
	response := &tegamiv1.ListGatewaysResponse{Region: s.opts.Region}
	if s.opts.Gateways == nil {
		return response, nil
	}
	gateways := slices.Clone(s.opts.Gateways())
	elsewhere := func(g Gateway) int {
		if g.Region == s.opts.Region {
			return 0
		}
		return 1
	}
	slices.SortFunc(gateways, func(a, b Gateway) int {
		return cmp.Or(cmp.Compare(elsewhere(a), elsewhere(b)), cmp.Compare(a.Load, b.Load), cmp.Compare(a.Address, b.Address))
	})
	for _, g := range spread(gateways, maxGateways) {
		response.Gateways = append(response.Gateways, &tegamiv1.Gateway{
			Address: g.Address, Region: g.Region, Load: g.Load, ProbePath: ProbePath,
		})
	}
	return response, nil
}

// spread returns at most so many of the gateways, in their order, with every
// region among them: when there are too many, each region gives in turn.
func spread(gateways []Gateway, most int) []Gateway {
	if len(gateways) <= most {
		return gateways
	}
	rank := make([]int, len(gateways)) // within its region
	seen := map[string]int{}
	for i, g := range gateways {
		rank[i] = seen[g.Region]
		seen[g.Region]++
	}
	order := make([]int, len(gateways))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[a], rank[b]) })
	chosen := order[:most]
	slices.Sort(chosen)
	some := make([]Gateway, most)
	for i, from := range chosen {
		some[i] = gateways[from]
	}
	return some
}

// probe answers whoever wants to know how near this server is and whether it
// takes clients.
func (s *Server) probe(w http.ResponseWriter, _ *http.Request) {
	if !s.Ready() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// Load returns which part of the connections of clients that there may be is in
// use, 0 to 1.
func (s *Server) Load() float64 {
	return float64(s.clients.http2.Connections()) / float64(s.opts.HTTP.MaxConnections)
}
