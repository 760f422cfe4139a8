package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/internal/doctor"
	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/persistence/kafka"
)

type doctorCommand struct {
	configFlags
	Cluster bool   `help:"Look at all nodes of a cluster instead of this machine."`
	Output  string `enum:"text,json" default:"text" help:"text or json."`
}

func (doctorCommand) Help() string {
	return `Looks at the configuration, the data folder, ports, disk, limits and clock. It ends with exit code 1 when something is wrong that the server cannot work with. Give the same flags as to serve.

With --cluster it looks at all nodes instead: whether they answer, know the same members and have opened their shards, their clocks, versions, certificates and keys, whether they agree on the settings that they have to agree on, and whether the stores are set as they must be.

Examples:
  tegami doctor
  tegami doctor --cluster --config /etc/tegami.yaml
  tegami doctor --config /etc/tegami.yaml --output json`
}

func (c *doctorCommand) Run(ctx context.Context, std streams) error {
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	var findings []doctor.Finding
	if c.Cluster {
		if findings, err = examineCluster(ctx, &c.configFlags, std); err != nil {
			return err
		}
	} else {
		findings = doctor.Examine(ctx, &loaded.Config)
	}
	if err := c.print(std, findings); err != nil {
		return err
	}
	for _, finding := range findings {
		if finding.State == doctor.Problem {
			return errors.New("there are problems")
		}
	}
	return nil
}

// examineCluster looks at the nodes of a cluster, and at its stores.
func examineCluster(ctx context.Context, flags *configFlags, std streams) ([]doctor.Finding, error) {
	view, err := openClusterView(ctx, flags, std)
	if err != nil {
		return nil, err
	}
	defer view.close()
	examined := &doctor.Cluster{Config: view.config, Members: view.members.Snapshot(), Nodes: view.look(ctx)}
	if view.config.Cluster.Cert != "" {
		if examined.TLS, err = clusterTLS(view.config.Cluster); err != nil {
			return nil, usageError{fmt.Errorf("cluster.cert: %w", err)}
		}
	}
	return append(doctor.ExamineCluster(ctx, examined), examineStores(ctx, view.config)...), nil
}

// storesLimit bounds the look at a store.
const storesLimit = 10 * time.Second

// examineStores opens journal and store as a talk node does, which checks their
// settings, and closes them.
func examineStores(ctx context.Context, c *config.Config) []doctor.Finding {
	if c.Store.Kind != config.StoreHybrid {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storesLimit)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	var findings []doctor.Finding
	for _, store := range []struct {
		name string
		open func() (io.Closer, error)
	}{
		{"kafka", func() (io.Closer, error) {
			options, err := kafkaOptions(c, log)
			if err != nil {
				return nil, err
			}
			return kafka.Open(ctx, options)
		}},
		{"hbase", func() (io.Closer, error) { return hbase.OpenStore(ctx, hbaseOptions(c, log)) }},
	} {
		finding := doctor.Finding{Check: store.name, State: doctor.OK, Text: "answers, and is set as it must be"}
		opened, err := store.open()
		if err == nil {
			err = opened.Close()
		}
		if err != nil {
			finding.State, finding.Text, finding.Remedy = doctor.Problem, err.Error(), "tegami admin schema apply, with the same configuration, makes what is missing and says what is wrong"
		}
		findings = append(findings, finding)
	}
	return findings
}

func (c *doctorCommand) print(std streams, findings []doctor.Finding) error {
	if c.Output == "json" {
		encoder := json.NewEncoder(std.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(findings)
	}
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "ok\tconfiguration\tis valid\n")
	for _, finding := range findings {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", finding.State, finding.Check, finding.Text)
		if finding.Remedy != "" {
			_, _ = fmt.Fprintf(table, "\t\t→ %s\n", finding.Remedy)
		}
	}
	return table.Flush()
}
