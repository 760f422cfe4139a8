// Package connection holds the actors of the gateway side: one for each device
// that polls.
//
// A connection actor holds at most one poll. It fetches from the mailbox with
// the poll's cursor, and when there is nothing yet the mailbox keeps a
// subscription that wakes it. Subscriptions are soft state: the actor renews
// its own while it holds a poll, so that a lost one costs time and nothing
// else. It owns no data: the cursor is the client's.
//
// A newer poll of the same device ends the older one, which is told that it
// was superseded.
package connection
