package sealing_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/sealing"
)

func drawKey(t *rapid.T, label string) (key persistence.Key) {
	copy(key[:], rapid.SliceOfN(rapid.Byte(), len(key), len(key)).Draw(t, label))
	return key
}

// TestSealOpens: a sealed body opens with its key, mailbox and message id, and
// with nothing else.
func TestSealOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := drawKey(t, "key")
		mailbox := rapid.StringMatching(`[a-z]{1,8}`).Draw(t, "mailbox")
		id := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		sealed := sealing.Seal(key, mailbox, id, body)
		opened, err := sealing.NewOpener(key, mailbox).Open(nil, id, sealed)
		if err != nil || !bytes.Equal(opened, body) {
			t.Fatalf("opened %x, error %v, want %x", opened, err, body)
		}
		if len(body) >= 8 && bytes.Contains(sealed, body) {
			t.Fatal("the sealed body shows the body")
		}

		otherKey, otherID, otherMailbox := key, bytes.Clone(id), mailbox
		damaged := bytes.Clone(sealed)
		switch rapid.SampledFrom([]string{"key", "mailbox", "id", "bytes", "length"}).Draw(t, "change") {
		case "key":
			otherKey[rapid.IntRange(0, 31).Draw(t, "at")] ^= 1
		case "mailbox":
			otherMailbox += "x"
		case "id":
			otherID[rapid.IntRange(0, 15).Draw(t, "at")] ^= 1
		case "bytes":
			damaged[rapid.IntRange(0, len(damaged)-1).Draw(t, "at")] ^= 1
		case "length":
			damaged = damaged[:rapid.IntRange(0, len(damaged)-1).Draw(t, "length")]
		}
		if _, err := sealing.NewOpener(otherKey, otherMailbox).Open(nil, otherID, damaged); !errors.Is(err, sealing.ErrOpen) {
			t.Fatalf("opening what was changed returns %v, want ErrOpen", err)
		}
	})
}

// TestSealDiffers: no nonce is used twice.
func TestSealDiffers(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		sealed := string(sealing.Seal(persistence.Key{}, "a", nil, []byte("same")))
		if seen[sealed[:12]] {
			t.Fatal("a nonce was used twice")
		}
		seen[sealed[:12]] = true
	}
}

func TestHash(t *testing.T) {
	key := persistence.Key{1, 2, 3}
	sum := func(key persistence.Key, purpose string, parts ...string) string {
		var data [][]byte
		for _, part := range parts {
			data = append(data, []byte(part))
		}
		var sum [32]byte
		sealing.Hash(sum[:], key, purpose, data...)
		return hex.EncodeToString(sum[:])
	}
	seen := map[string]string{}
	for name, hash := range map[string]string{
		"plain":                    sum(key, "dedup", "ab", "c"),
		"parts cut elsewhere":      sum(key, "dedup", "a", "bc"),
		"parts joined":             sum(key, "dedup", "abc"),
		"another purpose":          sum(key, "body", "ab", "c"),
		"purpose taken for a part": sum(key, "dedupab", "c"),
		"an empty part more":       sum(key, "dedup", "ab", "c", ""),
		"another key":              sum(persistence.Key{1, 2, 4}, "dedup", "ab", "c"),
	} {
		if other, ok := seen[hash]; ok {
			t.Errorf("%q and %q have one hash", name, other)
		}
		seen[hash] = name
	}
	// HMAC-SHA-256 over the length and the bytes of each part, computed apart:
	// the hashes lie in journals and must never change.
	const want = "98b6dc0e7a7cfda57e5214f377b6c610972d109343ce0eb75a9fc9559191277a"
	if got := sum(key, "dedup", "ab", "c"); got != want {
		t.Errorf("the hash is %s, want %s", got, want)
	}
	var short [10]byte
	sealing.Hash(short[:], key, "dedup", []byte("ab"), []byte("c"))
	if got := hex.EncodeToString(short[:]); got != want[:20] {
		t.Errorf("the short hash is %s, want %s", got, want[:20])
	}
}

func FuzzOpen(f *testing.F) {
	key := persistence.Key{7}
	f.Add(sealing.Seal(key, "a", []byte("id"), []byte("body")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		body, err := sealing.NewOpener(key, "a").Open(nil, []byte("id"), sealed)
		if err == nil && string(body) != "body" {
			t.Fatalf("forged: %q", body)
		}
	})
}

var body100 = bytes.Repeat([]byte("x"), 100)

func BenchmarkSeal(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		sealing.Seal(persistence.Key{}, "alice", body100[:16], body100)
	}
}

func BenchmarkOpen(b *testing.B) {
	sealed := sealing.Seal(persistence.Key{}, "alice", body100[:16], body100)
	opener := sealing.NewOpener(persistence.Key{}, "alice")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := opener.Open(nil, body100[:16], sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	var sum [10]byte
	b.ReportAllocs()
	for b.Loop() {
		sealing.Hash(sum[:], persistence.Key{}, "dedup", body100)
	}
}

// However many ciphers are kept, a body is opened with the key that is given.
func TestKeptCiphersOpenWithTheKeyThatIsGiven(t *testing.T) {
	var ciphers sealing.Ciphers
	id, body := []byte("0123456789abcdef"), []byte("hello")
	for round := range 3 {
		for i := range 300 {
			mailbox, key := fmt.Sprint("chat", i), persistence.Key{byte(i), byte(round)}
			sealed := sealing.Seal(key, mailbox, id, body)
			if opened, err := ciphers.Opener(key, mailbox).Open(nil, id, sealed); err != nil || !bytes.Equal(opened, body) {
				t.Fatalf("opened %q, %v", opened, err)
			}
			if _, err := ciphers.Opener(persistence.Key{byte(i), 99}, mailbox).Open(nil, id, sealed); !errors.Is(err, sealing.ErrOpen) {
				t.Fatalf("another key opens it: %v", err)
			}
		}
	}
}
