//go:build bug_state_without_position

package hbase

import "sync/atomic"

var arrived atomic.Uint64

// The last put that arrives wins, whatever its position.
func init() { stateVersion = func(uint64) uint64 { return arrived.Add(1) } }
