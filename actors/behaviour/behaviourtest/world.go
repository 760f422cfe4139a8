// Package behaviourtest runs a behaviour in a test: on the real apply, with the
// host that a server runs it with, in a world of its own whose clock stands still,
// but for moments, unless the test waits.
//
//	behaviourtest.Run(t, reminder.Kind(), func(w *behaviourtest.World) {
//		w.Say("alice", "in 10m tea")
//		w.Wait(10 * time.Minute)
//		w.Expect("alice: tea")
//	})
//
// [Crashes] runs the same script over and over, and has the host die at one point
// after the other.
package behaviourtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

// Self is the user id of the behaviour.
const Self = "bot"

// ErrGone has posts refused for good, when Away is given it.
var ErrGone = errors.New("gone")

// World has one behaviour, and the users that a test speaks for. Its methods are
// for the goroutine of the test.
type World struct {
	t    testing.TB
	kind *behaviour.Kind

	mu      sync.Mutex // guards the following
	offset  int64
	boxes   map[string]*mailbox.State // of users and chats
	history map[string][]*record.Operation
	grown   chan struct{} // closed when the behaviour's mailbox grows
	sent    []string      // not yet expected
	posted  []string      // likewise
	posts   map[string]bool
	away    error // what Post fails with; nil: it is taken
	counts  map[behaviour.Outcome]int
	failing bool // an event failed, and none was dealt with since
	// crashAt is the point at which the host dies, counted from 1; 0 for none.
	crashAt, points int
	hosts           []*host // those that died, too
}

// Run runs a script in a world.
func Run(t *testing.T, kind *behaviour.Kind, script func(*World)) {
	t.Helper()
	run(t, kind, 1, 0, script)
}

// Crashes runs a script with a host that dies at its first point, then at its
// second, and so on until the script is over before: before a step is appended,
// after it was applied and nobody heard of it, and after each post. The next host
// goes on at once. Then it runs the script with two hosts at a time, as when a
// cluster is split. Whatever happens, what the script expects must hold; only a
// post may be made again, under its id, which a World counts as one.
func Crashes(t *testing.T, kind *behaviour.Kind, script func(*World)) {
	t.Helper()
	for at, crashed := 1, true; crashed; at++ {
		t.Run(fmt.Sprintf("crash %d", at), func(t *testing.T) { crashed = run(t, kind, 1, at, script) })
		if t.Failed() {
			return
		}
	}
	t.Run("two hosts", func(t *testing.T) { run(t, kind, 2, 0, script) })
}

func run(t *testing.T, kind *behaviour.Kind, hosts, crashAt int, script func(*World)) (crashed bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &World{
			t: t, kind: kind, crashAt: crashAt,
			boxes: map[string]*mailbox.State{}, history: map[string][]*record.Operation{}, grown: make(chan struct{}),
			posts: map[string]bool{}, counts: map[behaviour.Outcome]int{},
		}
		w.account(Self)
		for range hosts {
			w.start()
		}
		defer w.stop()
		synctest.Wait()
		script(w)
		w.settle()
		if left := w.take(&w.sent); len(left) > 0 {
			t.Errorf("not expected: %q", left)
		}
		if left := w.take(&w.posted); len(left) > 0 {
			t.Errorf("not expected to be posted: %q", left)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		crashed = crashAt > 0 && w.points >= crashAt
	})
	return crashed
}

// stop ends the hosts.
func (w *World) stop() {
	w.mu.Lock()
	hosts := w.hosts
	w.mu.Unlock()
	for _, h := range hosts {
		h.stop()
	}
}

const (
	// moment is by how much the clock goes on when nothing fails: the steps of a
	// host are limited.
	moment = 10 * time.Millisecond
	// patience is for what fails again and again, or does not come to an end.
	patience = behaviour.Attempts * time.Second
)

// settle returns when nothing is left to do at this time, and what failed was tried
// as often as it is.
func (w *World) settle() {
	w.t.Helper()
	synctest.Wait()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		before, _ := w.activity()
		time.Sleep(moment)
		synctest.Wait()
		if after, failing := w.activity(); after == before && !failing {
			return
		}
	}
}

// activity returns how much the hosts have done, and whether they failed and have
// not yet given up.
func (w *World) activity() (done int, failing bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.points, w.failing
}

// Say has a user send a text to the behaviour. The user need not exist before.
func (w *World) Say(from, text string) {
	w.t.Helper()
	w.say(from, text, 0)
}

// SayAs is Say of another behaviour, so many hops into a conversation.
func (w *World) SayAs(from, text string, hops int) {
	w.t.Helper()
	w.say(from, text, hops)
}

// Ring calls the behaviour under an id.
func (w *World) Ring(id string, body []byte) {
	w.t.Helper()
	r := w.command(Self, "call "+id, &record.Record{Kind: &record.Record_Call{Call: &record.Call{SealedBody: body}}}, string(body))
	w.apply(r)
	w.settle()
}

// Wait lets time go by.
func (w *World) Wait(d time.Duration) {
	w.t.Helper()
	time.Sleep(d)
	synctest.Wait()
}

// Expect checks what the behaviour has sent since the last call, in any order:
// each as in "alice: hello".
func (w *World) Expect(messages ...string) {
	w.t.Helper()
	w.expect("sent", w.take(&w.sent), messages)
}

// ExpectInOrder checks the texts that a user was sent since the last call, in
// their order.
func (w *World) ExpectInOrder(user string, texts ...string) {
	w.t.Helper()
	w.mu.Lock()
	var got, rest []string
	for _, message := range w.sent {
		if text, found := strings.CutPrefix(message, user+": "); found {
			got = append(got, text)
		} else {
			rest = append(rest, message)
		}
	}
	w.sent = rest
	w.mu.Unlock()
	if !slices.Equal(got, texts) {
		w.t.Errorf("sent to %s %q, want %q", user, got, texts)
	}
}

// Said returns what the behaviour has sent since the last call.
func (w *World) Said() []string { return w.take(&w.sent) }

// Posted returns the nth body, from 0, that was posted and not yet expected; empty
// when there are fewer.
func (w *World) Posted(n int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n >= len(w.posted) {
		return ""
	}
	return w.posted[n]
}

// Forget has what was sent and posted so far be expected.
func (w *World) Forget() {
	w.take(&w.sent)
	w.take(&w.posted)
}

// Replace has another kind go on in the behaviour's place, as after an upgrade of
// the server.
func (w *World) Replace(kind *behaviour.Kind) {
	w.t.Helper()
	w.Down(func() { w.kind = kind })
}

// Down calls f while no host runs, as while a server is away.
func (w *World) Down(f func()) {
	w.t.Helper()
	w.stop()
	f()
	w.start()
	w.settle()
}

// Trim has the behaviour's mailbox forget its operations, as retention does.
func (w *World) Trim() {
	w.t.Helper()
	w.apply(&record.Record{Mailbox: Self, Kind: &record.Record_Trim{Trim: &record.Trim{FirstRevision: persistence.MaxRevision}}})
}

// ExpectPosts checks what the behaviour has posted since the last call, in any
// order. What was posted again under its id is there once.
func (w *World) ExpectPosts(bodies ...string) {
	w.t.Helper()
	w.expect("posted", w.take(&w.posted), bodies)
}

func (w *World) expect(what string, got, want []string) {
	w.t.Helper()
	want = slices.Sorted(slices.Values(want))
	if slices.Sort(got); !slices.Equal(got, want) {
		w.t.Errorf("%s %q, want %q", what, got, want)
	}
}

// Away has posts fail with an error from now on; nil has them taken.
func (w *World) Away(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = err
}

// Count returns how often there was an outcome.
func (w *World) Count(o behaviour.Outcome) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[o]
}

// Timers returns the names of the timers that are set, sorted.
func (w *World) Timers() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, timers := w.boxes[Self].Behaviour()
	names := make([]string, 0, len(timers))
	for _, timer := range timers {
		names = append(names, timer.GetName())
	}
	slices.Sort(names)
	return names
}

func (w *World) take(from *[]string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := *from
	*from = nil
	return taken
}

func (w *World) say(from, text string, hops int) {
	w.t.Helper()
	w.account(from)
	w.mu.Lock()
	offset := w.offset
	w.mu.Unlock()
	id, body := fmt.Sprint("message ", offset), talk.Body{Text: text}.Encode()
	r := w.command(Self, id, &record.Record{Kind: &record.Record_Send{Send: &record.Send{
		MessageId: hash(id), From: from, ClientMessageId: id, SealedBody: body, SealedCopy: body,
	}}}, text)
	if hops > 0 {
		r = &record.Record{
			Id: r.Id, Mailbox: Self, ApplyVersion: mailbox.ApplyVersion,
			Source: &record.Source{Mailbox: from, Generation: 1, Offset: offset},
			Kind:   &record.Record_StepMessage{StepMessage: &record.StepMessage{MessageId: hash(id), SealedBody: body, Hops: int32(hops)}},
		}
	}
	w.apply(r)
	w.settle()
}

// account makes a user that there is not.
func (w *World) account(user string) {
	w.mu.Lock()
	known := w.boxes[user] != nil
	w.mu.Unlock()
	if !known {
		w.apply(w.command(user, "account", &record.Record{Kind: &record.Record_CreateAccount{CreateAccount: &record.CreateAccount{DisplayName: user}}}, ""))
	}
}

func (w *World) command(user, id string, r *record.Record, asked string) *record.Record {
	r.Id, r.Mailbox, r.MintTime, r.ApplyVersion = hash("record", user, id), user, time.Now().UnixMilli(), mailbox.ApplyVersion
	r.DedupKey = hash("key", user, id)[:persistence.DedupKeySize]
	r.BodyHash = hash("body", asked)[:persistence.BodyHashSize]
	return r
}

func hash(parts ...any) []byte {
	sum := sha256.Sum256(fmt.Appendln(nil, parts...))
	return sum[:16]
}

// apply appends a record to the one log of the world and applies it, and then
// what follows from it.
func (w *World) apply(r *record.Record) mailbox.Answer {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.applyLocked(r)
}

func (w *World) applyLocked(r *record.Record) mailbox.Answer {
	w.offset++
	box := w.boxes[r.GetMailbox()]
	if box == nil {
		if creates, otherwise := mailbox.Creates(r); !creates {
			return mailbox.Answer{Reason: otherwise}
		}
		box = mailbox.New(r.GetMailbox())
		w.boxes[r.GetMailbox()] = box
	}
	out := box.Apply(mailbox.Input{
		Position: persistence.Position{Generation: 1, Offset: w.offset}, Time: time.Now().UnixMilli(), Record: r,
	})
	if out.Fault != "" {
		w.t.Errorf("apply failed: %s", out.Fault)
	}
	w.history[box.User()] = append(w.history[box.User()], out.Operations...)
	for _, o := range out.Operations {
		// What is written to a chat counts once, there.
		if m := o.GetReceiveMessage(); m.GetFrom() == Self && m.GetTo() == box.User() {
			body, err := talk.DecodeBody(m.GetSealedBody())
			if err != nil {
				w.t.Error(err)
			}
			w.sent = append(w.sent, shown(box.User())+": "+body.Text)
		}
	}
	for _, f := range out.FollowUps {
		w.applyLocked(f.Record)
	}
	if box.User() == Self && len(out.Operations) > 0 {
		close(w.grown)
		w.grown = make(chan struct{})
	}
	return out.Answer
}

func (w *World) logger() *slog.Logger { return slog.New(slog.NewTextHandler(w.t.Output(), nil)) }

// start starts a host.
func (w *World) start() {
	ctx, cancel := context.WithCancel(w.t.Context())
	h := &host{world: w, cancel: cancel, done: make(chan struct{})}
	w.mu.Lock()
	w.hosts = append(w.hosts, h)
	w.mu.Unlock()
	seed := uint64(0)
	options := behaviour.Options{
		Kind: w.kind, Self: Self, Home: h,
		Poster: h, Judge: func(err error) (permanent bool, after time.Duration) { return errors.Is(err, ErrGone), 0 },
		Observe: func(o behaviour.Outcome) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.counts[o]++
			switch o {
			case behaviour.Failed:
				w.failing = true
			case behaviour.Handled, behaviour.PassedOver:
				w.failing = false
			default:
			}
		},
		Seed:   func() uint64 { seed++; return seed },
		Logger: w.logger(),
	}
	go func() {
		defer close(h.done)
		behaviour.Run(ctx, options, 1000)
	}()
}
