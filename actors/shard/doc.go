// Package shard holds the actors that own mailboxes.
//
// A shard actor owns one shard: it appends commands to the shard's journal,
// hands the records, in log order, to the mailbox actors that are its
// children, sends follow-ups to other shards, and feeds the write-behind actor
// (package writebehind). A mailbox actor holds one mailbox's state (package
// mailbox), the newest of its operations, and the polls that wait for more.
//
// # The life of a record
//
//	queued ──append──▶ dispatched ──apply──▶ applied ──follow-up──▶ released ──write-behind──▶ stored
//
// A command waits in the queue while an append is in flight; whatever waits
// goes in the next one. When the append landed exactly behind what the shard
// has dispatched, its records are dispatched from memory; in every other case
// the shard reads the log. A record is answered when it was applied and its
// follow-up is durable in the target's journal. Then it is released to the
// write-behind actor, in order for each mailbox, and only when it is stored
// does the shard forget it. The checkpoint is the position below which all
// records are stored.
//
// While the store is away, a released record may be dropped instead: the
// write-behind actor reads it from the journal again. And a record whose mailbox
// does not load may be parked, so that it holds up no others.
//
// # Who may wait for whom
//
// Nobody. Every wait is a message to come: journal, store and other shards
// answer with messages, and a shard that restarts ignores those meant for its
// predecessor by their incarnation number.
package shard
