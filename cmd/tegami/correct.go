package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/correction"
)

type correctCommand struct {
	configFlags
	Shards  string        `placeholder:"FROM-TO" help:"Only these shards, as in 0-63 or 7."`
	Since   time.Duration `help:"Only mailboxes with records in the journal of the last while, as in 2h."`
	Rate    int           `default:"20000" help:"Operations read in a second at most; 0 for no limit."`
	Repair  bool          `help:"Mend what is found."`
	Offline bool          `help:"No server runs on the hybrid store, anywhere: repair without one."`
	Resume  string        `placeholder:"FILE" type:"path" help:"Keep in FILE how far it came and what it found, and go on from there. The file goes when all is done."`
	Verbose bool          `short:"v" help:"Print every place where something is wrong."`
	Output  string        `enum:"text,json" default:"text" help:"text or json."`
}

func (correctCommand) Help() string {
	return `Compares what the journal still has, the store and the cache, mailbox by mailbox, and says what is wrong by kind. A server may run meanwhile; nothing is changed without --repair, and then no mailbox but through its shard, in the server. Give the same flags as to serve.

Exit codes: 0 nothing is wrong, or all of it was repaired; 1 something is; 2 it could not be found out; 3 it could not, because a server cannot be reached: a store, the cache, or the one that is to repair it.

Examples:
  tegami correct --data ./data
  tegami correct --config hybrid.yaml --shards 0-63 --rate 5000 --resume correct.state
  tegami correct --config hybrid.yaml --since 2h --repair --verbose`
}

// errWrong has the command end with exit code 1.
var errWrong = errors.New("something is wrong, and was not repaired")

func (c *correctCommand) Run(ctx context.Context, std streams) error {
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	task, err := c.task()
	if err != nil {
		return err
	}
	kept, err := resume(c.Resume, task)
	if err != nil {
		return usageError{fmt.Errorf("--resume %s: %w", c.Resume, err)}
	}
	printer := correctPrinter{command: c, std: std, kept: kept, terminal: isTerminal(std)}
	report, err := c.correct(ctx, std, loaded, kept.Task, &printer)
	printer.clear()
	if err != nil {
		if isUnreachable(err) {
			return err
		}
		return correctError{errors.Join(err, kept.write())}
	}
	report.Add(&kept.earlier)
	if err := kept.remove(); err != nil {
		return correctError{err}
	}
	return printer.report(report)
}

// correctError is whatever keeps the command from finding out what is wrong.
type correctError struct{ error }

func (e correctError) Unwrap() error { return e.error }

// awayError is that a server which is needed does not answer.
type awayError string

func (e awayError) Error() string { return string(e) }

// correctTask says what to compare; it is what the server is sent.
type correctTask struct {
	From   uint32    `json:"from"`
	UpTo   uint32    `json:"up_to"` // 0: all shards
	Since  time.Time `json:"since,omitzero"`
	Rate   int       `json:"rate"`
	Repair bool      `json:"repair"`
}

func (c *correctCommand) task() (correctTask, error) {
	task := correctTask{Rate: c.Rate, Repair: c.Repair}
	switch {
	case c.Rate < 0:
		return task, usagef("--rate %d: must not be negative", c.Rate)
	case c.Since < 0:
		return task, usagef("--since %s: must not be negative", c.Since)
	case c.Since > 0:
		task.Since = time.Now().Add(-c.Since)
	}
	if c.Shards == "" {
		return task, nil
	}
	var err error
	task.From, task.UpTo, err = parseShards(c.Shards)
	return task, err
}

// correct has a running server do it, where one must; else it is done here.
func (c *correctCommand) correct(ctx context.Context, std streams, loaded *config.Loaded, task correctTask, p *correctPrinter) (*correction.Report, error) {
	embedded := loaded.Store.Kind != config.StoreHybrid
	if embedded {
		if err := isDataFolder(loaded.Data.Dir); err != nil {
			return nil, err
		}
	}
	if embedded || c.Repair && !c.Offline {
		report, err := c.byServer(ctx, &loaded.Config, task, p)
		if !isUnreachable(err) || !embedded {
			return report, err
		}
	}
	if !embedded && c.Repair {
		if err := notServed(ctx, loaded.Admin.Listen); err != nil {
			return nil, err
		}
	}
	storage, err := openStorage(ctx, &loaded.Config, newLogger(loaded.Log, std), patience{})
	if err != nil {
		return nil, err
	}
	options := correctionOptions(storage, task)
	options.Found, options.Progress = p.found, p.progress
	if c.Repair {
		options.Hold = holdNothing
	}
	report, err := runCorrection(ctx, options, task)
	return report, errors.Join(err, storage.Close())
}

// holdNothing repairs at once: no server runs.
func holdNothing(ctx context.Context, _ uint32, _ string, repair func(context.Context, persistence.Position) error) error {
	return repair(ctx, persistence.Position{})
}

func correctionOptions(s *storage, task correctTask) correction.Options {
	return correction.Options{
		Journal: s.journal, Store: s.repairer, Cache: s.cacheRepairer, Keys: s.keys, Shards: uint32(s.shards),
		Since: task.Since, Rate: float64(task.Rate),
	}
}

func runCorrection(ctx context.Context, options correction.Options, task correctTask) (*correction.Report, error) {
	upTo := task.UpTo
	if upTo == 0 {
		upTo = options.Shards
	}
	return correction.Run(ctx, options, task.From, upTo)
}

// correctEvent is a line of what the server answers. One of the fields is set.
type correctEvent struct {
	Finding  *correction.Finding  `json:"finding,omitempty"`
	Progress *correction.Progress `json:"progress,omitempty"`
	Report   *correction.Report   `json:"report,omitempty"`
	Error    string               `json:"error,omitempty"`
	// Away: the error is that a store does not answer.
	Away bool `json:"away,omitempty"`
}

// byServer has the server that runs with this configuration do it.
func (c *correctCommand) byServer(ctx context.Context, settings *config.Config, task correctTask, p *correctPrinter) (*correction.Report, error) {
	token, err := os.ReadFile(filepath.Join(settings.Data.Dir, adminTokenFile))
	if err != nil {
		return nil, unreachableError{err}
	}
	body, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+settings.Admin.Listen+"/admin/correct", strings.NewReader(string(body)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, unreachableError{err}
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server says: %s", readText(response.Body))
	}
	for lines := json.NewDecoder(response.Body); ; {
		var event correctEvent
		if err := lines.Decode(&event); err != nil {
			return nil, fmt.Errorf("the server's answer broke off: %w", err)
		}
		switch {
		case event.Finding != nil:
			p.found(*event.Finding)
		case event.Progress != nil:
			p.progress(*event.Progress)
		case event.Report != nil:
			return event.Report, nil
		case event.Away:
			return nil, awayError("the server says: " + event.Error)
		default:
			return nil, fmt.Errorf("the server says: %s", event.Error)
		}
	}
}

// correctPrinter shows what goes on.
type correctPrinter struct {
	command  *correctCommand
	std      streams
	kept     *keptRun
	terminal bool
	shown    bool
	last     time.Time
}

func isTerminal(std streams) bool {
	file, ok := std.err.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func (p *correctPrinter) found(f correction.Finding) {
	if p.command.Output == "json" {
		_ = json.NewEncoder(p.std.out).Encode(correctEvent{Finding: &f})
		return
	}
	if !p.command.Verbose {
		return
	}
	p.clear()
	where := fmt.Sprintf("shard %d", f.Shard)
	if f.Mailbox != "" {
		where += fmt.Sprintf(", mailbox %q", f.Mailbox)
	}
	if f.Revision > 0 {
		where += fmt.Sprintf(", revision %d", f.Revision)
	}
	if f.Count > 1 {
		where += fmt.Sprintf(" and %d behind it", f.Count-1)
	}
	p.std.printf("%s: %s: %s%s\n", f.Kind, where, f.Text, outcome(&f))
}

func outcome(f *correction.Finding) string {
	switch {
	case f.Repaired:
		return " (repaired)"
	case f.Left != "":
		return " (left: " + f.Left + ")"
	default:
		return ""
	}
}

func (p *correctPrinter) progress(at correction.Progress) {
	p.kept.reach(&at)
	if now := time.Now(); now.Sub(p.last) >= time.Second {
		p.last = now
		if err := p.kept.write(); err != nil {
			p.std.notef("tegami: --resume: %v", err)
		}
		if p.terminal {
			p.shown = true
			_, _ = fmt.Fprintf(p.std.err, "\r\x1b[Kshard %d: %d mailboxes, %d operations, %d findings", at.Shard, at.Mailboxes, at.Operations, at.Found)
		}
	}
}

// clear takes the line of progress away.
func (p *correctPrinter) clear() {
	if p.shown {
		_, _ = fmt.Fprint(p.std.err, "\r\x1b[K")
		p.shown = false
	}
}

// report prints what a run came to.
func (p *correctPrinter) report(r *correction.Report) error {
	left := correction.Total(r.Found) - correction.Total(r.Repaired)
	if p.command.Output == "json" {
		if err := json.NewEncoder(p.std.out).Encode(correctEvent{Report: r}); err != nil {
			return err
		}
	} else {
		p.text(r)
	}
	if left > 0 {
		return errWrong
	}
	if r.CacheAway != "" {
		return awayError(fmt.Sprintf("the cache was not compared to the end: %s", r.CacheAway))
	}
	return nil
}

func (p *correctPrinter) text(r *correction.Report) {
	p.std.printf("Compared %d mailboxes, %d operations and %d records of the journal.\n", r.Mailboxes, r.Operations, r.Records)
	if r.Unfilled > 0 {
		p.std.printf("The cache has nothing of %d shards; it is filled as they are used.\n", r.Unfilled)
	}
	if len(r.Found) == 0 {
		if r.CacheAway == "" {
			p.std.printf("Nothing is wrong.\n")
		}
		return
	}
	table := tabwriter.NewWriter(p.std.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(table, "kind\tfound\trepaired\n")
	for _, kind := range slices.Sorted(maps.Keys(r.Found)) {
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\n", kind, r.Found[kind], r.Repaired[kind])
	}
	_ = table.Flush()
}

func isUnreachable(err error) bool {
	_, ok := errors.AsType[unreachableError](err)
	return ok
}
