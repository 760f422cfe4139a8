package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// scrape returns the lines of the metrics whose name begins with a prefix.
func scrape(t *testing.T, m *Metrics, prefix string) []string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	var lines []string
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, prefix) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// failing is a journal, of which appends and reads end with an error.
type failing struct {
	persistence.Journal
	err error
}

func (f *failing) Append(_ uint32, _ [][]byte, done func(persistence.Appended, error)) {
	done(persistence.Appended{}, f.err)
}

func (f *failing) Read(context.Context, uint32, int64, int) ([]persistence.Entry, error) {
	return nil, f.err
}

func TestAppendsAreCountedByOutcome(t *testing.T) {
	m := New()
	under := &failing{}
	journal := m.Journal(under)
	for _, under.err = range []error{
		nil, nil, fmt.Errorf("%w: late", persistence.ErrUnknownOutcome), persistence.ErrBusy, persistence.ErrFull, persistence.ErrTruncated,
	} {
		journal.Append(0, nil, func(_ persistence.Appended, err error) {
			if !errors.Is(err, under.err) {
				t.Errorf("passed on %v, want %v", err, under.err)
			}
		})
		_, _ = journal.Read(t.Context(), 0, 0, 1)
	}
	want := []string{
		`tegami_journal_appends_total{outcome="failed"} 3`,
		`tegami_journal_appends_total{outcome="ok"} 2`,
		`tegami_journal_appends_total{outcome="unknown"} 1`,
		`tegami_journal_append_seconds_count 6`,
		`tegami_journal_read_errors_total 3`, // what was truncated is an answer
	}
	got := slices.Concat(scrape(t, m, "tegami_journal_appends_total"), scrape(t, m, "tegami_journal_append_seconds_count"), scrape(t, m, "tegami_journal_read_errors_total"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestCallsAreCountedByOperationAndOutcome(t *testing.T) {
	m := New()
	store, cache, keys := m.Store(memory.NewStore()), m.Cache(memory.NewCache()), m.Keys(memory.NewKeys())
	ctx := t.Context()
	ended, end := context.WithCancel(ctx)
	end()
	write := []persistence.MailboxWrite{{Mailbox: "a", Position: persistence.Position{Generation: 1, Offset: 1}}}
	for _, call := range []func() error{
		func() error { _, err := store.Load(ctx, 0, "a", 1); return err },
		func() error { return store.Write(ctx, 0, persistence.Batch{Mailboxes: write}) },
		func() error { _, err := store.Load(ctx, 0, "a", 1); return err },
		func() error { _, err := store.Load(ended, 0, "a", 1); return err },
		func() error { return store.Sync(ctx) },
		func() error {
			_, err := cache.Write(ctx, 0, persistence.CacheMark{}, persistence.Position{}, write)
			return err
		},
		func() error { _, err := cache.Begin(ctx, 0, persistence.Position{}); return err },
		func() error { _, err := keys.Create(ctx, []string{"a"}); return err },
	} {
		_ = call()
	}
	want := []string{
		`tegami_storage_calls_total{operation="begin",outcome="ok",part="cache"} 1`,
		`tegami_storage_calls_total{operation="create",outcome="ok",part="keys"} 1`,
		`tegami_storage_calls_total{operation="load",outcome="absent",part="store"} 1`,
		`tegami_storage_calls_total{operation="load",outcome="failed",part="store"} 1`,
		`tegami_storage_calls_total{operation="load",outcome="ok",part="store"} 1`,
		`tegami_storage_calls_total{operation="sync",outcome="ok",part="store"} 1`,
		`tegami_storage_calls_total{operation="write",outcome="moved",part="cache"} 1`,
		`tegami_storage_calls_total{operation="write",outcome="ok",part="store"} 1`,
	}
	if diff := cmp.Diff(want, scrape(t, m, "tegami_storage_calls_total")); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if got := scrape(t, m, "tegami_storage_call_seconds_count"); len(got) != 6 {
		t.Errorf("times of %d operations: %q", len(got), got)
	}
}

// refusing is a publisher that answers with an error.
type refusing struct{ err error }

func (r *refusing) Publish(_ []persistence.Event, done func(error)) { done(r.err) }

func TestPublishedEventsAreCounted(t *testing.T) {
	m, under := New(), &refusing{}
	publisher := m.Publisher(under)
	for _, under.err = range []error{nil, persistence.ErrBusy, nil} {
		publisher.Publish(make([]persistence.Event, 3), func(err error) {
			if !errors.Is(err, under.err) {
				t.Errorf("passed on %v, want %v", err, under.err)
			}
		})
	}
	want := []string{"tegami_events_publish_failures_total 1", "tegami_events_published_total 6"}
	got := slices.DeleteFunc(scrape(t, m, "tegami_events_"), func(line string) bool { return strings.Contains(line, "_seconds") })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestBreakersTellTheirState(t *testing.T) {
	m := New()
	m.WatchBreakers(func() []Breaker {
		return []Breaker{{Part: "store", Server: "zk:2181", Open: true}, {Part: "cache", Server: "redis:6379"}}
	})
	want := []string{
		`tegami_breaker_open{part="cache",server="redis:6379"} 0`,
		`tegami_breaker_open{part="store",server="zk:2181"} 1`,
	}
	if diff := cmp.Diff(want, scrape(t, m, "tegami_breaker_open")); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// Every metric is explained to operators, and none that is not there.
func TestMetricsAreDocumented(t *testing.T) {
	exported := names(t, regexp.MustCompile(`\(?"(tegami_[a-z_]+)", (?:Help: )?"`), "../telemetry/*.go", "../cmd/tegami/options.go")
	documented := names(t, regexp.MustCompile("(?m)^\\| `(tegami_[a-z_]+)"), "../docs/operations.md")
	if len(exported) < 20 {
		t.Fatalf("only %d metrics are found in the sources", len(exported))
	}
	if diff := cmp.Diff(exported, documented); diff != "" {
		t.Errorf("docs/operations.md (-exported +documented):\n%s", diff)
	}
}

// names finds what a pattern takes out of files, sorted.
func names(t *testing.T, pattern *regexp.Regexp, globs ...string) []string {
	t.Helper()
	var found []string
	for _, glob := range globs {
		files, err := filepath.Glob(glob)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files, %v", glob, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range pattern.FindAllSubmatch(content, -1) {
				found = append(found, string(match[1]))
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
