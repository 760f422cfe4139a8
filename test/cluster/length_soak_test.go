//go:build soak

package cluster

import "time"

const (
	rounds    = 5
	wantAcked = 300_000
	etcdAway  = 30 * time.Second
	ownersFor = 3 * time.Minute
)
