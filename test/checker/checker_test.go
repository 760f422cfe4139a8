package checker

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// run is a hand-made history between alice and bob.
type run struct{ *History }

// message is what alice sends bob under an id; the body follows from it.
func message(id string) Message {
	return Message{From: "alice", To: "bob", ClientID: id, Body: "body of " + id}
}

func reply(id string) Message {
	return Message{From: "bob", To: "alice", ClientID: id, Body: "body of " + id}
}

// acked sends a message that is acknowledged before anything else happens.
func (r run) acked(messages ...Message) {
	for _, m := range messages {
		r.Invoke(m).OK("id of "+m.ClientID, 1)
	}
}

// reads has a device read operations from revision 1 on.
func (r run) reads(user, device string, messages ...Message) *Device {
	d := r.Device(user, device, 0)
	for i, m := range messages {
		d.Saw(op(user, int64(i)+1, m))
	}
	return d
}

func op(user string, revision int64, m Message) Operation {
	kind := Received
	if m.From == user && m.To != user {
		kind = Sent
	}
	return Operation{Revision: revision, Kind: kind, Time: revision, MessageID: "id of " + m.ClientID, Created: 1, Message: m}
}

func TestHistories(t *testing.T) {
	m1, m2, m3 := message("1"), message("2"), message("3")
	other := m1
	other.Body = "another body"
	self := Message{From: "alice", To: "alice", ClientID: "self", Body: "note"}
	inChat := Message{From: "alice", To: "chat", ClientID: "1", Body: "hello all"}
	answer := Message{From: "bob", To: "chat", ClientID: "2", Body: "hello alice"}

	for _, test := range []struct {
		name string
		play func(r run)
		// want is empty for a good history, else every breach that is found.
		want map[Breach]int
	}{
		{
			name: "good: acknowledged and read by every device",
			play: func(r run) {
				r.acked(m1, m2)
				r.reads("alice", "phone", m1, m2)
				r.reads("bob", "phone", m1, m2)
				r.reads("bob", "tablet", m1, m2)
			},
		},
		{
			name: "good: a message to oneself is one operation",
			play: func(r run) {
				r.acked(self)
				r.reads("alice", "phone", self)
			},
		},
		{
			name: "good: a message to a chat is one operation of the chat",
			play: func(r run) {
				r.Chat("chat")
				r.acked(inChat, answer)
				r.reads("chat", "alice's phone", inChat, answer)
				r.reads("chat", "bob's phone", inChat, answer)
			},
		},
		{
			name: "a message to a chat is lost",
			play: func(r run) {
				r.Chat("chat")
				r.acked(inChat, answer)
				r.reads("chat", "alice's phone", answer)
			},
			want: map[Breach]int{Lost: 1},
		},
		{
			name: "a message is in a chat twice",
			play: func(r run) {
				r.Chat("chat")
				r.acked(inChat)
				r.reads("chat", "alice's phone", inChat, inChat)
			},
			want: map[Breach]int{Duplicated: 1},
		},
		{
			name: "a chat has one order, whoever sends",
			play: func(r run) {
				r.Chat("chat")
				r.acked(inChat, answer)
				r.reads("chat", "alice's phone", answer, inChat)
			},
			want: map[Breach]int{Reordered: 1},
		},
		{
			name: "good: operations that carry no message",
			play: func(r run) {
				r.acked(m1)
				for _, device := range []string{"phone", "tablet"} {
					d := r.Device("bob", device, 0)
					d.Saw(Operation{Revision: 1, Kind: Other, Time: 1, Message: Message{Body: "read"}})
					d.Saw(op("bob", 2, m1))
				}
				r.reads("alice", "phone", m1)
			},
		},
		{
			name: "bad: an operation that says something else than before",
			play: func(r run) {
				for _, body := range []string{"read", "muted"} {
					r.Device("bob", body, 0).Saw(Operation{Revision: 1, Kind: Other, Time: 1, Message: Message{Body: body}})
				}
			},
			want: map[Breach]int{Changed: 1},
		},
		{
			name: "good: unknown and in both mailboxes",
			play: func(r run) {
				r.Invoke(m1).Unknown()
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
		},
		{
			name: "good: unknown and in none",
			play: func(r run) {
				r.Invoke(m1).Unknown()
				r.reads("bob", "phone")
			},
		},
		{
			name: "good: unknown, turned away, then answered; answered alike on a retry",
			play: func(r run) {
				r.Invoke(m1).Unknown()
				r.Invoke(m1).NotTaken()
				r.acked(m1, m1)
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
		},
		{
			name: "good: the same id with another body is refused",
			play: func(r run) {
				r.acked(m1)
				r.Invoke(other).Refused()
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
		},
		{
			name: "good: sends that overlap may land either way",
			play: func(r run) {
				first, second := r.Invoke(m1), r.Invoke(m2)
				first.OK("id of 1", 1)
				second.OK("id of 2", 1)
				r.reads("alice", "phone", m2, m1)
				r.reads("bob", "phone", m2, m1)
			},
		},
		{
			name: "good: order between conversations is free",
			play: func(r run) {
				toCarol := Message{From: "alice", To: "carol", ClientID: "c", Body: "hi"}
				r.acked(m1, toCarol)
				r.reads("alice", "phone", toCarol, m1)
				r.reads("bob", "phone", m1)
				r.reads("carol", "phone", toCarol)
			},
		},
		{
			name: "good: a device reads again and starts in the middle",
			play: func(r run) {
				r.acked(m1, m2)
				r.reads("alice", "phone", m1, m2)
				d := r.reads("bob", "phone", m1, m2)
				d.Rewind(0)
				d.Saw(op("bob", 1, m1))
				d.Saw(op("bob", 2, m2))
				r.Device("bob", "tablet", 1).Saw(op("bob", 2, m2))
			},
		},
		{
			name: "lost at the recipient",
			play: func(r run) {
				r.acked(m1)
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone")
			},
			want: map[Breach]int{Lost: 1},
		},
		{
			name: "lost at the sender's other devices",
			play: func(r run) {
				r.acked(m1)
				r.reads("alice", "phone")
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Lost: 1},
		},
		{
			name: "lost note to oneself",
			play: func(r run) {
				r.acked(self)
				r.reads("alice", "phone")
			},
			want: map[Breach]int{Lost: 1},
		},
		{
			name: "one device stopped early",
			play: func(r run) {
				r.acked(m1, m2)
				r.reads("alice", "phone", m1, m2)
				r.reads("bob", "phone", m1, m2)
				r.reads("bob", "tablet", m1)
			},
			want: map[Breach]int{Lost: 1},
		},
		{
			name: "delivered twice, under one message id",
			play: func(r run) {
				r.acked(m1)
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1, m1)
			},
			want: map[Breach]int{Duplicated: 1},
		},
		{
			name: "delivered twice, under two message ids",
			play: func(r run) {
				r.acked(m1)
				r.reads("alice", "phone", m1)
				again := op("bob", 2, m1)
				again.MessageID = "new id"
				r.reads("bob", "phone", m1).Saw(again)
			},
			want: map[Breach]int{Duplicated: 1, Unstable: 1},
		},
		{
			name: "the sender's copy is there twice",
			play: func(r run) {
				r.acked(m1)
				r.reads("alice", "phone", m1, m1)
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Duplicated: 1},
		},
		{
			name: "a reply stands before what it answers",
			play: func(r run) {
				r.acked(m1, reply("2"))
				r.reads("alice", "phone", m1, reply("2"))
				r.reads("bob", "phone", reply("2"), m1)
			},
			want: map[Breach]int{Reordered: 1},
		},
		{
			name: "two sends of one user swapped, far apart",
			play: func(r run) {
				r.acked(m1, m2, m3)
				r.reads("alice", "phone", m1, m2, m3)
				r.reads("bob", "phone", m3, m2, m1)
			},
			want: map[Breach]int{Reordered: 2},
		},
		{
			name: "sent after the answer, of unknown outcome, and yet before it",
			play: func(r run) {
				r.acked(m1)
				r.Invoke(m2).Unknown()
				r.reads("alice", "phone", m1, m2)
				r.reads("bob", "phone", m2, m1)
			},
			want: map[Breach]int{Reordered: 1},
		},
		{
			name: "a revision is missing",
			play: func(r run) {
				r.acked(m1, m2)
				r.reads("alice", "phone", m1, m2)
				d := r.reads("bob", "phone", m1)
				d.Saw(op("bob", 3, m2))
			},
			want: map[Breach]int{Gap: 1},
		},
		{
			name: "a revision is handed over twice",
			play: func(r run) {
				r.acked(m1, m2)
				r.reads("alice", "phone", m1, m2)
				d := r.reads("bob", "phone", m1)
				d.Saw(op("bob", 1, m1))
				d.Saw(op("bob", 2, m2))
			},
			want: map[Breach]int{Backwards: 1},
		},
		{
			name: "log time goes back",
			play: func(r run) {
				r.acked(m1, m2)
				r.reads("alice", "phone", m1, m2)
				d := r.reads("bob", "phone", m1)
				late := op("bob", 2, m2)
				late.Time = 0
				d.Saw(late)
			},
			want: map[Breach]int{Backwards: 1},
		},
		{
			name: "a revision is used again",
			play: func(r run) {
				r.acked(m1)
				r.Invoke(m2).Unknown()
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
				r.reads("bob", "tablet", m2)
			},
			want: map[Breach]int{Changed: 1},
		},
		{
			name: "a body changes between two reads",
			play: func(r run) {
				r.acked(m1)
				r.reads("alice", "phone", m1)
				d := r.reads("bob", "phone", m1)
				d.Rewind(0)
				d.Saw(op("bob", 1, other))
			},
			want: map[Breach]int{Changed: 1},
		},
		{
			name: "a retry gets another message id",
			play: func(r run) {
				r.acked(m1)
				r.Invoke(m1).OK("new id", 1)
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Unstable: 1},
		},
		{
			name: "a retry gets another time",
			play: func(r run) {
				r.acked(m1)
				r.Invoke(m1).OK("id of 1", 2)
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Unstable: 1},
		},
		{
			name: "a retry is refused",
			play: func(r run) {
				r.acked(m1)
				r.Invoke(m1).Refused()
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Unstable: 1, Appeared: 2},
		},
		{
			name: "two bodies are acknowledged under one id",
			play: func(r run) {
				r.acked(m1)
				r.Invoke(other).OK("id of 1", 1)
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Unstable: 1},
		},
		{
			name: "the answer names one id, the mailbox another",
			play: func(r run) {
				r.Invoke(m1).OK("id of the answer", 1)
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Unstable: 2},
		},
		{
			name: "one id names two messages",
			play: func(r run) {
				r.Invoke(m1).OK("x", 1)
				r.Invoke(reply("2")).OK("x", 1)
			},
			want: map[Breach]int{Unstable: 1, Lost: 4},
		},
		{
			name: "unknown, and only the recipient has it",
			play: func(r run) {
				r.Invoke(m1).Unknown()
				r.reads("alice", "phone")
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Half: 1},
		},
		{
			name: "unknown, and only the sender has it",
			play: func(r run) {
				r.Invoke(m1).Unknown()
				r.reads("alice", "phone", m1)
			},
			want: map[Breach]int{Half: 1},
		},
		{
			name: "a message that nobody sent",
			play: func(r run) {
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Alien: 2},
		},
		{
			name: "a body that nobody sent",
			play: func(r run) {
				r.acked(m1)
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", other)
			},
			want: map[Breach]int{Alien: 1},
		},
		{
			name: "in the mailbox of somebody else",
			play: func(r run) {
				r.acked(m1)
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
				r.reads("carol", "phone", m1)
			},
			want: map[Breach]int{Alien: 1, Duplicated: 1},
		},
		{
			name: "refused, and delivered",
			play: func(r run) {
				r.Invoke(m1).Refused()
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Appeared: 2},
		},
		{
			name: "turned away each time, and delivered",
			play: func(r run) {
				r.Invoke(m1).NotTaken()
				r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
			},
			want: map[Breach]int{Appeared: 2},
		},
		{
			name: "good: after a power cut without fsync what was acknowledged may be gone",
			play: func(r run) {
				r.acked(m1, m2)
				alice := r.reads("alice", "phone", m1, m2)
				bob := r.reads("bob", "phone", m1, m2)
				r.LoseAll()
				r.acked(m3)
				for _, d := range []*Device{alice, bob} {
					d.Saw(op(d.user, 1, m1))
					d.Saw(op(d.user, 2, m3))
				}
			},
		},
		{
			name: "after a power cut without fsync new sends are lost",
			play: func(r run) {
				r.acked(m1)
				alice := r.reads("alice", "phone", m1)
				r.reads("bob", "phone", m1)
				r.LoseAll()
				r.acked(m3)
				alice.Saw(op("alice", 1, m3))
			},
			want: map[Breach]int{Lost: 1},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			history := New()
			test.play(run{history})
			report := history.Check()
			for kind := range numBreaches {
				if got, want := report.Count(kind), test.want[kind]; got != want {
					t.Errorf("found %d %v, want %d", got, kind, want)
				}
			}
			if report.OK() != (len(test.want) == 0) {
				t.Errorf("OK() = %v", report.OK())
			}
			if again := history.Check(); again.String() != report.String() {
				t.Errorf("a second check says %q, the first said %q", again, report)
			}
			if t.Failed() {
				t.Log("\n" + report.Explain())
			}
		})
	}
}

func TestNonsensicalRevisionsAreBounded(t *testing.T) {
	r := run{New()}
	d := r.Device("bob", "phone", 0)
	d.Saw(op("bob", 1<<60, message("1")))
	d.Saw(op("bob", -1, message("1")))
	report := r.Check()
	if !r.Broken() {
		t.Error("a gap is seen at once")
	}
	if report.Count(Gap) != 1 || report.Count(Backwards) != 1 || report.Operations != 0 {
		t.Error(report)
	}
}

func TestCounts(t *testing.T) {
	r := run{New()}
	if !r.Invoke(message("1")).OK("id of 1", 1) || r.Invoke(message("1")).OK("id of 1", 1) {
		t.Error("the first acknowledgement is not told from the second")
	}
	r.Invoke(message("2")).Unknown()
	r.Invoke(message("3")).Refused()
	r.Invoke(message("4")).NotTaken()
	open := r.Invoke(message("5"))
	if got := r.InFlight(); got != 1 {
		t.Errorf("%d in flight, want 1", got)
	}
	if got := r.Unsettled(); got != 1 {
		t.Errorf("%d unsettled, want 1: acknowledged and not seen", got)
	}
	open.Unknown()
	if got, want := r.Check().String(), "acked 1, unknown 2, refused 1, operations 0, lost 2,"; !strings.HasPrefix(got, want) {
		t.Errorf("report %q does not begin with %q", got, want)
	}
}

// A naive mailbox server that keeps its promises is never blamed, whatever its
// clients do; with one operation dropped or doubled it always is.
func TestAgainstNaiveServer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		users := []string{"alice", "bob", "carol"}
		history := New()
		boxes := map[string][]Operation{}
		deliver := func(user string, kind Kind, id string, m Message) {
			n := int64(len(boxes[user])) + 1
			boxes[user] = append(boxes[user], Operation{Revision: n, Kind: kind, Time: n, MessageID: id, Created: 7, Message: m})
		}
		store := func(m Message) string {
			id := "id " + m.ClientID
			deliver(m.To, Received, id, m)
			if m.From != m.To {
				deliver(m.From, Sent, id, m)
			}
			return id
		}
		for i := range rapid.IntRange(1, 30).Draw(t, "sends") {
			m := Message{
				From: rapid.SampledFrom(users).Draw(t, "from"), To: rapid.SampledFrom(users).Draw(t, "to"),
				ClientID: fmt.Sprint(i), Body: rapid.String().Draw(t, "body"),
			}
			attempt := history.Invoke(m)
			switch rapid.IntRange(0, 4).Draw(t, "fate") {
			case 0:
				attempt.Refused()
			case 1:
				attempt.Unknown()
			case 2:
				// A note to oneself of unknown outcome has no second mailbox to
				// compare with: that it was dropped could not be seen.
				if m.From != m.To {
					store(m)
				}
				attempt.Unknown()
			default:
				id := store(m)
				attempt.OK(id, 7)
				if rapid.Bool().Draw(t, "retry") {
					history.Invoke(m).OK(id, 7)
				}
			}
		}
		damage := rapid.SampledFrom([]string{"none", "drop", "double"}).Draw(t, "damage")
		victim := rapid.SampledFrom(users).Draw(t, "victim")
		if len(boxes[victim]) == 0 {
			damage = "none"
		}
		for _, user := range users {
			rows := boxes[user]
			if user == victim && damage == "drop" {
				rows = rows[:len(rows)-1]
			}
			d := history.Device(user, "phone", 0)
			for _, row := range rows {
				d.Saw(row)
			}
			if user == victim && damage == "double" {
				last := rows[len(rows)-1]
				last.Revision++
				d.Saw(last)
			}
		}
		if report := history.Check(); report.OK() != (damage == "none") {
			t.Fatalf("damage %s: %v\n%s", damage, report, report.Explain())
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	const messages = 10_000
	r := run{New()}
	sender, recipient := r.Device("alice", "phone", 0), r.Device("bob", "phone", 0)
	for i := range messages {
		m := message(fmt.Sprint(i))
		r.acked(m)
		sender.Saw(op("alice", int64(i)+1, m))
		recipient.Saw(op("bob", int64(i)+1, m))
	}
	for b.Loop() {
		if report := r.Check(); !report.OK() {
			b.Fatal(report)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/messages, "ns/message")
}
