package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// WithNearestGateway makes calls to the nearest of the gateways that the server
// tells of. It is chosen at the first call, and again when it fails or is to
// end: among those that answer a probe about as fast as the fastest, at random,
// so that clients spread. A server that tells of none is used itself.
func WithNearestGateway() Option {
	return func(o *options) { o.nearest = true }
}

const (
	// probeTimeout is how long gateways may take to be listed, and to be probed.
	probeTimeout = 3 * time.Second
	// passOver is for how long a gateway that failed is not chosen, if there is
	// another.
	passOver = 30 * time.Second
	// A gateway is as near as the nearest if it takes at most half as long again,
	// or so much longer.
	nearEnough = 5 * time.Millisecond
)

// gateways is the choice of a gateway. It is safe for concurrent use.
type gateways struct {
	http *http.Client
	seed string // the server that is known from elsewhere
	// choosing is held by the one choice at a time. A channel, since whoever waits
	// for it must be able to give up.
	choosing chan struct{}

	mu      sync.Mutex           // guards the following
	current string               // empty: to be chosen
	known   []*tegamiv1.Gateway  // the last list
	failed  map[string]time.Time // when
}

func newGateways(httpClient *http.Client, seed string) *gateways {
	return &gateways{http: httpClient, seed: seed, choosing: make(chan struct{}, 1), failed: map[string]time.Time{}}
}

// address returns what calls are made to. Error: the context's.
func (g *gateways) address(ctx context.Context) (string, error) {
	if address := g.chosen(); address != "" {
		return address, nil
	}
	select {
	case g.choosing <- struct{}{}:
		defer func() { <-g.choosing }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if address := g.chosen(); address != "" {
		return address, nil // another call has chosen meanwhile
	}
	choice := g.choose(ctx)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current = choice
	return choice, nil
}

func (g *gateways) chosen() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current
}

// leave has another choice be made, unless one was since. A gateway that failed
// is passed over for a while.
func (g *gateways) leave(address string, failed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current == address {
		g.current = ""
	}
	if failed {
		g.failed[address] = time.Now()
	}
}

// choose returns the nearest gateway, or the server that is known from elsewhere
// when none is to be had.
func (g *gateways) choose(ctx context.Context) string {
	candidates := g.candidates(g.list(ctx))
	if len(candidates) == 0 {
		return g.seed
	}
	type result struct {
		address string
		took    time.Duration
	}
	results := make(chan result, len(candidates))
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for _, one := range candidates {
		go func() { // ends with the context at the latest
			took, err := g.probe(ctx, one)
			if err != nil {
				took = -1
			}
			results <- result{one.GetAddress(), took}
		}()
	}
	var answered []result
	for range candidates {
		if r := <-results; r.took >= 0 {
			answered = append(answered, r)
		}
	}
	if len(answered) == 0 {
		return g.seed
	}
	nearest := slices.MinFunc(answered, func(a, b result) int { return int(a.took - b.took) }).took
	near := slices.DeleteFunc(answered, func(r result) bool { return r.took > max(nearest*3/2, nearest+nearEnough) })
	return near[rand.N(len(near))].address //nolint:gosec // spreads load
}

// list asks for the gateways: the server first, then those that are known. When
// none of them answers, what is known has to do.
func (g *gateways) list(ctx context.Context) []*tegamiv1.Gateway {
	g.mu.Lock()
	known := g.known
	g.mu.Unlock()
	for _, address := range g.order(known) {
		var response tegamiv1.ListGatewaysResponse
		w := wire{http: g.http, base: address}
		if w.call(ctx, probeTimeout, "GatewayService/ListGateways", "", &tegamiv1.ListGatewaysRequest{}, &response) == nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.known = response.GetGateways()
			return g.known
		}
		if ctx.Err() != nil {
			break
		}
	}
	return known
}

// maxAsked is how many are asked for the list, one after the other.
const maxAsked = 4

// order returns whom to ask for the list: those last that failed of late.
func (g *gateways) order(known []*tegamiv1.Gateway) []string {
	all := []string{g.seed}
	for _, one := range known {
		if one.GetAddress() != g.seed {
			all = append(all, one.GetAddress())
		}
	}
	slices.SortStableFunc(all, func(a, b string) int {
		switch failedA, failedB := g.failedOfLate(a), g.failedOfLate(b); {
		case failedA == failedB:
			return 0
		case failedB:
			return -1
		default:
			return 1
		}
	})
	return all[:min(len(all), maxAsked)]
}

func (g *gateways) failedOfLate(address string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.failed[address]
	if ok && time.Since(at) > passOver {
		delete(g.failed, address)
		return false
	}
	return ok
}

// candidates returns the gateways that may be chosen: without those that failed
// of late, unless all did, and none that would have a token be sent in the clear
// where the server would not.
func (g *gateways) candidates(listed []*tegamiv1.Gateway) []*tegamiv1.Gateway {
	var all, whole []*tegamiv1.Gateway
	for _, one := range listed {
		address, err := url.Parse(one.GetAddress())
		seed, _ := url.Parse(g.seed) // checked before
		if err != nil || address.Host == "" || address.Scheme != "https" && address.Scheme != seed.Scheme {
			continue
		}
		all = append(all, one)
		if !g.failedOfLate(one.GetAddress()) {
			whole = append(whole, one)
		}
	}
	if len(whole) > 0 {
		return whole
	}
	return all
}

// probe returns how long a gateway takes to answer, once there is a connection.
func (g *gateways) probe(ctx context.Context, one *tegamiv1.Gateway) (took time.Duration, err error) {
	for range 2 {
		began := time.Now()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, one.GetAddress()+one.GetProbePath(), http.NoBody)
		if err != nil {
			return 0, err
		}
		answer, err := g.http.Do(request)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<10))
		if err = errors.Join(err, answer.Body.Close()); err != nil {
			return 0, err
		}
		if answer.StatusCode != http.StatusOK {
			return 0, errors.New("it takes no clients")
		}
		took = time.Since(began)
	}
	return took, nil
}
