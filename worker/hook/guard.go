package hook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"syscall"
)

// errPrivate says that a URL leads where it may not.
var errPrivate = errors.New("the address is not public: set allow_private if that is meant")

// special are the blocks that net/netip does not name, and that lead to no
// public host, or by way of a translation to any.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("::/96"),           // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64
	netip.MustParsePrefix("64:ff9b:1::/48"),  // NAT64, local
	netip.MustParsePrefix("100::/64"),        // discard
	netip.MustParsePrefix("2001::/23"),       // Teredo and other assignments
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4
	netip.MustParsePrefix("fec0::/10"),       // site-local
}

// public reports whether an address belongs to a host of the public internet.
func public(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, block := range special {
		if block.Contains(ip) {
			return false
		}
	}
	return true
}

// checkPublic refuses a URL whose host is a private address as it stands.
func checkPublic(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return err
	}
	if address, err := netip.ParseAddr(u.Hostname()); err == nil && !public(address) {
		return fmt.Errorf("%w: %v", errPrivate, address)
	}
	return nil
}

// refusePrivate is a net.Dialer.Control. It sees the address that is connected
// to, after every look-up, so that a name that resolves differently the second
// time gains nothing.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %v", errPrivate, address)
	}
	if !public(at.Addr()) {
		return fmt.Errorf("%w: %v", errPrivate, at.Addr())
	}
	return nil
}
