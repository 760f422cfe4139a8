package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/tegami-im/tegami/internal/terminal"
	"github.com/tegami-im/tegami/worker"
)

// tasksCommand is what is done with events that tasks gave up.
type tasksCommand struct {
	List  tasksListCommand  `cmd:"" help:"List dead letters, the oldest first."`
	Retry tasksRetryCommand `cmd:"" help:"Hand dead letters back to their tasks."`
	Drop  tasksDropCommand  `cmd:"" help:"Be done with dead letters: their events are not handled."`
}

// withLetters runs f on the dead letters.
func withLetters(ctx context.Context, flags *configFlags, std streams, f func(*worker.Letters) error) (err error) {
	loaded, err := loadHybrid(flags, std)
	if err != nil {
		return err
	}
	options, err := kafkaOptions(&loaded.Config, newLogger(loaded.Log, std))
	if err != nil {
		return err
	}
	log, err := worker.OpenLog(ctx, options, worker.ClientID+"-tasks")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	return f(worker.NewLetters(log, workerTopics(&loaded.Config)))
}

type tasksListCommand struct {
	configFlags
	Task   string `placeholder:"TASK" help:"Only those of one task."`
	After  string `placeholder:"ID" help:"Begin after this letter."`
	Limit  int    `placeholder:"N" default:"100" help:"End after this many; 0 for all."`
	Output string `enum:"text,json" default:"text" help:"text or json: one letter a line."`
}

func (tasksListCommand) Help() string {
	return `Examples:
  tegami tasks list --config /etc/tegami.yaml --task webhook
  tegami tasks list --config /etc/tegami.yaml --after webhook/tegami.events.v1/3/1234
  tegami tasks list --config /etc/tegami.yaml --output json | jq -r .reason | sort | uniq -c`
}

// listedLetter is a letter as JSON.
type listedLetter struct {
	ID       string    `json:"id"`
	Task     string    `json:"task"`
	User     string    `json:"user"`
	Reason   string    `json:"reason"`
	Attempts uint32    `json:"attempts"`
	First    time.Time `json:"first_time"`
	Last     time.Time `json:"last_time"`
	Event    []byte    `json:"event"`
}

func (c *tasksListCommand) Run(ctx context.Context, std streams) error {
	if c.Limit < 0 {
		return usagef("--limit %d: must not be negative", c.Limit)
	}
	return withLetters(ctx, &c.configFlags, std, func(letters *worker.Letters) error {
		all, err := letters.All(ctx, c.Task)
		if err != nil {
			return err
		}
		page, more, err := pageOf(all, c.After, c.Limit)
		if err != nil {
			return err
		}
		if c.Output == "json" {
			encoder := json.NewEncoder(std.out)
			for _, l := range page {
				if err := encoder.Encode(listedLetter{
					l.ID, l.GetTask(), string(l.GetKey()), l.GetReason(), l.GetAttempts(),
					time.UnixMilli(l.GetFirstTime()).UTC(), time.UnixMilli(l.GetLastTime()).UTC(), l.GetEvent(),
				}); err != nil {
					return err
				}
			}
			return nil
		}
		table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
		for _, l := range page {
			_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d attempts\t%s\n", l.ID, terminal.Clean(string(l.GetKey())),
				time.UnixMilli(l.GetLastTime()).Local().Format(time.DateTime), l.GetAttempts(), terminal.Clean(l.GetReason()))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if more {
			std.notef("There are more: --after %s", page[len(page)-1].ID)
		}
		return nil
	})
}

// pageOf returns the letters after one, at most limit of them if that is above
// 0, and whether there are more.
func pageOf(all []worker.Letter, after string, limit int) (page []worker.Letter, more bool, err error) {
	if after != "" {
		from := -1
		for i, l := range all {
			if l.ID == after {
				from = i + 1
			}
		}
		if from < 0 {
			return nil, false, usagef("--after %s: there is no such letter", after)
		}
		all = all[from:]
	}
	if limit > 0 && limit < len(all) {
		return all[:limit], true, nil
	}
	return all, false, nil
}

// letterFlags say which letters are meant.
type letterFlags struct {
	configFlags
	IDs  []string `arg:"" optional:"" name:"id" help:"Letters, as tegami tasks list prints them."`
	All  bool     `help:"All of them, or all of --task."`
	Task string   `placeholder:"TASK" help:"With --all: only those of one task."`
}

// each runs act on the letters that are meant, and prints how many there were.
func (f *letterFlags) each(ctx context.Context, std streams, done string, act func(*worker.Letters, worker.Letter) error) error {
	switch {
	case f.All == (len(f.IDs) > 0):
		return usagef("name letters, or give --all")
	case f.Task != "" && !f.All:
		return usagef("--task goes with --all")
	}
	return withLetters(ctx, &f.configFlags, std, func(letters *worker.Letters) error {
		all, err := letters.All(ctx, f.Task)
		if err != nil {
			return err
		}
		chosen := all
		if !f.All {
			if chosen, err = choose(all, f.IDs); err != nil {
				return err
			}
		}
		for i, letter := range chosen {
			if err := act(letters, letter); err != nil {
				std.printf("%s: %d of %d.\n", done, i, len(chosen))
				return err
			}
		}
		std.printf("%s: %d.\n", done, len(chosen))
		return nil
	})
}

func choose(all []worker.Letter, ids []string) ([]worker.Letter, error) {
	byID := map[string]worker.Letter{}
	for _, l := range all {
		byID[l.ID] = l
	}
	var chosen []worker.Letter
	for _, id := range ids {
		letter, found := byID[id]
		if !found {
			return nil, fmt.Errorf("there is no letter %s", id)
		}
		chosen = append(chosen, letter)
	}
	return chosen, nil
}

type tasksRetryCommand struct{ letterFlags }

func (tasksRetryCommand) Help() string {
	return `The event is handed to the task that gave it up, and to no other, however many newer events of its user were handled since. If it fails again it becomes a new letter.

Examples:
  tegami tasks retry --config /etc/tegami.yaml webhook/tegami.events.v1/3/1234
  tegami tasks retry --config /etc/tegami.yaml --all --task webhook`
}

func (c *tasksRetryCommand) Run(ctx context.Context, std streams) error {
	return c.each(ctx, std, "Handed back", func(letters *worker.Letters, l worker.Letter) error { return letters.Retry(ctx, l) })
}

type tasksDropCommand struct{ letterFlags }

func (tasksDropCommand) Help() string {
	return `Examples:
  tegami tasks drop --config /etc/tegami.yaml webhook/tegami.events.v1/3/1234
  tegami tasks drop --config /etc/tegami.yaml --all --task webhook`
}

func (c *tasksDropCommand) Run(ctx context.Context, std streams) error {
	return c.each(ctx, std, "Dropped", func(letters *worker.Letters, l worker.Letter) error { return letters.Drop(ctx, l) })
}
