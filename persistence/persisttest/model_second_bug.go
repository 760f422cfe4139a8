//go:build bug_panic_skipped

package persisttest

import (
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
)

// Apply panics on a fourth of all sends, and the second owner skips them.
func init() {
	mailbox.PanicOn(func(r *record.Record) {
		if r.GetSend() != nil && r.Id[0]&3 == 0 {
			panic("planted")
		}
	})
}

func (o *owner) markOwner(s *mailbox.State) {
	if o.id == 1 {
		s.SecondOwner()
	}
}
