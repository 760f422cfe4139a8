package behaviour_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// memoryHome is a mailbox in which nothing happens.
type memoryHome struct {
	mu       sync.Mutex // guards the following
	progress behaviour.Progress
	head     int64
	loads    int
}

func (h *memoryHome) Load(context.Context) (*behaviour.Progress, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loads++
	copied := h.progress
	return &copied, nil
}

func (h *memoryHome) Read(ctx context.Context, after int64, until time.Time) ([]behaviour.Operation, error) {
	h.mu.Lock()
	head := h.head
	h.mu.Unlock()
	if after > head {
		return nil, &refusal.Refusal{Reason: refusal.CursorAhead, ResumeRevision: head}
	}
	select {
	case <-time.After(time.Until(until)):
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (*memoryHome) Commit(context.Context, *behaviour.Step) error { return errors.New("not here") }

// run runs a behaviour for a while.
func (h *memoryHome) run(t *testing.T, poster *failing, logger *slog.Logger, during func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		options := behaviour.Options{Kind: behaviour.New[*emptypb.Empty]("nothing", nothing{}), Self: "bot", Home: h, Logger: logger}
		if poster != nil {
			options.Poster, options.Judge = poster, poster.judge
		}
		running.Go(func() { behaviour.Run(ctx, options, 100) })
		<-time.After(time.Minute)
		during()
		<-time.After(time.Minute)
		cancel()
		running.Wait()
	})
}

// A journal that went back has the behaviour begin where it was then.
func TestProgressThatWentBack(t *testing.T) {
	h := &memoryHome{progress: behaviour.Progress{Cursor: 5}, head: 5}
	h.run(t, nil, slog.New(slog.DiscardHandler), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.progress.Cursor, h.head = 3, 3
	})
	if h.loads != 2 {
		t.Errorf("the progress was loaded %d times", h.loads)
	}
}

// failing takes no posts, and wants whoever posts to wait.
type failing struct {
	wait  time.Duration
	asked int
}

func (f *failing) Post(context.Context, string, []byte) error {
	f.asked++
	return errors.New("connection refused")
}

func (f *failing) judge(error) (permanent bool, after time.Duration) { return false, f.wait }

// posting is the home of one that has something to post.
func posting() *memoryHome {
	return &memoryHome{progress: behaviour.Progress{Memory: &record.Memory{
		Kind: "nothing", StateType: "google.protobuf.Empty", Effects: []*record.Effect{{Id: []byte("id"), Body: []byte("secret")}},
	}}}
}

// A receiver that asks for patience gets it.
func TestReceiversMayAskForPatience(t *testing.T) {
	f := &failing{wait: 50 * time.Second}
	posting().run(t, f, slog.New(slog.DiscardHandler), func() {})
	if f.asked != 3 { // at 0, 50 and 100 seconds of two minutes
		t.Errorf("asked %d times", f.asked)
	}
}

// The log says that what is posted is not taken, and why, now and then.
func TestWhatIsNotTakenIsLogged(t *testing.T) {
	var log bytes.Buffer
	posting().run(t, new(failing), slog.New(slog.NewTextHandler(&log, nil)), func() {})
	if lines := strings.Count(log.String(), "connection refused"); lines < 1 || lines > 5 || strings.Contains(log.String(), "secret") {
		t.Errorf("the log says\n%s", &log)
	}
}
