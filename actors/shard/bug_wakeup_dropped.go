//go:build bug_wakeup_dropped

package shard

func init() { dropWakeUps = true }
