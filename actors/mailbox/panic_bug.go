//go:build bug_panic_skipped

package mailbox

import "github.com/tegami-im/tegami/actors/record"

// bugs plants a bug: one owner of a mailbox skips a record on which Apply
// panics, where every other refuses it.
type bugs struct{ second bool }

func (b bugs) skipsPanics() bool { return b.second }

// SecondOwner makes s that owner's.
func (s *State) SecondOwner() { s.second = true }

// PanicOn has f called with each record that is decided, in every State, to
// panic where it likes.
func PanicOn(f func(*record.Record)) { panicOn = f }
