package main

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/tegami-im/tegami/persistence/correction"
)

// keptRun is how far a comparison came and what it found: one that breaks off
// and goes on reports what one run would have.
type keptRun struct {
	// Asked is what the command was asked for, Task what is left of it.
	Asked  correctTask       `json:"asked"`
	Task   correctTask       `json:"task"`
	Report correction.Report `json:"report"`

	file    string            // empty: nothing is kept
	earlier correction.Report // of the runs before this one
}

// resume reads what a run for the same task kept in a file; where there is none,
// the run begins.
func resume(file string, task correctTask) (*keptRun, error) {
	begun := &keptRun{Asked: task, Task: task, file: file}
	if file == "" {
		return begun, nil
	}
	content, err := os.ReadFile(file) //nolint:gosec // the operator's own file
	if errors.Is(err, os.ErrNotExist) {
		return begun, begun.write() // that it cannot be written is found out before the work
	}
	if err != nil {
		return nil, err
	}
	kept := &keptRun{file: file}
	if err := json.Unmarshal(content, kept); err != nil {
		return nil, err
	}
	if !kept.Asked.covers(task) {
		return nil, errors.New("it was kept by a run with other --shards, --since or --repair: give the same, or remove the file")
	}
	kept.Task.Rate = task.Rate
	kept.earlier = kept.Report
	return kept, nil
}

// covers reports whether a task that was begun is what is asked for now. Its
// time may be the earlier one: --since counts from when a run begins.
func (t correctTask) covers(asked correctTask) bool {
	return t.From == asked.From && t.UpTo == asked.UpTo && t.Repair == asked.Repair &&
		t.Since.IsZero() == asked.Since.IsZero() && !asked.Since.Before(t.Since)
}

// reach notes how far the run came.
func (k *keptRun) reach(at *correction.Progress) {
	k.Task.From = max(k.Task.From, at.Shard)
	k.Report = correction.Report{}
	k.Report.Add(&at.Done)
	k.Report.Add(&k.earlier)
}

func (k *keptRun) write() error {
	if k.file == "" {
		return nil
	}
	content, err := json.Marshal(k)
	if err != nil {
		return err
	}
	next := k.file + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	return os.Rename(next, k.file)
}

func (k *keptRun) remove() error {
	if k.file == "" {
		return nil
	}
	if err := os.Remove(k.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
