package hbase

// stateVersion is the version that a state is put with: its position's. The
// build tag bug_state_without_position plants a bug, so that tests can prove
// that their checkers find it.
var stateVersion = func(version uint64) uint64 { return version }
