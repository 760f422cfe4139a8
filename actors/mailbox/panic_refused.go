//go:build !bug_panic_skipped

package mailbox

// bugs has no room in a State, and nothing to say.
type bugs struct{}

func (bugs) skipsPanics() bool { return false }
