//go:build bug_unknown_is_success

package shard

func init() { takeUnknownForSuccess = true }
