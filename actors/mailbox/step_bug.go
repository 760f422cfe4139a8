//go:build bug_step_order

package mailbox

// anyStep plants a bug: a step is taken whichever step it was computed behind.
const anyStep = true
