package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// scripts are texts that servers have mangled: by trimming, normalising,
// cutting between code points, or taking bytes for characters.
var scripts = map[string]string{
	"Arabic":                "السلام عليكم، كيف حالك؟ ١٢٣",
	"Hebrew with points":    "שָׁלוֹם עוֹלָם",
	"mixed directions":      "abc אבג 123 \u200f\u202eabc\u202c",
	"Thai":                  "น้ำใจไมตรี กำลังจะไปที่นั่น",
	"Devanagari":            "क्षत्रिय ज्ञान श्री हिन्दी",
	"Bengali":               "আপনি কেমন আছেন?",
	"Tamil":                 "வணக்கம் நண்பரே",
	"Khmer":                 "សួស្តី\u200bពិភពលោក",
	"Japanese":              "こんにちは、元気ですか？ ｶﾞｷﾞｸﾞ",
	"Korean, decomposed":    "\u1112\u1161\u11ab\u1100\u1173\u11af",
	"Chinese, beyond BMP":   "𠮷野家 𪚥",
	"family of emoji":       "👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 🇯🇵 1️⃣",
	"composed":              "\u00e9",
	"decomposed":            "e\u0301",
	"lone combining mark":   "\u0301",
	"many combining marks":  "Z" + strings.Repeat("\u0336\u0321\u0489", 50),
	"lone joiner":           "\u200d",
	"lone variation":        "\ufe0f",
	"byte order mark":       "\ufefftext",
	"U+0000":                "a\x00b",
	"control characters":    "\x01\x07\x1b[31m\x7f\u0085",
	"non-characters":        "\ufffe\uffff\U0010ffff",
	"replacement character": "\ufffd",
	"only spaces":           "   ",
	"spaces around":         "\t\n text \u00a0\u3000\r\n",
	"line separators":       "a\u2028b\u2029c",
	"looks like JSON":       `{"text":"\u0041"}\`,
	"looks like markup":     "<script>&amp;</script>",
	"longest":               strings.Repeat("長", 10_000),
	"longest, four bytes":   strings.Repeat("😀", 10_000),
}

// Text comes back as it was sent, byte for byte, in JSON and in binary.
func TestTextIsKeptByteForByte(t *testing.T) {
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	alice, bob := users[0], users[1]
	for name, body := range scripts {
		t.Run(name, func(t *testing.T) {
			for _, json := range []bool{true, false} {
				alice.JSON = json
				alice.send(&tegamiv1.SendMessageRequest{To: "bob", Body: &tegamiv1.SendMessageRequest_Text{Text: body}})
				for _, json := range []bool{true, false} {
					bob.JSON = json
					op := bob.fetch(bob.head() - 1).GetOps()[0]
					if got := op.GetReceiveMessage().GetText(); got != body {
						t.Errorf("came back as %+q, sent %+q", got, body)
					}
				}
			}
		})
	}
}

// The conversations of the corpus, when `make corpus` has fetched it: some of
// each language.
func TestCorpusIsKeptByteForByte(t *testing.T) {
	turns := corpus(t, 40)
	server := start(t)
	users := signIn(t, server, "alice", "bob")
	for i, body := range turns {
		from, to := users[i%2], users[1-i%2]
		from.send(&tegamiv1.SendMessageRequest{To: to.name, Body: &tegamiv1.SendMessageRequest_Text{Text: body}})
	}
	for _, u := range users {
		next := 0
		for more := true; more; {
			page := u.fetch(int64(next))
			for _, op := range page.GetOps() {
				if got := message(op).GetText(); got != turns[next] {
					t.Fatalf("%s: turn %d came back as %q, sent %q", u.name, next, got, turns[next])
				}
				next++
			}
			more = page.GetHasMore()
		}
		if next != len(turns) {
			t.Errorf("%s has %d turns, want %d", u.name, next, len(turns))
		}
	}
	t.Logf("progress: %d turns of the corpus came back byte for byte", len(turns))
}

// corpus returns up to some turns of each language, or the built-in texts when
// there is no corpus.
func corpus(t *testing.T, each int) []string {
	t.Helper()
	path := os.Getenv("TEGAMI_CORPUS")
	if path == "" {
		path = filepath.Join("..", "..", "corpus", "conversations.jsonl")
	}
	file, err := os.Open(path)
	if os.IsNotExist(err) && os.Getenv("TEGAMI_CORPUS") == "" {
		t.Logf("progress: no corpus (make corpus fetches it): the built-in texts are used")
		var turns []string
		for _, body := range scripts {
			turns = append(turns, body)
		}
		return turns
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var turns []string
	taken := map[string]int{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var conversation struct {
			Language string   `json:"language"`
			Turns    []string `json:"turns"`
		}
		if err := json.Unmarshal(lines.Bytes(), &conversation); err != nil {
			t.Fatal(err)
		}
		for _, turn := range conversation.Turns {
			if taken[conversation.Language] < each && turn != "" {
				taken[conversation.Language]++
				turns = append(turns, turn)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return turns
}
