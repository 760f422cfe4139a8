//go:build bug_followup_before_sync

package shard

func init() { countUnconfirmedFollowUps = true }
