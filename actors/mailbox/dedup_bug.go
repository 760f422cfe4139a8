//go:build bug_dedup_off

package mailbox

// dedupOff plants a bug: copies of a command are taken for new ones.
const dedupOff = true
