package embedded

import "time"

// acknowledgeEarly, unless zero, is a bug that the build tag
// bug_ack_before_fsync plants, so that a test can prove that its checkers find
// it: appends are answered this long before they are committed.
var acknowledgeEarly time.Duration
