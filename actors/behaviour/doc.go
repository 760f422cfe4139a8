// Package behaviour is the kit for kinds of actors beyond the built-in ones: a
// bot, a scheduler, a bridge to another service.
//
// A behaviour has an account, and so a mailbox in the log like any user's. Its
// host, on the node that owns the mailbox's shard, reads the operations behind
// the behaviour's cursor, asks the [Handler] what to do about each, and appends
// one record, a step: the new cursor, the new state, timers, and messages.
//
//	operations, due timers ──▶ Handler.Handle ──▶ effects ──▶ Step ──append──▶ apply ──▶ follow-ups
//
// The log has what a step came to, never a request to compute it. So apply stays
// pure though a handler may be any code; a handler may change from version to
// version while old records exist; and since a step takes effect only behind the
// step that it was computed behind, two hosts of one behaviour (a split, a pause)
// cost time alone: of what both decide, one counts. A host that dies computes its
// last step again: nothing of the first attempt was seen by anyone.
//
// What lies outside of the log, a [Context.Post], is done at least once.
//
// Package behaviourtest runs a behaviour on the real apply with a clock of its
// own and crashes it between any two steps.
package behaviour
