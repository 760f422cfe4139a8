//go:build bug_passivate_unstored

package shard

func init() { passivateUnstored = true }
