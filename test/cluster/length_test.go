//go:build !soak

package cluster

import "time"

// The reduced length, which shows everything once.
const (
	rounds    = 1
	wantAcked = 60_000
	etcdAway  = 4 * lease
	ownersFor = 10 * time.Second
)
