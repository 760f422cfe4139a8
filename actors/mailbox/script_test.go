package mailbox

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata print into them")

// Scripts tell, in prose and commands, what a mailbox does. A block is a
// paragraph of # lines, of commands, or both; after the commands a line ----
// and what they print, up to an empty line.
func TestScripts(t *testing.T) {
	runScripts(t, "testdata/*.txt", func(t *testing.T) func(string) string {
		t.Cleanup(func() { panicOn = nil })
		s := &script{t: t, state: New("bob"), time: start}
		return s.run
	})
}

// Conversations tell, in the same way, what several people do, and which
// operations the devices of each receive.
func TestConversations(t *testing.T) {
	runScripts(t, "testdata/conversations/*.txt", func(t *testing.T) func(string) string {
		w, hold := newWorld(t, "alice", "bob", "carol"), false
		w.printHeard()
		return func(line string) string { return w.run(line, &hold) }
	})
}

// runScripts runs each of the scripts that a pattern names in a world of its
// own.
func runScripts(t *testing.T, pattern string, begin func(*testing.T) (run func(line string) string)) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			was, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			is := runScript(string(was), begin(t))
			if *rewrite {
				if err := os.WriteFile(file, []byte(is), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(was), "\n"), strings.Split(is, "\n")); diff != "" {
				t.Errorf("(-want +got; -rewrite accepts)\n%s", diff)
			}
		})
	}
}

// runScript returns the script with what its commands print now.
func runScript(text string, run func(line string) string) string {
	var blocks []string
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		lines, _, hasCommands := strings.Cut(block, "\n----")
		if hasCommands {
			var printed strings.Builder
			for line := range strings.SplitSeq(lines, "\n") {
				if !strings.HasPrefix(line, "#") {
					printed.WriteString(run(line))
				}
			}
			block = strings.TrimSpace(lines + "\n----\n" + strings.TrimSpace(printed.String()))
		}
		blocks = append(blocks, block)
	}
	return strings.Join(blocks, "\n\n") + "\n"
}

// script is the world of a script: a journal, what is stored, and one owner of
// bob's mailbox.
type script struct {
	t      *testing.T
	log    []Input
	stored history
	writes history
	state  *State
	time   int64
}

// arguments are those of a command: name=value.
type arguments map[string]string

func (a arguments) number(name string) int64 {
	n, _ := strconv.ParseInt(a[name], 10, 64)
	return n
}

func (a arguments) duration(name string) int64 {
	d, _ := time.ParseDuration(a[name])
	return d.Milliseconds()
}

// run runs a command and returns what it prints.
func (s *script) run(line string) string {
	fields := strings.Fields(line)
	args := arguments{}
	for _, field := range fields[1:] {
		name, value, _ := strings.Cut(field, "=")
		args[name] = value
	}
	switch fields[0] {
	case "state":
		return s.printState()
	case "store":
		s.stored = slices.Clone(s.writes)
		return fmt.Sprintf("stored up to %d\n", s.stored[len(s.stored)-1].Position.Offset)
	case "restart":
		s.state = s.stored.load(s.t, "bob", int(args.number("entries")))
		return fmt.Sprintf("loaded at %d\n", s.state.Position().Offset)
	case "replay":
		var printed strings.Builder
		for _, in := range s.log[args.number("from")-1:] {
			printed.WriteString(s.apply(in))
		}
		return printed.String()
	}
	var r *record.Record
	if fields[0] == "again" {
		r = s.log[args.number("offset")-1].Record
	} else {
		r = s.record(fields[0], args)
	}
	s.time += args.duration("wait")
	if r.DedupKey != nil && fields[0] != "again" {
		r.MintTime = s.time - args.duration("age")
	}
	if args["panics"] != "" {
		panicOn = func(applied *record.Record) {
			if applied == r {
				panic("planted")
			}
		}
	}
	in := Input{Position: at(int64(len(s.log) + 1)), Time: s.time, Record: r}
	s.log = append(s.log, in)
	return s.apply(in)
}

// record makes the record that a command stands for.
func (s *script) record(command string, args arguments) *record.Record {
	switch command {
	case "create":
		return createAccount(args["name"])
	case "send":
		r := send(args["from"], args["id"], len(args["body"]))
		m := r.GetSend()
		m.MessageId = fmt.Appendf(nil, "%16s", fmt.Sprint(args["id"], "@", len(s.log)+1))
		m.SealedBody, m.SealedCopy = []byte(args["body"]), []byte(args["body"])
		m.FromDevice = args["device"]
		return r
	case "copy":
		r := sentCopy(args["of"], at(args.number("offset")))
		r.GetSentCopy().MessageId = fmt.Appendf(nil, "%16s", fmt.Sprint(args["id"], "@", args["offset"]))
		r.GetSentCopy().FromDevice = args["device"]
		r.GetSentCopy().SealedBody = []byte(args["body"])
		return r
	case "sign-in":
		return signIn(args["device"], args["token"])
	case "refresh":
		return refresh(args["device"], uint64(args.number("epoch")), args["presents"], args["token"])
	case "sign-out":
		return signOut(args["device"], uint64(args.number("epoch")))
	case "trim":
		return trim(args.number("first"))
	}
	s.t.Fatalf("no such command: %s", command)
	return nil
}

// apply applies a record and returns what came of it, in words.
func (s *script) apply(in Input) string {
	asked := s.stored.lookUp(s.state, in)
	_, lookedUp := s.state.LookUp(in.Record, in.Time)
	out := s.state.Apply(asked)
	if !out.Skipped {
		s.writes = s.writes.upTo(at(in.Position.Offset - 1)) // a replay writes what was written
		s.writes.keep(out)
	}
	words := []string{printAnswer(in.Record, out.Answer)}
	if out.Skipped {
		words[0] = "skipped, " + words[0]
	}
	if lookedUp {
		words[0] += ", looked up"
	}
	for _, op := range out.Operations {
		m, kind := op.GetReceiveMessage(), "receive"
		if m == nil {
			m, kind = op.GetSendMessage(), "send"
		}
		words = append(words, fmt.Sprintf("%d: %s %s, %s to %s: %s%s", op.Revision, kind, strings.TrimSpace(string(m.MessageId)), m.From, m.To, m.SealedBody,
			optional(", caused by ", op.OriginDevice)))
	}
	for _, f := range out.FollowUps {
		c := f.Record.GetSentCopy()
		words = append(words, fmt.Sprintf("follow-up for %s: sent copy of %s@%d: %s", f.Mailbox, c.Source, c.SourceOffset, c.SealedBody))
	}
	for _, session := range out.Ended {
		words = append(words, fmt.Sprintf("ended: %s#%d", session.Device, session.Epoch))
	}
	if !out.Skipped {
		words = append(words, printWrite(out))
	}
	return fmt.Sprintf("%d %s\n", in.Position.Offset, strings.Join(words, "\n  "))
}

func printAnswer(r *record.Record, a Answer) string {
	switch {
	case a.Reason != refusal.None:
		return "refused: " + a.Reason.String()
	case a.Session.Epoch != 0:
		return fmt.Sprintf("ok: %s#%d", a.Session.Device, a.Session.Epoch)
	case r.GetSend() != nil:
		return fmt.Sprintf("ok: %s at +%v", strings.TrimSpace(string(a.MessageID[:])), time.Duration(a.Time-start)*time.Millisecond)
	default:
		return "ok"
	}
}

func printWrite(out Outcome) string {
	if out.Write.State == nil {
		return "nothing to store"
	}
	stores := []string{"state"}
	for _, row := range out.Write.Rows {
		stores = append(stores, fmt.Sprintf("row %d with %s", row.Revision, row.Peer))
	}
	if len(out.Write.Dedup) > 0 {
		stores = append(stores, "entry")
	}
	for _, source := range out.Write.Sources {
		stores = append(stores, fmt.Sprintf("source %s@%d", source.Mailbox, source.Position.Offset))
	}
	if out.Write.First > 0 {
		stores = append(stores, fmt.Sprintf("first %d", out.Write.First))
	}
	return "to store: " + strings.Join(stores, ", ")
}

func (s *script) printState() string {
	if !s.state.Exists() {
		return fmt.Sprintf("no account, at %d\n", s.state.Position().Offset)
	}
	name, _ := s.state.Account()
	words := []string{fmt.Sprintf("%s at %d: revisions %d to %d, %d entries in memory", name, s.state.Position().Offset, s.state.First(), s.state.Head(), s.state.dedup.count)}
	for _, d := range s.state.Devices() {
		words = append(words, fmt.Sprintf("device %s#%d, seen at +%v", d.ID, d.Epoch, d.SeenTime.Sub(time.UnixMilli(start))))
	}
	for _, source := range slices.Sorted(maps.Keys(s.state.sources)) {
		words = append(words, fmt.Sprintf("source %s@%d", source, s.state.sources[source].Offset))
	}
	return strings.Join(words, "\n  ") + "\n"
}

func optional(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
