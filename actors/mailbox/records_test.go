package mailbox

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// Records as the API's handlers make them, but with hashes that need no key.

const mint = 1_700_000_000_000

// hash returns the first n bytes of a hash of parts.
func hash(n int, parts ...any) []byte {
	sum := sha256.Sum256([]byte(fmt.Sprintln(parts...)))
	return sum[:n:n]
}

// command fills in what every command has: a dedup key of its id, and a hash
// of what it asks for.
func command(id string, kind *record.Record, asked ...any) *record.Record {
	kind.Id = hash(16, "id", id)
	kind.MintTime = mint
	kind.DedupKey = hash(persistence.DedupKeySize, "command", id)
	kind.BodyHash = hash(persistence.BodyHashSize, asked...)
	return kind
}

// send makes a message of size bytes whose client message id is id.
func send(from, id string, size int) *record.Record {
	return command(from+"/"+id, &record.Record{Kind: &record.Record_Send{Send: &record.Send{
		MessageId:       hash(16, "message", from, id),
		From:            from,
		ClientMessageId: id,
		FromDevice:      "phone",
		SealedBody:      []byte(strings.Repeat("r", size)),
		SealedCopy:      []byte(strings.Repeat("s", size)),
	}}}, "send", size)
}

func createAccount(displayName string) *record.Record {
	return command("create/"+displayName, &record.Record{Kind: &record.Record_CreateAccount{
		CreateAccount: &record.CreateAccount{DisplayName: displayName, PasswordHash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2E$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"},
	}}, "create", displayName)
}

func signIn(device string) *record.Record {
	return command("signin/"+device, &record.Record{Kind: &record.Record_SignIn{
		SignIn: &record.SignIn{DeviceId: device, RefreshHash: hash(32, device)},
	}}, "signin", device)
}
