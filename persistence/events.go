package persistence

// Event is a domain event on its way to other services.
type Event struct {
	// User is whose it is. The events of a user keep their order.
	User string
	// Data is an encoded tegami.events.v1.Event.
	Data []byte
}

// Publisher takes events to where other services read them. It is safe for
// concurrent use.
type Publisher interface {
	// Publish publishes events, those of a user in the order given, and calls
	// done once, from any goroutine, when all of them are durable or with what
	// went wrong: then none, some or all are published, or may be later. Events
	// are published again by calling it again. A user's events go in order only
	// if nothing is published for the user before done was called for what
	// precedes it. What goes wrong is logged, for all callers together.
	//
	// The slices are the publisher's until done is called. done must not block.
	// After Close of the publisher the error is ErrClosed.
	Publish(events []Event, done func(error))
}
