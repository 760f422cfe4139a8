package auth

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
)

var phone = talk.Session{User: "alice", Device: "phone", Epoch: 3}

// tier answers for the talk tier and counts how often it was asked.
type tier struct {
	asked  atomic.Int64
	answer error
	delay  time.Duration
}

func (t *tier) check(ctx context.Context, _ talk.Session) error {
	t.asked.Add(1)
	if t.delay > 0 {
		select {
		case <-time.After(t.delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return t.answer
}

func TestASessionIsAskedAboutOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &tier{}
		s := NewSessions(tier.check, SessionOptions{})
		for i, step := range []struct {
			after time.Duration
			asked int64
		}{{0, 1}, {4 * time.Second, 1}, {2 * time.Second, 2}, {time.Second, 2}, {time.Hour, 3}} {
			<-time.After(step.after)
			if err := s.Check(t.Context(), phone); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			if got := tier.asked.Load(); got != step.asked {
				t.Errorf("step %d: asked %d times, want %d", i, got, step.asked)
			}
		}
	})
}

// CheckNow says what Check would, and says so when Check would have to ask.
func TestCheckNowNeverAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &tier{}
		s := NewSessions(tier.check, SessionOptions{})
		want := func(when string, known bool, err error) {
			t.Helper()
			gotKnown, got := s.CheckNow(phone)
			if gotKnown != known || !errors.Is(got, err) {
				t.Errorf("%s: %v, %v", when, gotKnown, got)
			}
		}
		want("never seen", false, nil)
		if err := s.Check(t.Context(), phone); err != nil {
			t.Fatal(err)
		}
		want("just confirmed", true, nil)
		<-time.After(6 * time.Second)
		want("a while ago", false, nil)
		s.Hold(phone)
		want("with a poll", true, nil)
		s.End(phone)
		want("ended", true, errNoSession)
		if got := tier.asked.Load(); got != 1 {
			t.Errorf("asked %d times", got)
		}
	})
}

func TestASessionThatWasJustIssuedIsBelieved(t *testing.T) {
	tier := &tier{}
	s := NewSessions(tier.check, SessionOptions{})
	s.Confirm(phone)
	if err := s.Check(t.Context(), phone); err != nil || tier.asked.Load() != 0 {
		t.Errorf("got %v after %d questions", err, tier.asked.Load())
	}
	// A newer session of the device makes the older one void without a question.
	s.Confirm(talk.Session{User: "alice", Device: "phone", Epoch: 4})
	if err := s.Check(t.Context(), phone); !errors.Is(err, errNoSession) || tier.asked.Load() != 0 {
		t.Errorf("the older session: %v after %d questions", err, tier.asked.Load())
	}
}

func TestASessionThatHoldsAPollIsBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &tier{}
		s := NewSessions(tier.check, SessionOptions{})
		s.Hold(phone)
		s.Hold(phone) // a newer poll before the older was released
		<-time.After(time.Hour)
		s.Release(phone)
		<-time.After(time.Hour)
		if err := s.Check(t.Context(), phone); err != nil || tier.asked.Load() != 0 {
			t.Errorf("got %v after %d questions", err, tier.asked.Load())
		}
		s.Release(phone)
		<-time.After(4 * time.Second)
		if err := s.Check(t.Context(), phone); err != nil || tier.asked.Load() != 0 {
			t.Errorf("just after the poll: %v after %d questions", err, tier.asked.Load())
		}
		<-time.After(2 * time.Second)
		if err := s.Check(t.Context(), phone); err != nil || tier.asked.Load() != 1 {
			t.Errorf("some time after the poll: %v after %d questions", err, tier.asked.Load())
		}
	})
}

// A poll held by an old session says nothing of the new one.
func TestAnOldSessionsPollConfirmsNoNewerSession(t *testing.T) {
	tier := &tier{answer: refusal.Of(refusal.UnknownDevice)}
	s := NewSessions(tier.check, SessionOptions{})
	s.Hold(phone)
	newer := talk.Session{User: "alice", Device: "phone", Epoch: 9}
	if err := s.Check(t.Context(), newer); !errors.Is(err, errNoSession) || tier.asked.Load() != 1 {
		t.Errorf("got %v after %d questions", err, tier.asked.Load())
	}
}

func TestASessionThatEndedIsRefusedAtOnceAndForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &tier{}
		s := NewSessions(tier.check, SessionOptions{})
		s.Confirm(phone)
		s.Hold(phone)
		s.End(phone)
		for range 3 {
			if err := s.Check(t.Context(), phone); !errors.Is(err, errNoSession) {
				t.Errorf("got %v", err)
			}
			s.Confirm(phone) // a late one changes nothing
			s.Release(phone)
			<-time.After(time.Hour)
		}
		if got := tier.asked.Load(); got != 0 {
			t.Errorf("asked %d times about what is known", got)
		}
		next := talk.Session{User: "alice", Device: "phone", Epoch: 4}
		if err := s.Check(t.Context(), next); err != nil {
			t.Errorf("the next session: %v", err)
		}
	})
}

func TestTheAnswersOfTheTalkTier(t *testing.T) {
	unavailable := refusal.Of(refusal.NotReady)
	tier := &tier{answer: unavailable}
	s := NewSessions(tier.check, SessionOptions{})
	if err := s.Check(t.Context(), phone); !errors.Is(err, unavailable) {
		t.Errorf("while it cannot tell: %v", err)
	}
	tier.answer = refusal.Of(refusal.UnknownDevice)
	for range 3 {
		if err := s.Check(t.Context(), phone); !errors.Is(err, errNoSession) {
			t.Errorf("a session that it does not know: %v", err)
		}
	}
	if got := tier.asked.Load(); got != 2 {
		t.Errorf("asked %d times, want one for each answer", got)
	}
}

// Many requests of one session ask one question.
func TestQuestionsAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &tier{delay: time.Second}
		s := NewSessions(tier.check, SessionOptions{})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := s.Check(t.Context(), phone); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := tier.asked.Load(); got != 1 {
			t.Errorf("asked %d times", got)
		}
	})
}

// The one who asks may leave; those who wait get the answer all the same. One
// who waits may leave too.
func TestAQuestionOutlivesTheRequestThatAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &tier{delay: time.Second}
		s := NewSessions(tier.check, SessionOptions{})
		leaving, leave := context.WithCancel(t.Context())
		go func() { _ = s.Check(leaving, phone) }()
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.Check(impatient, phone); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one who leaves: %v", err)
			}
		})
		wg.Go(func() {
			if err := s.Check(t.Context(), phone); err != nil {
				t.Errorf("the one who waits: %v", err)
			}
		})
		leave()
		wg.Wait()
		if got := tier.asked.Load(); got != 1 {
			t.Errorf("asked %d times", got)
		}
	})
}

func TestAQuestionHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &tier{delay: time.Hour}
		s := NewSessions(tier.check, SessionOptions{CheckTimeout: time.Second})
		if err := s.Check(t.Context(), phone); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// A session that ends while it is asked about is refused, whatever the answer.
func TestAnEndBeatsAnAnswerThatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &tier{delay: time.Second}
		s := NewSessions(tier.check, SessionOptions{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := s.Check(t.Context(), phone); !errors.Is(err, errNoSession) {
					t.Errorf("got %v", err)
				}
			})
		}
		synctest.Wait()
		s.End(phone)
		wg.Wait()
	})
}

// After a doubt the next request asks, even while an older question is open,
// and the older answer does not count for later.
func TestADoubtAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tier := &tier{}
		s := NewSessions(tier.check, SessionOptions{})
		s.Confirm(phone)
		s.Hold(phone)
		s.Doubt(phone.User, phone.Device)
		if err := s.Check(t.Context(), phone); err != nil || tier.asked.Load() != 1 {
			t.Errorf("got %v after %d questions", err, tier.asked.Load())
		}
		s.Doubt(phone.User, phone.Device)
		tier.delay = time.Second
		var wg sync.WaitGroup
		ask := func() {
			wg.Go(func() {
				if err := s.Check(t.Context(), phone); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		ask()
		s.Doubt(phone.User, phone.Device)
		ask()
		if got := tier.asked.Load(); got != 3 {
			t.Errorf("asked %d times, want 3", got)
		}
		s.Doubt(phone.User, phone.Device)
		wg.Wait() // both questions are older than the last doubt
		ask()
		if got := tier.asked.Load(); got != 4 {
			t.Errorf("asked %d times, want 4", got)
		}
		wg.Wait()
	})
}

// The table stays bounded, and never forgets who holds a poll.
func TestTheTableIsBounded(t *testing.T) {
	const limit = 640
	tier := &tier{}
	s := NewSessions(tier.check, SessionOptions{MaxDevices: limit})
	s.Hold(phone)
	for i := range 20 * limit {
		if err := s.Check(t.Context(), talk.Session{User: "user" + strconv.Itoa(i), Device: "d", Epoch: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Len(); n > limit+sessionShards {
		t.Errorf("remembers %d devices, the bound is %d", n, limit)
	}
	before := tier.asked.Load()
	if err := s.Check(t.Context(), phone); err != nil || tier.asked.Load() != before {
		t.Error("a session that holds a poll was forgotten")
	}
}

// Whatever happens in whatever order, a session that has ended is never let in,
// and one that lives is.
func TestEndedSessionsAreNeverLetIn(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 5), 1, 60).Draw(rt, "steps")
		pauses := rapid.SliceOfN(rapid.IntRange(0, 8), len(steps), len(steps)).Draw(rt, "pauses")
		var wrong string
		synctest.Test(t, func(t *testing.T) {
			live := uint64(1)
			s := NewSessions(func(_ context.Context, session talk.Session) error {
				if session.Epoch != live {
					return refusal.Of(refusal.UnknownDevice)
				}
				return nil
			}, SessionOptions{MaxDevices: 1})
			held := []talk.Session{}
			session := func(epoch uint64) talk.Session { return talk.Session{User: "alice", Device: "phone", Epoch: epoch} }
			for i, step := range steps {
				<-time.After(time.Duration(pauses[i]) * time.Second)
				switch step {
				case 0: // signs in again: what was before ends
					ended := live
					live++
					s.End(session(ended))
					s.Confirm(session(live))
				case 1: // signs in elsewhere: here only the end is heard of
					s.End(session(live))
					live++
				case 2:
					s.Hold(session(live))
					held = append(held, session(live))
				case 3:
					if len(held) > 0 {
						s.Release(held[0])
						held = held[1:]
					}
				case 4:
					s.Doubt("alice", "phone")
				case 5: // others push it out of the table
					for j := range 50 {
						_ = s.Check(t.Context(), talk.Session{User: strconv.Itoa(j), Device: "d", Epoch: live})
					}
				}
				for epoch := live - min(live-1, 2); epoch <= live; epoch++ {
					err := s.Check(t.Context(), session(epoch))
					if (err == nil) != (epoch == live) && wrong == "" {
						wrong = "step " + strconv.Itoa(i) + ": epoch " + strconv.FormatUint(epoch, 10) + " of " + strconv.FormatUint(live, 10)
					}
				}
			}
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	s := NewSessions(func(context.Context, talk.Session) error { return nil }, SessionOptions{})
	s.Hold(phone)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Check(b.Context(), phone); err != nil {
			b.Fatal(err)
		}
	}
}
