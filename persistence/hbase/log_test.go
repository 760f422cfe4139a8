package hbase

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestTheClientLibrarySpeaksForDebuggingOnly(t *testing.T) {
	for level, want := range map[slog.Level]string{slog.LevelInfo: "", slog.LevelDebug: "level=DEBUG msg=closing"} {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))
		forDebugging(log).With("client", 1).WithGroup("g").Error("closing", "region", 2)
		if got := out.String(); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("at level %s it wrote %q, want %q", level, got, want)
		}
	}
}
