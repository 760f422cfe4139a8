// Package worker is the background task processor: it hands the events of
// tegami.events.v1 to tasks that need not be in the path of a send.
//
// Each task reads the events in a consumer group of its own, so that a slow one
// holds up no other. What a task may rely on:
//
//   - Every event is handed to it at least once: again after a crash, or when a
//     partition moves in the middle of it. Event.ID is the same each time.
//   - The events of a key (a user) are handled one at a time and in order: an
//     event is first handled after the one before it was handled or given up.
//     Events of different keys are handled at the same time.
//   - An event that fails is tried again, ever later. What comes behind it for
//     the same key waits; other keys go on.
//   - After Options.Attempts, or at a Permanent error, the event becomes a dead
//     letter, and the key goes on with the next. A dead letter that is retried
//     comes back outside the order of its key.
//
// # How it works
//
// A partition is read by one goroutine, which admits events into lanes, one for
// each key that has any. A lane is a goroutine that handles its events one after
// another; a lane that waits to try again takes none of the slots that bound how
// many events are in flight. The window knows which offsets are unfinished, and
// only what lies below the lowest of them is ever committed. Window and lanes
// are bounded: when either is full the partition is paused, and the others go
// on.
package worker
