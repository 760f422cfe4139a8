package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/tegami-im/tegami/internal/fleet"
)

type clusterTopCommand struct {
	configFlags
	watchFlags
	AdminToken string `placeholder:"TOKEN" env:"TEGAMI_ADMIN_TOKEN" help:"The token of the nodes' admin listeners, or @FILE. Missing: that of the data folder."`
	Number     int    `short:"n" default:"10" help:"How many shards, and how many mailboxes, 1 to 1000."`
	Output     string `enum:"text,json" default:"text" help:"text or json."`
}

func (clusterTopCommand) Help() string {
	return `Shows the busiest shards and mailboxes of all talk nodes, as counted in the last 10 seconds that are over: records to be written, and questions, polls among them. A mailbox that gets less than a thirty-second of what its shard gets may be missing, and a count may be too high by what stands behind it.

Examples:
  tegami cluster top --config /etc/tegami.yaml --admin-token @/etc/tegami/admin.token
  tegami cluster top --watch -n 20`
}

// Validate is called by kong.
func (c *clusterTopCommand) Validate() error {
	if c.Number < 1 || c.Number > maxBusy {
		return fmt.Errorf("--number %d: must be 1 to %d", c.Number, maxBusy)
	}
	return c.watchFlags.Validate()
}

// maxBusy bounds how many are asked for.
const maxBusy = 1000

func (c *clusterTopCommand) Run(ctx context.Context, std streams) error {
	view, err := openClusterView(ctx, &c.configFlags, std)
	if err != nil {
		return err
	}
	defer view.close()
	token, err := adminToken(c.AdminToken, view.config.Data.Dir)
	if err != nil {
		return err
	}
	return c.repeat(ctx, std, func() error {
		places, err := statusOf(view.config.Data.Shards, view.members.Snapshot())
		if err != nil {
			return err
		}
		top, failed := fleet.Busiest(ctx, http.DefaultClient, token, c.Number, view.members.Snapshot().Members)
		if len(failed) > 0 && len(top.Shards) == 0 {
			return unreachableError{errors.Join(append([]error{errNoTalkNode}, failed...)...)}
		}
		for _, err := range failed {
			std.notef("tegami: %v", err)
		}
		if c.Output == "json" {
			encoder := json.NewEncoder(std.out)
			encoder.SetIndent("", "  ")
			return encoder.Encode(top)
		}
		return printTop(std, top, places.Shards)
	})
}

func printTop(std streams, top fleet.Top, shards int) error {
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "SHARD\tNODE\tWRITES/S\tREADS/S\t")
	for _, s := range top.Shards {
		_, _ = fmt.Fprintf(table, "%d\t%s\t%.1f\t%.1f\t\n", s.Shard.Shard, s.Node, float64(s.Writes)/top.Seconds, float64(s.Reads)/top.Seconds)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	std.printf("\n")
	table = tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "MAILBOX\tSHARD\tPER S\tAT MOST TOO HIGH BY")
	for _, m := range top.Mailboxes {
		_, _ = fmt.Fprintf(table, "%s\t%d\t%.1f\t%.1f\n", strconv.Quote(m.Name), m.Shard, float64(m.Count)/top.Seconds, float64(m.Over)/top.Seconds)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	std.printf("\nOf %d shards, over %.0f s.\n", shards, top.Seconds)
	return nil
}

// adminToken returns a token that was given, as it is or by @FILE, or that of a
// data folder.
func adminToken(given, dir string) (string, error) {
	file, named := strings.CutPrefix(given, "@")
	switch {
	case given != "" && !named:
		return given, nil
	case !named:
		file = filepath.Join(dir, adminTokenFile)
	}
	content, err := os.ReadFile(file) //nolint:gosec // the operator's own file
	if err != nil {
		return "", usagef("read the admin token: %w; give --admin-token", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// busy answers what is busiest on this node.
func (s *service) busy(w http.ResponseWriter, r *http.Request) {
	most := 10
	if text := r.URL.Query().Get("n"); text != "" {
		var err error
		if most, err = strconv.Atoi(text); err != nil || most < 1 || most > maxBusy {
			http.Error(w, fmt.Sprintf("n must be 1 to %d", maxBusy), http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.node.Busy(most))
}
