package workload

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/checker"
)

// Limits against hanging, far above what is needed.
const (
	// settleLimit is for the copies of the last messages, which take
	// milliseconds.
	settleLimit = 10 * time.Second
	// readLimit is for reading the mailboxes of up to a hundred devices from the
	// start, and comparing what they come to.
	readLimit = 100 * time.Second
)

// Pause has senders finish, waits until every device has received everything,
// and returns what the checker says of all that happened so far; then senders go
// on. What is not there when the limit is up is in the report. Devices poll all
// the time, and the server must run.
func (w *Workload) Pause(limit time.Duration) *checker.Report {
	w.t.Helper()
	w.StopSending()
	defer w.StartSending()
	deadline := time.Now().Add(limit)
	look := time.NewTicker(100 * time.Millisecond) // the history may be long
	defer look.Stop()
	for {
		late := time.Now().After(deadline)
		if late || w.History.Broken() || w.History.Unsettled() == 0 {
			// Some device may still be reading what another has.
			if report := w.History.Check(); late || w.History.Broken() || report.OK() {
				return report
			}
		}
		<-look.C
	}
}

// Finish ends the run: senders finish, devices read what is left, then all of
// it again from the start, and the checker judges. The server must run.
func (w *Workload) Finish() *checker.Report {
	w.t.Helper()
	w.StopSending()
	w.StopReceiving()
	w.settle()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Duration(1+len(w.devices)/100)*readLimit)
	defer cancel()
	for _, d := range w.readers() {
		if err := w.readAgain(ctx, d); err != nil {
			w.t.Errorf("read %s/%s again: %v", d.user, d.name, err)
			return w.History.Check() // The others would only wait, too.
		}
	}
	if w.options.Mix > 0 {
		w.compareStates(ctx)
	}
	return w.History.Check()
}

// settle reads with every device until each message is in both its mailboxes.
// When that does not come to pass the checker says which are missing. A history
// that is broken already need not settle.
func (w *Workload) settle() {
	ctx, cancel := context.WithTimeout(w.t.Context(), settleLimit)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		for _, d := range w.readers() {
			if err := d.catchUp(ctx, 1000); err != nil {
				w.t.Errorf("read %s/%s to the end: %v", d.user, d.name, err)
				return
			}
		}
		if w.History.Unsettled() == 0 || w.History.Broken() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// readAgain reads a mailbox, or a chat, from the start and compares its end with
// what the server says that it is.
func (w *Workload) readAgain(ctx context.Context, d *device) error {
	before := d.seen.Cursor()
	d.seen.Rewind(0)
	if w.options.Mix > 0 {
		d.replica = newReplica()
	}
	if err := d.catchUp(ctx, 1+d.rand.Int32N(1000)); err != nil {
		return err
	}
	if d.chat != "" {
		return d.endsAt(ctx, before)
	}
	head := new(tegamiv1.GetHeadResponse)
	if err := d.client.Call(ctx, "TalkService/GetHead", &tegamiv1.GetHeadRequest{}, head); err != nil {
		return err
	}
	if end := d.seen.Cursor(); end != before || head.GetRevision() != end || head.GetFirstRevision() != 1 {
		return fmt.Errorf("it ended at %d, before at %d; GetHead says %d to %d",
			end, before, head.GetFirstRevision(), head.GetRevision())
	}
	return nil
}

// Judge finishes the run and fails the test unless every guarantee was kept.
// Lines of the server's log that hold one of the expected words are no
// complaints: the test provoked them.
func (w *Workload) Judge(expected ...string) *checker.Report {
	w.t.Helper()
	report := w.Finish()
	w.t.Logf("progress: %v, seed %d", report, w.options.Seed)
	if !report.OK() {
		w.t.Errorf("guarantees were broken:\n%s", report.Explain())
	}
	if count, first := w.Unexpected(); count > 0 {
		w.t.Errorf("%d unexpected answers, among them:", count)
		for _, finding := range first {
			w.t.Error(finding)
		}
	}
	complaints := slices.DeleteFunc(w.server.Complaints(), func(complaint string) bool {
		return slices.ContainsFunc(expected, func(word string) bool { return strings.Contains(complaint, word) })
	})
	for _, complaint := range complaints[:min(len(complaints), maxFindings)] {
		w.t.Errorf("the server complained: %s", complaint)
	}
	return report
}
