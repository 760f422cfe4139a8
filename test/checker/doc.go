// Package checker judges a run of Tegami by what its clients saw. It knows
// nothing of the server: clients report each send when they make it and when
// it is answered, and each device reports every operation that it is handed,
// in order. At the end Check says which guarantees were broken.
//
//	history := checker.New()
//	attempt := history.Invoke(checker.Message{From: "alice", To: "bob", ClientID: "1", Body: "hello"})
//	… send …
//	attempt.OK(messageID, createTime)
//
//	phone := history.Device("bob", "phone", 0)
//	… for each operation of each page …
//	phone.Saw(operation)
//
//	report := history.Check()
//
// A send may be invoked many times under one client message id; it counts
// once. What a client learnt of an attempt is one of four things:
//
//   - OK: the server acknowledged it.
//   - Refused: the server decided that it does not happen, now or later.
//   - NotTaken: this attempt did nothing (a rate limit, a server that was not
//     ready); others may.
//   - Unknown: a broken connection, a timeout. It may have happened.
//
// The order of events is that in which they are reported: report Invoke before
// the request leaves and the answer after it came. Everything is safe for
// concurrent use, except that one Device belongs to one goroutine. The whole
// judgement takes time and memory linear in the number of events.
package checker
