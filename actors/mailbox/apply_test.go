package mailbox

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

func TestSendIsReceivedAndItsSenderLearnsOfIt(t *testing.T) {
	b := newAccount(t)
	r := send("alice", "m1", 3)
	out := b.accept(r)
	message := &record.Message{
		MessageId: r.GetSend().MessageId, From: "alice", To: "bob", ClientMessageId: "m1", Time: start, SealedBody: []byte("rrr"),
	}
	operation := &record.Operation{
		Revision: 1, Time: start, Kind: &record.Operation_ReceiveMessage{ReceiveMessage: message},
	}
	diff(t, out.Operations, []*record.Operation{operation})
	diff(t, out.FollowUps, []FollowUp{{Mailbox: "alice", Record: &record.Record{
		Id: followUpID("bob", at(2)), Mailbox: "alice",
		Kind: &record.Record_SentCopy{SentCopy: &record.SentCopy{
			Source: "bob", SourceGeneration: 1, SourceOffset: 2,
			MessageId: message.MessageId, ClientMessageId: "m1", FromDevice: "phone", SealedBody: []byte("sss"), MessageTime: start,
		}},
	}}})
	diff(t, out.Answer, Answer{
		MessageID: [16]byte(message.MessageId), Time: start, Revision: 1,
	})
	row, err := proto.Marshal(operation)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, out.Write.Rows, []persistence.Row{{Revision: 1, Peer: "alice", Data: row}})
	diff(t, out.Write.Dedup, []persistence.DedupEntry{{
		Key: dedupKey(r.DedupKey), BodyHash: [6]byte(r.BodyHash), MessageID: [16]byte(message.MessageId),
		Time: start, Revision: 1, Position: at(2),
	}})
	if out.Write.Mailbox != "bob" || out.Write.Position != at(2) || out.Write.First != 0 || len(out.Write.Sources) != 0 {
		t.Errorf("write %+v", out.Write)
	}
}

func TestSendToOneselfIsOneOperation(t *testing.T) {
	b := newAccount(t)
	out := b.accept(send("bob", "note", 3))
	if len(out.FollowUps) != 0 {
		t.Errorf("follow-ups %v", out.FollowUps)
	}
	if op := out.Operations[0]; len(out.Operations) != 1 || op.GetReceiveMessage() == nil || op.OriginDevice != "phone" {
		t.Errorf("operations %v", out.Operations)
	}
	if peer := out.Write.Rows[0].Peer; peer != "bob" {
		t.Errorf("peer %q", peer)
	}
}

func TestSentCopyIsKeptForTheOtherDevices(t *testing.T) {
	b := newAccount(t)
	out := b.accept(sentCopy("alice", at(7)))
	diff(t, out.Operations, []*record.Operation{{
		Revision: 1, Time: start, OriginDevice: "phone",
		Kind: &record.Operation_SendMessage{SendMessage: &record.Message{
			MessageId: hash(16, "alice", at(7)), From: "bob", To: "alice", Time: start - 1, SealedBody: []byte("s"),
		}},
	}})
	diff(t, out.Write.Sources, []persistence.Source{{Mailbox: "alice", Position: at(7)}})
	if len(out.Write.Dedup) != 0 || out.Write.Rows[0].Peer != "alice" {
		t.Errorf("write %+v", out.Write)
	}
}

// A copy counts once, by the position that it comes from.
func TestSentCopyIsTakenOnceFromEachPosition(t *testing.T) {
	b := newAccount(t)
	b.accept(sentCopy("alice", persistence.Position{Generation: 2, Offset: 7}))
	for _, c := range []struct {
		source   string
		position persistence.Position
		taken    bool
	}{
		{"alice", persistence.Position{Generation: 2, Offset: 7}, false},
		{"alice", persistence.Position{Generation: 2, Offset: 6}, false},
		{"alice", persistence.Position{Generation: 1, Offset: 9}, false},
		{"carol", persistence.Position{Generation: 1, Offset: 6}, true},
		{"alice", persistence.Position{Generation: 2, Offset: 8}, true},
		{"alice", persistence.Position{Generation: 3, Offset: 1}, true},
		{"carol", persistence.Position{}, false},
	} {
		out := b.accept(sentCopy(c.source, c.position))
		if taken := len(out.Operations) == 1; taken != c.taken {
			t.Errorf("%s %v: taken: %v, want %v", c.source, c.position, taken, c.taken)
		}
		if out.Write.State == nil || (len(out.Write.Sources) == 1) != c.taken {
			t.Errorf("%s %v: write %+v", c.source, c.position, out.Write)
		}
	}
}

// Strangers cannot create a mailbox, nor leave anything in one that does not
// exist.
func TestWithoutAccountNothingIsKept(t *testing.T) {
	for _, c := range []struct {
		record *record.Record
		want   refusal.Reason
	}{
		{send("alice", "m1", 3), refusal.UnknownRecipient},
		{signIn("phone", "t1"), refusal.UnknownRecipient},
		{refresh("phone", 1, "t1", "t2"), refusal.UnknownDevice},
		{signOut("phone", 0), refusal.UnknownDevice},
		{sentCopy("alice", at(7)), refusal.None},
		{trim(1), refusal.None},
		{mintedAt(send("alice", "m1", 3), 0), refusal.Stale},
		{mintedAt(createAccount("bob"), 0), refusal.Stale},
		{&record.Record{Kind: &record.Record_CreateAccount{}}, refusal.Internal},
	} {
		t.Run(fmt.Sprintf("%T", c.record.Kind), func(t *testing.T) {
			b := newBox(t)
			out := b.apply(c.record)
			if out.Answer.Reason != c.want {
				t.Errorf("refused: %v, want %v", out.Answer.Reason, c.want)
			}
			if diff := cmp.Diff(out.Write, persistence.MailboxWrite{Mailbox: "bob", Position: at(1)}); diff != "" {
				t.Error(diff)
			}
			if b.Exists() || b.Head() != 0 || b.time != start || b.State.time != 0 || b.dedup.count != 0 || len(b.sources) != 0 {
				t.Errorf("state %+v", b.State)
			}
			if b.Position() != at(1) {
				t.Errorf("position %v", b.Position())
			}
		})
	}
}

func TestCopyOfACommandGetsTheFirstAnswer(t *testing.T) {
	for _, c := range []struct {
		name        string
		first, copy *record.Record
		after       time.Duration
		want        refusal.Reason
		known       bool
	}{
		{"send", send("alice", "m", 3), retry("alice", "m", 3), 0, refusal.None, true},
		{"to oneself", send("bob", "m", 3), retry("bob", "m", 3), 0, refusal.None, true},
		{"24 hours later", send("alice", "m", 3), retry("alice", "m", 3), DedupWindow, refusal.None, true},
		{"later than that", send("alice", "m", 3), retry("alice", "m", 3), DedupWindow + time.Millisecond, refusal.None, false},
		{"of another sender", send("alice", "m", 3), send("carol", "m", 3), 0, refusal.None, false},
		{"another body", send("alice", "m", 3), send("alice", "m", 4), 0, refusal.DifferentBody, true},
		{"sign-in", signIn("phone", "t2"), signIn("phone", "t2"), 0, refusal.None, true},
		{"refresh", refresh("tablet", 1, "t1", "t2"), refresh("tablet", 1, "t1", "t2"), 0, refusal.None, true},
		{"refused refresh", refresh("tablet", 9, "t1", "t2"), refresh("tablet", 9, "t1", "t2"), 0, refusal.UnknownDevice, true},
		{"stolen token", refresh("tablet", 1, "t0", "t2"), refresh("tablet", 1, "t0", "t2"), 0, refusal.TokenReused, true},
		{"sign-out", signOut("tablet", 0), signOut("tablet", 0), 0, refusal.None, true},
		{"account", createAccount("again"), createAccount("again"), 0, refusal.UserExists, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newAccount(t)
			b.accept(signIn("tablet", "t1"))
			first := b.apply(c.first)
			b.wait(c.after)
			head := b.Head()
			out := b.apply(mintedAt(c.copy, b.time))
			if out.Answer.Reason != c.want {
				t.Fatalf("refused: %q, want %q", out.Answer.Reason, c.want)
			}
			if known := len(out.Write.Dedup) == 0; known != c.known {
				t.Fatalf("known: %v, want %v", known, c.known)
			}
			if !c.known {
				return
			}
			if c.want != refusal.DifferentBody {
				diff(t, out.Answer, first.Answer)
			}
			if len(out.Operations) != 0 || len(out.FollowUps) != 0 || len(out.Ended) != 0 || len(out.Write.Rows) != 0 || b.Head() != head {
				t.Errorf("the copy did something: %+v", out)
			}
			if out.Write.State == nil {
				t.Error("the position is not stored")
			}
		})
	}
}

// A command with another body leaves the answer to the first as it is.
func TestAnotherBodyDoesNotTakeTheFirstsPlace(t *testing.T) {
	b := newAccount(t)
	first := b.accept(send("alice", "m", 3))
	b.apply(send("alice", "m", 4))
	diff(t, b.accept(retry("alice", "m", 3)).Answer, first.Answer)
}

func TestOldCommandIsRefusedWithoutATrace(t *testing.T) {
	b := newAccount(t)
	r := send("alice", "m", 3)
	b.wait(MaxCommandAge)
	late := b.time + 1
	b.accept(send("alice", "in time", 3))
	b.time = late
	out := b.apply(r)
	if out.Answer != (Answer{Reason: refusal.Stale}) || len(out.Write.Dedup) != 0 || out.Write.State == nil {
		t.Fatalf("outcome %+v", out)
	}
	b.accept(mintedAt(r, late))
	// The mailbox's time counts, even where a journal's went back.
	b.time = start
	if out := b.apply(send("alice", "m2", 3)); out.Answer.Reason != refusal.Stale {
		t.Errorf("refused: %q, want stale", out.Answer.Reason)
	}
}

func TestLogTimeNeverGoesBack(t *testing.T) {
	b := newAccount(t)
	b.time = start - 5000
	if out := b.accept(send("alice", "m1", 3)); out.Answer.Time != start || out.Operations[0].Time != start {
		t.Errorf("time %d and %d, want %d", out.Answer.Time, out.Operations[0].Time, start)
	}
}

func TestSignIns(t *testing.T) {
	b := newAccount(t)
	for i := range MaxDevices {
		out := b.accept(signIn(fmt.Sprint("d", i), fmt.Sprint("t", i)))
		diff(t, out.Answer.Session, session(fmt.Sprint("d", i), uint64(i+1)))
		if len(out.Ended) != 0 {
			t.Errorf("ended %v", out.Ended)
		}
	}
	out := b.accept(signIn("d4", "again"))
	diff(t, out.Answer.Session, session("d4", 11))
	diff(t, out.Ended, []talk.Session{session("d4", 5)})

	out = b.accept(signIn("eleventh", "t"))
	diff(t, out.Ended, []talk.Session{session("d0", 1)})

	devices := b.Devices()
	if len(devices) != MaxDevices || devices[0].ID != "eleventh" || devices[1].ID != "d4" || devices[9].ID != "d1" {
		t.Errorf("devices %v", devices)
	}
	if epoch, ok := b.Epoch("d4"); !ok || epoch != 11 {
		t.Errorf("epoch %d, %v", epoch, ok)
	}
	if _, ok := b.Epoch("d0"); ok {
		t.Error("d0 is still signed in")
	}
}

// A lost answer locks nobody out, and a stolen token is found out.
func TestRefreshRotation(t *testing.T) {
	type step struct {
		presented, next string
		want            refusal.Reason
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"one after the other", []step{{"t0", "t1", 0}, {"t1", "t2", 0}, {"t2", "t3", 0}}},
		{"answer lost", []step{{"t0", "lost", 0}, {"t0", "t1", 0}, {"t1", "t2", 0}}},
		{"answer lost twice", []step{{"t0", "lost", 0}, {"t0", "lost too", 0}, {"t0", "t1", 0}, {"t1", "t2", 0}}},
		{"the one before the last", []step{{"t0", "t1", 0}, {"t1", "t2", 0}, {"t0", "t3", refusal.TokenReused}}},
		{"a lost one turns up", []step{{"t0", "lost", 0}, {"t0", "t1", 0}, {"lost", "t2", refusal.TokenReused}}},
		{"never issued", []step{{"none", "t1", refusal.TokenReused}, {"t0", "t1", refusal.UnknownDevice}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newAccount(t)
			b.accept(signIn("phone", "t0"))
			for i, step := range c.steps {
				b.wait(time.Minute)
				out := b.apply(refresh("phone", 1, step.presented, step.next))
				if out.Answer.Reason != step.want {
					t.Fatalf("step %d refused: %q, want %q", i, out.Answer.Reason, step.want)
				}
				switch step.want { //nolint:exhaustive // the other reasons have nothing more to check
				case refusal.None:
					diff(t, out.Answer.Session, session("phone", 1))
					if seen := b.Devices()[0].SeenTime; seen.UnixMilli() != b.time {
						t.Errorf("seen at %v", seen)
					}
				case refusal.TokenReused:
					diff(t, out.Ended, []talk.Session{session("phone", 1)})
					if _, ok := b.Epoch("phone"); ok {
						t.Error("the phone is still signed in")
					}
				}
			}
		})
	}
}

func TestSessionOfAnotherEpochIsUnknown(t *testing.T) {
	b := newAccount(t)
	b.accept(signIn("phone", "t0"))
	b.accept(signIn("phone", "t1"))
	for _, r := range []*record.Record{
		refresh("phone", 1, "t0", "t2"), refresh("laptop", 2, "t1", "t2"), signOut("phone", 1), signOut("laptop", 0),
	} {
		out := b.apply(r)
		if out.Answer.Reason != refusal.UnknownDevice || len(out.Ended) != 0 {
			t.Errorf("%v: refused: %q, ended %v", r, out.Answer.Reason, out.Ended)
		}
	}
	diff(t, b.accept(signOut("phone", 2)).Ended, []talk.Session{session("phone", 2)})
	b.accept(signIn("phone", "t3"))
	diff(t, b.accept(signOut("phone", 0)).Ended, []talk.Session{session("phone", 3)})
}

func TestTrim(t *testing.T) {
	b := newAccount(t)
	for i := range 5 {
		b.accept(send("alice", fmt.Sprint(i), 3))
	}
	for _, c := range []struct{ to, first, written int64 }{
		{1, 1, 0}, {-7, 1, 0}, {3, 3, 3}, {2, 3, 0}, {99, 6, 6}, {6, 6, 0},
	} {
		out := b.accept(trim(c.to))
		if b.First() != c.first || out.Write.First != c.written || b.Head() != 5 {
			t.Errorf("trim to %d: first %d, written %d, head %d; want first %d, written %d",
				c.to, b.First(), out.Write.First, b.Head(), c.first, c.written)
		}
	}
	b.accept(send("alice", "next", 3))
	if b.First() != 6 || b.Head() != 6 {
		t.Errorf("first %d, head %d", b.First(), b.Head())
	}
}

// What no handler lets through is a mistake of the server's, and is refused
// without a panic; a command's refusal is remembered like any answer.
func TestMalformedRecords(t *testing.T) {
	broken := func(r *record.Record, breaks func(*record.Record)) *record.Record {
		breaks(r)
		return r
	}
	for _, c := range []struct {
		name       string
		record     *record.Record
		remembered bool
	}{
		{"no record", nil, false},
		{"no kind", command("1", &record.Record{}), true},
		{"version", command("1", &record.Record{Kind: &record.Record_Version{}}), true},
		{"nil send", command("1", &record.Record{Kind: &record.Record_Send{}}), true},
		{"nil copy", &record.Record{Kind: &record.Record_SentCopy{}}, false},
		{"no sender", broken(send("alice", "m", 1), func(r *record.Record) { r.GetSend().From = "" }), true},
		{"message id", broken(send("alice", "m", 1), func(r *record.Record) { r.GetSend().MessageId = nil }), true},
		{"dedup key", broken(send("alice", "m", 1), func(r *record.Record) { r.DedupKey = r.DedupKey[:9] }), false},
		{"body hash", broken(send("alice", "m", 1), func(r *record.Record) { r.BodyHash = nil }), false},
		{"text", broken(send("alice", "m", 1), func(r *record.Record) { r.GetSend().ClientMessageId = "\xff" }), true},
		{"token", broken(signIn("phone", "t"), func(r *record.Record) { r.GetSignIn().RefreshHash = nil }), true},
		{"device", signIn("", "t"), true},
		{"device text", signIn("\xff", "t"), true},
		{"presented", broken(refresh("p", 1, "t", "u"), func(r *record.Record) { r.GetRefresh().PresentedHash = nil }), true},
		{"source", sentCopy("", at(1)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newAccount(t)
			before := b.core
			out := b.apply(c.record)
			if out.Answer.Reason != refusal.Internal || out.Fault == "" {
				t.Errorf("refused: %q, fault %q", out.Answer.Reason, out.Fault)
			}
			if (len(out.Write.Dedup) == 1) != c.remembered {
				t.Errorf("entries %v", out.Write.Dedup)
			}
			if len(out.Operations) != 0 || len(out.FollowUps) != 0 || out.Write.State == nil || b.Position() != at(2) {
				t.Errorf("outcome %+v", out)
			}
			diff(t, b.encode(), (&State{core: before, accountPart: encodeAccountPart(&before)}).encode())
		})
	}
}

// A record at or below the state's position has done its work. Its answer is
// what a retry would get.
func TestSkippedRecordIsAnsweredFromItsEntry(t *testing.T) {
	b := newAccount(t)
	first := b.accept(send("alice", "m1", 3))
	refused := b.apply(signOut("phone", 0))
	b.accept(sentCopy("carol", at(9)))
	state := b.encode()
	again := func(r *record.Record, offset int64) Outcome {
		return b.Apply(Input{Position: at(offset), Time: start, Record: r})
	}
	for _, c := range []struct {
		name   string
		record *record.Record
		offset int64
		want   Answer
	}{
		{"message", send("alice", "m1", 3), 2, first.Answer},
		{"refusal", signOut("phone", 0), 3, refused.Answer},
		{"copy", sentCopy("carol", at(9)), 4, Answer{}},
		{"another body", send("alice", "m1", 4), 4, Answer{Reason: refusal.DifferentBody}},
		{"nothing remembered", send("alice", "none", 4), 4, Answer{Reason: refusal.OutcomeUnknown}},
	} {
		diff(t, again(c.record, c.offset), Outcome{Skipped: true, Answer: c.want})
	}
	if !bytes.Equal(b.encode(), state) || b.Position() != at(4) {
		t.Error("a skipped record changed the state")
	}
}

func session(device string, epoch uint64) talk.Session {
	return talk.Session{User: "bob", Device: device, Epoch: epoch}
}

func diff[T any](t *testing.T, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
