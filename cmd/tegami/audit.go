package main

import (
	"log/slog"

	"github.com/tegami-im/tegami/persistence/correction"
	"github.com/tegami-im/tegami/telemetry"
)

// newAuditor returns what looks slowly at all that is stored, measured. A server
// audits its data folder, a worker the servers of a hybrid store.
func newAuditor(s *storage, rate int, metrics telemetry.Registry, log *slog.Logger) *correction.Auditor {
	options := correctionOptions(s, correctTask{Rate: rate})
	options.Logger = log
	auditor := correction.NewAuditor(options)
	count := func(name, help string, read func() int64) {
		metrics.Counter(name, help, func() float64 { return float64(read()) })
	}
	count("tegami_audit_rounds_total", "How often all shards were audited.", auditor.Rounds)
	count("tegami_audit_mailboxes_total", "Mailboxes audited.", auditor.Mailboxes)
	count("tegami_audit_operations_total", "Operations audited.", auditor.Operations)
	count("tegami_audit_findings_total", "What the audit found wrong; again in each round until it is mended.", auditor.Found)
	return auditor
}
