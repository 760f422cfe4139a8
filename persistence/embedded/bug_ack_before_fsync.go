//go:build bug_ack_before_fsync

package embedded

import "time"

func init() { acknowledgeEarly = 100 * time.Millisecond }
