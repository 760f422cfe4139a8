package kafka

import (
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"hash"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/persistence"
)

// The examples of RFC 5802 and RFC 7677.
func TestScram(t *testing.T) {
	for _, test := range []struct {
		name                            string
		hash                            func() hash.Hash
		nonce, first, challenge, answer string
		proof                           string
	}{
		{
			name: "RFC 5802", hash: sha1.New, nonce: "fyko+d2lbbFgONRv9qkxdawL",
			first:     "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
			challenge: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			answer:    "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
			proof:     "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
		},
		{
			name: "RFC 7677", hash: sha256.New, nonce: "rOprNGfwEbeRWgbNEkqO",
			first:     "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
			challenge: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			answer:    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			proof:     "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := func() *scram {
				s := &scram{hash: test.hash, nonce: test.nonce}
				if err := s.Begin("user", "pencil", ""); err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := client()
			for _, step := range [][2]string{{"", test.first}, {test.challenge, test.answer}, {test.proof, ""}} {
				if s.Done() {
					t.Fatal("done too early")
				}
				if got, err := s.Step(step[0]); err != nil || got != step[1] {
					t.Fatalf("to %q it says %q, %v; want %q", step[0], got, err, step[1])
				}
			}
			if !s.Done() {
				t.Fatal("not done")
			}
			for _, false1 := range []string{"v=" + strings.Repeat("A", 28), "e=invalid-proof", "", test.proof + "x"} {
				s := client()
				_, _ = s.Step("")
				_, _ = s.Step(test.challenge)
				if _, err := s.Step(false1); err == nil {
					t.Errorf("%q is taken for a server's proof", false1)
				}
			}
			for _, challenge := range []string{"", "r=other,s=QSXCR+Q6sek8bf92,i=4096", "r=" + test.nonce + ",s=QSXCR+Q6sek8bf92,i=4096", "r=" + test.nonce + "x,s=?,i=4096", "r=" + test.nonce + "x,s=QSXCR+Q6sek8bf92,i=999999999"} {
				s := client()
				_, _ = s.Step("")
				if _, err := s.Step(challenge); err == nil {
					t.Errorf("the challenge %q is answered", challenge)
				}
			}
		})
	}
}

// Whatever is started where, the generations of a log never go back along its
// offsets, the newest is that of the next append, and what lies in the log
// keeps its generation.
func TestGenerationsRise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var spans []span
		var log []uint32
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"append", "start", "lose"}).Draw(t, "step") {
			case "append":
				log = append(log, generationOf(spans, int64(len(log))))
			case "start":
				before := uint32(1)
				if len(spans) > 0 {
					before = spans[len(spans)-1].Generation
				}
				spans = follow(spans, int64(len(log)))
				if last := spans[len(spans)-1]; last.Generation != before+1 || generationOf(spans, int64(len(log))) != last.Generation {
					t.Fatalf("after generation %d: %v", before, spans)
				}
			case "lose": // then the operator starts a generation
				log = log[:rapid.IntRange(0, len(log)).Draw(t, "end")]
				spans = follow(spans, int64(len(log)))
			}
			for offset, generation := range log {
				if got := generationOf(spans, int64(offset)); got != generation {
					t.Fatalf("offset %d was of generation %d and is of %d: %v", offset, generation, got, spans)
				}
			}
			if !slices.IsSorted(log) {
				t.Fatalf("generations go back: %v", log)
			}
		}
	})
}

func TestGenerationsThatDoNotReadAreAnError(t *testing.T) {
	for _, record := range [][2]string{
		{"shard/x", "[]"},
		{"shard/1", "{}"},
		{"shard/1", `[{"generation":0,"from":3}]`},
		{"shard/1", `[{"generation":2,"from":3},{"generation":2,"from":5}]`},
		{"shard/1", `[{"generation":2,"from":3},{"generation":3,"from":3}]`},
		{"other", ""},
	} {
		s := generationState{spans: map[uint32][]span{}}
		if err := s.read(record[0], record[1]); err == nil {
			t.Errorf("%q: %q is read as %+v", record[0], record[1], s)
		}
	}
}

func TestStampIsTheBrokers(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	batch := &sarama.RecordBatch{FirstTimestamp: at.Add(-time.Hour), MaxTimestamp: at, LogAppendTime: true}
	record := &sarama.Record{TimestampDelta: 5 * time.Millisecond}
	if got := stamp(batch, record); got != at.UnixMilli() {
		t.Errorf("log time is %d, want the broker's %d", got, at.UnixMilli())
	}
	batch.LogAppendTime = false
	if got, want := stamp(batch, record), at.Add(-time.Hour).UnixMilli()+5; got != want {
		t.Errorf("log time is %d, want the sender's %d", got, want)
	}
}

func TestHoleInTheLogIsDamage(t *testing.T) {
	j := &Journal{}
	block := func(first int64, offsets ...int64) *sarama.FetchResponseBlock {
		batch := &sarama.RecordBatch{FirstOffset: first}
		for _, at := range offsets {
			batch.Records = append(batch.Records, &sarama.Record{OffsetDelta: at - first, Value: []byte("x")})
		}
		return &sarama.FetchResponseBlock{RecordsSet: []*sarama.Records{{RecordBatch: batch}}, HighWaterMarkOffset: 10}
	}
	if entries, err := j.entries(0, 3, 100, block(2, 2, 3, 4)); err != nil || len(entries) != 2 || entries[0].Position.Offset != 3 {
		t.Errorf("read %v, %v", entries, err)
	}
	for _, damaged := range []*sarama.FetchResponseBlock{
		block(4, 4), block(2, 2, 4),
		{RecordsSet: []*sarama.Records{{MsgSet: &sarama.MessageSet{}}}},
		{RecordsSet: []*sarama.Records{{RecordBatch: &sarama.RecordBatch{Control: true}}}},
	} {
		if _, err := j.entries(0, 3, 100, damaged); !errors.Is(err, persistence.ErrDamaged) {
			t.Errorf("%+v is read with %v", damaged, err)
		}
	}
	if _, err := j.entries(0, 3, 100, &sarama.FetchResponseBlock{HighWaterMarkOffset: 10}); err == nil {
		t.Error("nothing is taken for the end of the log")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := func() Options { return Options{Brokers: []string{"x:1"}, Topic: "t", Shards: 8} }
	o := good()
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.config("test"); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(o *Options){
		"brokers":   func(o *Options) { o.Brokers = nil },
		"topic":     func(o *Options) { o.Topic = "" },
		"shards":    func(o *Options) { o.Shards = 0 },
		"replicas":  func(o *Options) { o.Replicas = -1 },
		"timeout":   func(o *Options) { o.Timeout = time.Millisecond },
		"in flight": func(o *Options) { o.InFlight = 6 },
		"append":    func(o *Options) { o.MaxAppendBytes = 1 },
		"queue":     func(o *Options) { o.QueueBytes = 1 },
		"mechanism": func(o *Options) { o.SASL = &SASL{Mechanism: "GUESS", User: "a", Password: "b"} },
	} {
		o := good()
		spoil(&o)
		err := o.complete()
		if err == nil {
			_, err = o.config("test")
		}
		if err == nil {
			t.Errorf("wrong %s: no error", name)
		}
	}
}
