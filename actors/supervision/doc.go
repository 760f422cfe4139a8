// Package supervision holds what all of Tegami's actors share around them: the
// watchdog that finds an actor which blocks, and the bounded workers that do
// the blocking in its place.
//
// The rule behind both: Receive does no I/O, takes no lock that is held over
// I/O, and never waits for another actor. What may block is a job for Workers,
// whose last act is a message back to the actor.
package supervision
