package reapply

import (
	"encoding/binary"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// accounts returns entries that each create an account.
func accounts(t *testing.T, n int) []persistence.Entry {
	t.Helper()
	entries := make([]persistence.Entry, n)
	for i := range entries {
		data, err := proto.Marshal(&record.Record{
			Mailbox: fmt.Sprint("user", i), DedupKey: binary.BigEndian.AppendUint64(make([]byte, 2), uint64(i)), BodyHash: make([]byte, 6),
			Kind: &record.Record_CreateAccount{CreateAccount: &record.CreateAccount{}},
		})
		if err != nil {
			t.Fatal(err)
		}
		entries[i] = persistence.Entry{Position: persistence.Position{Generation: 1, Offset: int64(i)}, Data: data}
	}
	return entries
}

func TestApplyStopsWithinItsBounds(t *testing.T) {
	const mailboxes = 100
	entries := accounts(t, mailboxes+10)
	a := New(memory.NewStore(), 0)
	first, err := a.Apply(t.Context(), entries, mailboxes)
	if err != nil || len(first) != mailboxes {
		t.Fatalf("%d applied, %v", len(first), err)
	}
	for i := range first {
		if write := first[i].Outcome.Write; write.State == nil || write.Position != entries[i].Position {
			t.Fatalf("record %d writes %+v", i, write)
		}
	}
	if rest, err := a.Apply(t.Context(), entries[len(first):], mailboxes); err != nil || len(rest) != 10 {
		t.Errorf("%d applied of the rest, %v", len(rest), err)
	}
}

func TestWhatTheStoreHasIsSkipped(t *testing.T) {
	store, entries := memory.NewStore(), accounts(t, 4)
	applied, err := New(store, 0).Apply(t.Context(), entries, 10)
	if err != nil {
		t.Fatal(err)
	}
	has := applied[1].Outcome.Write
	if err := store.Write(t.Context(), 0, persistence.Batch{Highest: has.Position, Mailboxes: []persistence.MailboxWrite{has}}); err != nil {
		t.Fatal(err)
	}
	again, err := New(store, 0).Apply(t.Context(), entries, 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range again {
		if skipped := again[i].Outcome.Skipped; skipped != (i == 1) {
			t.Errorf("record %d: skipped is %v", i, skipped)
		}
	}
}

func TestApplyFails(t *testing.T) {
	entries := accounts(t, 2)
	closed := memory.NewStore()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(closed, 0).Apply(t.Context(), entries, 10); err == nil {
		t.Error("a store that does not answer made no error")
	}
	entries[1].Data = []byte("no record")
	if _, err := New(memory.NewStore(), 0).Apply(t.Context(), entries, 10); err == nil {
		t.Error("what is no record made no error")
	}
}
