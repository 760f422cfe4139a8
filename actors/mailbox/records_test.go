package mailbox

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// box is a mailbox in a test. Its records come one offset after the other, at
// the log time that the test sets.
type box struct {
	*State
	t      testing.TB
	offset int64
	time   int64
}

// start is the log time at which tests begin.
const start = 1_700_000_000_000

func newBox(t testing.TB) *box { return &box{State: New("bob"), t: t, time: start} }

// newAccount is a mailbox that exists.
func newAccount(t testing.TB) *box {
	t.Helper()
	b := newBox(t)
	b.accept(createAccount("bob"))
	return b
}

func (b *box) apply(r *record.Record) Outcome {
	b.offset++
	return b.Apply(Input{Position: at(b.offset), Time: b.time, Record: r})
}

// accept applies a record that must not be refused.
func (b *box) accept(r *record.Record) Outcome {
	b.t.Helper()
	out := b.apply(r)
	if out.Answer.Reason != refusal.None {
		b.t.Fatalf("%T at %d: refused: %v %s", r.Kind, b.offset, out.Answer.Reason, out.Fault)
	}
	return out
}

func (b *box) wait(d time.Duration) { b.time += d.Milliseconds() }

// reload is the mailbox after it was stored and loaded.
func (b *box) reload(loaded persistence.Mailbox) *box {
	b.t.Helper()
	loaded.Position, loaded.State = b.position, b.encode()
	s, err := Decode("bob", &loaded)
	if err != nil {
		b.t.Fatal(err)
	}
	return &box{State: s, t: b.t, offset: b.offset, time: b.time}
}

func at(offset int64) persistence.Position {
	return persistence.Position{Generation: 1, Offset: offset}
}

// hash returns the first n bytes of a hash of parts. A server's are keyed.
func hash(n int, parts ...any) []byte {
	sum := sha256.Sum256([]byte(fmt.Sprintln(parts...)))
	return sum[:n:n]
}

// command fills in what every command has: a dedup key of its id, and a hash
// of what it asks for.
func command(id string, r *record.Record, asked ...any) *record.Record {
	r.Id = hash(16, "id", id)
	r.Mailbox = "bob"
	r.MintTime = start
	r.DedupKey = hash(persistence.DedupKeySize, "command", id)
	r.BodyHash = hash(persistence.BodyHashSize, asked...)
	return r
}

// mintedAt sets when a command was made.
func mintedAt(r *record.Record, mint int64) *record.Record {
	r.MintTime = mint
	return r
}

// send is a message of size bytes whose client message id is id.
func send(from, id string, size int) *record.Record {
	return command("send/"+from+"/"+id, &record.Record{Kind: &record.Record_Send{Send: &record.Send{
		MessageId:       hash(persistence.MessageIDSize, "message", from, id),
		From:            from,
		ClientMessageId: id,
		FromDevice:      "phone",
		SealedBody:      []byte(strings.Repeat("r", size)),
		SealedCopy:      []byte(strings.Repeat("s", size)),
	}}}, "send", size)
}

// retry is the same message as a client repeats it: with a message id of its
// own.
func retry(from, id string, size int) *record.Record {
	r := send(from, id, size)
	r.GetSend().MessageId = hash(persistence.MessageIDSize, "retry", from, id)
	return r
}

// sentCopy is the copy of what bob sent to source, taken there at a position.
func sentCopy(source string, position persistence.Position) *record.Record {
	return &record.Record{
		Id:      followUpID(source, position),
		Mailbox: "bob",
		Kind: &record.Record_SentCopy{SentCopy: &record.SentCopy{
			Source:           source,
			SourceGeneration: position.Generation,
			SourceOffset:     position.Offset,
			MessageId:        hash(persistence.MessageIDSize, source, position),
			FromDevice:       "phone",
			SealedBody:       []byte("s"),
			MessageTime:      start - 1,
		}},
	}
}

func createAccount(displayName string) *record.Record {
	return command("create/"+displayName, &record.Record{Kind: &record.Record_CreateAccount{
		CreateAccount: &record.CreateAccount{ //nolint:gosec // no credential: the hash matches no password
			DisplayName:  displayName,
			PasswordHash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2E$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g",
		},
	}}, "create", displayName)
}

// token is the hash of a refresh token's secret.
func token(name string) []byte { return hash(sha256.Size, "token", name) }

func signIn(device, refresh string) *record.Record {
	return command("signin/"+refresh, &record.Record{Kind: &record.Record_SignIn{
		SignIn: &record.SignIn{DeviceId: device, RefreshHash: token(refresh)},
	}}, "signin", device)
}

func refresh(device string, epoch uint64, presented, next string) *record.Record {
	return command("refresh/"+presented+"/"+next, &record.Record{Kind: &record.Record_Refresh{
		Refresh: &record.Refresh{
			DeviceId: device, Epoch: epoch, PresentedHash: token(presented), RefreshHash: token(next),
		},
	}}, "refresh", device)
}

func signOut(device string, epoch uint64) *record.Record {
	return command(fmt.Sprint("signout/", device, epoch), &record.Record{Kind: &record.Record_SignOut{
		SignOut: &record.SignOut{DeviceId: device, Epoch: epoch},
	}}, "signout", device)
}

func trim(first int64) *record.Record {
	return &record.Record{
		Mailbox: "bob",
		Kind:    &record.Record_Trim{Trim: &record.Trim{FirstRevision: first}},
	}
}
