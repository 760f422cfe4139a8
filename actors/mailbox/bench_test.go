package mailbox

import (
	"fmt"
	"testing"

	"github.com/tegami-im/tegami/persistence"
)

// BenchmarkApply measures a Send of 100 bytes, encoding included, to a user
// with two devices, the dedup entries in memory at their limit, all in one
// conversation.
func BenchmarkApply(b *testing.B) {
	s := New("bob")
	offset := int64(0)
	apply := func(in Input) {
		in.Position = persistence.Position{Generation: 1, Offset: offset}
		in.Time = start
		offset++
		if out := s.Apply(in); out.Answer.Reason != 0 {
			b.Fatal(out.Answer.Reason, out.Fault)
		}
	}
	created := createAccount("bob")
	created.ApplyVersion = ApplyVersion
	apply(Input{Record: created})
	for i := range 2 {
		apply(Input{Record: signIn(fmt.Sprint("phone", i), fmt.Sprint("token", i))})
	}
	for i := range MaxDedupInMemory {
		apply(Input{Record: send("alice", fmt.Sprint("fill", i), 100)})
	}
	// So many that none is remembered any more when it comes again.
	var records [2 * MaxDedupInMemory]Input
	for i := range records {
		records[i].Record = send("alice", fmt.Sprint("m", i), 100)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		apply(records[i%len(records)])
	}
}
