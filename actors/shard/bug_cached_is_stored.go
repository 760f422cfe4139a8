//go:build bug_cached_is_stored

package shard

func init() { takeCachedForStored = true }
