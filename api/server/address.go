package server

import (
	"net/netip"
	"slices"
	"strings"
)

// origin returns where a client comes from: the other end of the connection, or,
// where that is a proxy that is believed, whom the proxy says that it has the
// request from (X-Forwarded-For), which may be a proxy likewise. What a client
// writes there itself stands before that, and is not looked at.
func (a *admission) origin(peer string, forwarded []string) string {
	if len(a.proxies) == 0 {
		return peer
	}
	for _, hop := range slices.Backward(strings.Split(strings.Join(forwarded, ","), ",")) {
		hop = strings.TrimSpace(hop)
		if _, ok := addressOf(hop); !ok || !a.believes(peer) {
			break
		}
		peer = hop
	}
	return peer
}

func (a *admission) believes(peer string) bool {
	address, ok := addressOf(peer)
	return ok && slices.ContainsFunc(a.proxies, func(network netip.Prefix) bool { return network.Contains(address) })
}

// addressOf returns the address in a text, behind which may be a port.
func addressOf(text string) (address netip.Addr, ok bool) {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		address = withPort.Addr()
	} else if address, err = netip.ParseAddr(text); err != nil {
		return address, false
	}
	return address.Unmap().WithZone(""), true
}

// networkOf returns the network that a client comes from: its IPv4 address, or
// the /64 that one customer of a provider commonly has. A client on this
// machine comes from none.
func networkOf(peer string) (network netip.Prefix, ok bool) {
	address, ok := addressOf(peer)
	if !ok || address.IsLoopback() {
		return netip.Prefix{}, false
	}
	bits := 64
	if address.Is4() {
		bits = 32
	}
	network, err := address.Prefix(bits)
	return network, err == nil
}
