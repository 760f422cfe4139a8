package mailbox

import (
	"fmt"
	"testing"

	"github.com/tegami-im/tegami/actors/record"
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

// BenchmarkQuery measures what a page holds up the mailbox's actor, with as many
// contacts and conversations as there may be.
func BenchmarkQuery(b *testing.B) {
	s := New("bob")
	for i := range MaxContacts + MaxRemovedContacts {
		s.parts.set(&change{kind: contactPart, name: fmt.Sprint("friend", i), value: &record.Contact{
			Relation: record.Relation_RELATION_FRIEND, Revision: int64(i), Profile: &record.Profile{DisplayName: new("name")},
		}})
	}
	s.head = MaxConversations
	for i := range MaxConversations {
		s.parts.set(&change{kind: conversationPart, name: fmt.Sprint("peer", i), value: &record.Conversation{
			LastRevision: int64(i + 1), Revision: int64(i + 1),
		}})
	}
	conversations := func(q *record.ConversationsQuery) *record.Query {
		return &record.Query{About: &record.Query_Conversations{Conversations: q}}
	}
	for _, limit := range []int32{100, 1000} {
		for name, query := range map[string]*record.Query{
			"contacts":           {About: &record.Query_Contacts{Contacts: &record.ContactsQuery{Limit: limit}}},
			"conversations":      conversations(&record.ConversationsQuery{Limit: limit}),
			"conversations/sync": conversations(&record.ConversationsQuery{Limit: limit, ByPeer: true, After: "peer5"}),
		} {
			b.Run(fmt.Sprintf("%s/%d", name, limit), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if known, refused := s.Query(query); refused != nil || len(known.GetContacts())+len(known.GetConversations()) != int(limit) {
						b.Fatal(refused, known)
					}
				}
			})
		}
	}
}
