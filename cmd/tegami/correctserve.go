package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"

	"github.com/tegami-im/tegami/persistence/correction"
)

// correct compares, and repairs where that is asked for, inside the server: each
// mailbox through its shard. It answers line by line.
func (s *service) correct(w http.ResponseWriter, r *http.Request) {
	var task correctTask
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&task); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !s.correcting.TryLock() {
		http.Error(w, "a correction is under way", http.StatusConflict)
		return
	}
	defer s.correcting.Unlock()
	lines := lineWriter{encoder: json.NewEncoder(w), flush: http.NewResponseController(w).Flush}
	options := correctionOptions(s.storage, task)
	options.Logger = s.log
	options.Found = func(f correction.Finding) { lines.write(correctEvent{Finding: &f}) }
	options.Progress = func(p correction.Progress) { lines.write(correctEvent{Progress: &p}) }
	if task.Repair {
		options.Hold = s.node.Hold
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.running, cancel)() //nolint:contextcheck // the context is the request's
	report, err := runCorrection(ctx, options, task)
	if err != nil {
		s.log.Warn("correction ended early", "error", err)
		lines.write(correctEvent{Error: err.Error(), Away: isAway(err)})
		return
	}
	s.log.Info("corrected", "mailboxes", report.Mailboxes, "operations", report.Operations,
		"found", correction.Total(report.Found), "repaired", correction.Total(report.Repaired))
	lines.write(correctEvent{Report: report})
}

// lineWriter writes events as they come. That nobody reads ends the request's
// context.
type lineWriter struct {
	mu      sync.Mutex // guards the following
	encoder *json.Encoder
	flush   func() error
}

func (l *lineWriter) write(event correctEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.encoder.Encode(event) == nil {
		_ = l.flush()
	}
}
