package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/internal/fleet"
	"github.com/tegami-im/tegami/internal/terminal"
)

type clusterStatusCommand struct {
	configFlags
	watchFlags
	Output string `enum:"text,json" default:"text" help:"text or json."`
}

func (clusterStatusCommand) Help() string {
	return `Shows who the members are, from etcd or as written down, how many shards each has by that, and what each says at its admin listener: how many of them are open, how many records its store has yet to get and for how long, what is in flight, what is held. A question mark is for what it does not say.

Examples:
  tegami cluster status --config /etc/tegami.yaml
  tegami cluster status --watch
  tegami cluster status --output json | jq '.members[] | select(.state != "active")'`
}

// watchFlags have a command show the same again and again.
type watchFlags struct {
	Watch    bool          `help:"Show it again and again, until interrupted."`
	Interval time.Duration `default:"2s" help:"How often, with --watch."`
}

// Validate is called by kong.
func (w *watchFlags) Validate() error {
	if w.Interval < 100*time.Millisecond {
		return fmt.Errorf("--interval %v: must be at least 100ms", w.Interval)
	}
	return nil
}

// clearScreen begins a screen anew.
const clearScreen = "\033[H\033[2J\033[3J"

// repeat shows once, or until ctx ends.
func (w *watchFlags) repeat(ctx context.Context, std streams, show func() error) error {
	for {
		if w.Watch && terminal.Is(std.out) {
			std.printf(clearScreen)
		}
		if err := show(); err != nil || !w.Watch {
			return err
		}
		if !sleep(ctx, w.Interval) {
			return nil
		}
	}
}

// clusterStatus is what is shown.
type clusterStatus struct {
	Revision uint64         `json:"revision"`
	Shards   int            `json:"shards"`
	Members  []memberStatus `json:"members"`
	// Unowned is how many shards have no owner.
	Unowned int `json:"unowned"`
	// Largest is how many times its share of the shards the member has that has
	// most for its weight; 0 without members.
	Largest float64 `json:"largest"`
}

type memberStatus struct {
	Name    string        `json:"name"`
	ID      string        `json:"id"`
	Role    cluster.Role  `json:"role"`
	State   cluster.State `json:"state"`
	Address string        `json:"address"`
	Admin   string        `json:"admin,omitempty"`
	Version string        `json:"version"`
	Weight  int           `json:"weight"`
	Shards  int           `json:"shards"`
	// Serves is how many shards it says that it serves; -1 when it does not say.
	Serves int `json:"serves"`
	// Unfit is why it cannot take shards: journal, network, clock, or nothing.
	Unfit string `json:"unfit,omitempty"`
	// Seen is what it says itself; nil where it does not, Error says why.
	Seen  *seenStatus `json:"seen,omitempty"`
	Error string      `json:"error,omitempty"`
}

// seenStatus is what a member says of itself.
type seenStatus struct {
	Open    int `json:"open"`
	Opening int `json:"opening"`
	Halted  int `json:"halted"`
	// Lag is how many records its store has yet to get, LagSeconds how long the
	// oldest has waited.
	Lag        int     `json:"lag"`
	LagSeconds float64 `json:"lagSeconds"`
	Commands   int     `json:"commands"`
	Polls      int     `json:"polls"`
	// Answered is how many commands it has answered since it was started.
	Answered float64 `json:"answered"`
	// Rate is how many it answers in a second; 0 where it was not seen before.
	Rate float64 `json:"rate,omitempty"`

	at time.Time
}

func (c *clusterStatusCommand) Run(ctx context.Context, std streams) error {
	view, err := openClusterView(ctx, &c.configFlags, std)
	if err != nil {
		return err
	}
	defer view.close()
	before := map[string]*seenStatus{}
	return c.repeat(ctx, std, func() error {
		status, err := statusOf(view.config.Data.Shards, view.members.Snapshot())
		if err != nil {
			return err
		}
		status.look(view.look(ctx), time.Now(), before)
		if c.Output == "json" {
			encoder := json.NewEncoder(std.out)
			encoder.SetIndent("", "  ")
			return encoder.Encode(status)
		}
		return status.print(std)
	})
}

// clusterView is the cluster as an operator sees it.
type clusterView struct {
	config  *config.Config
	service *service
	members membersView
}

func openClusterView(ctx context.Context, flags *configFlags, std streams) (*clusterView, error) {
	loaded, err := flags.load(std)
	if err != nil {
		return nil, err
	}
	s := newService(&loaded.Config, newLogger(loaded.Log, std))
	members, err := s.observe(ctx)
	if err != nil {
		s.stop()
		return nil, unreachableError{err}
	}
	return &clusterView{config: &loaded.Config, service: s, members: members}, nil
}

func (v *clusterView) close() {
	v.service.stop()
	if v.service.observer != nil {
		_ = v.service.observer.Close()
	}
}

// look asks every member.
func (v *clusterView) look(ctx context.Context) []fleet.Node {
	return fleet.Look(ctx, http.DefaultClient, v.members.Snapshot().Members)
}

func statusOf(shards int, s cluster.Snapshot) (*clusterStatus, error) {
	places, err := cluster.NewMap(shards, s)
	if err != nil {
		return nil, err
	}
	status := &clusterStatus{Revision: s.Revision, Shards: shards, Unowned: shards}
	weights := 0
	for _, m := range s.Members {
		owned := len(places.Owned(m.ID))
		status.Unowned -= owned
		if owned > 0 {
			weights += m.Weight
		}
		status.Members = append(status.Members, memberStatus{
			Name: m.Name, ID: m.ID, Role: m.Role, State: m.State, Address: m.Address, Admin: m.Admin,
			Version: m.Version, Weight: m.Weight, Shards: owned, Serves: servesOf(m), Unfit: m.Unfit,
		})
	}
	for _, m := range status.Members {
		if m.Shards > 0 {
			status.Largest = max(status.Largest, float64(m.Shards*weights)/float64(shards*m.Weight))
		}
	}
	return status, nil
}

func servesOf(m cluster.Member) int {
	if !m.Serves.Tells() {
		return -1
	}
	return m.Serves.Len()
}

// look adds what members say of themselves. before has what each said the last
// time, by id, and gets what it says now.
func (s *clusterStatus) look(nodes []fleet.Node, now time.Time, before map[string]*seenStatus) {
	byID := map[string]*fleet.Node{}
	for i := range nodes {
		byID[nodes[i].ID] = &nodes[i]
	}
	for i := range s.Members {
		m := &s.Members[i]
		node := byID[m.ID]
		if node == nil { // it came meanwhile
			continue
		}
		if node.Err != nil {
			m.Error = node.Err.Error()
			continue
		}
		m.Seen = seenOf(node.Metrics, now)
		if last := before[m.ID]; last != nil && m.Seen.Answered >= last.Answered {
			m.Seen.Rate = (m.Seen.Answered - last.Answered) / now.Sub(last.at).Seconds()
		}
		before[m.ID] = m.Seen
	}
}

func seenOf(m fleet.Metrics, now time.Time) *seenStatus {
	return &seenStatus{
		Open:       int(m.Sum("tegami_shards", `state="open"`)),
		Opening:    int(m.Sum("tegami_shards", `state="opening"`)),
		Halted:     int(m.Sum("tegami_shards", `state="halted"`)),
		Lag:        int(m.Sum("tegami_records_unstored") + m.Sum("tegami_records_dropped")),
		LagSeconds: m.Sum("tegami_writebehind_lag_seconds", `part="store"`),
		Commands:   int(m.Sum("tegami_commands_in_flight")),
		Polls:      int(m.Sum("tegami_polls_held")),
		Answered:   m.Sum("tegami_send_stage_seconds_count", `stage="answered"`),
		at:         now,
	}
}

func (s *clusterStatus) print(std streams) error {
	table := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "NAME\tROLE\tSTATE\tSHARDS\tOPEN\tLAG\tIN FLIGHT\tPER S\tPOLLS\tWEIGHT\tADDRESS\tVERSION\tID")
	for _, m := range s.Members {
		state, seen := string(m.State), "?\t?\t?\t?\t?"
		if m.Unfit != "" {
			state += ", unfit: " + m.Unfit
		}
		if m.Seen != nil {
			seen = m.Seen.columns()
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\n", m.Name, m.Role, state, m.Shards, seen, m.Weight, m.Address, m.Version, m.ID)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	std.printf("\n%d shards at revision %d", s.Shards, s.Revision)
	if s.Unowned > 0 {
		std.printf(", %d without an owner: no talk node is active", s.Unowned)
	} else {
		std.printf("; the fullest member has %.2f times its share", s.Largest)
	}
	std.printf(".\n")
	for _, m := range s.Members {
		if m.Seen != nil && m.Seen.Halted > 0 {
			std.printf("%s: %d shards wait for an operator; its log says why.\n", m.Name, m.Seen.Halted)
		}
		if m.Admin != "" && m.Error != "" {
			std.printf("%s does not answer: %s\n", m.Name, m.Error)
		}
	}
	return nil
}

func (s *seenStatus) columns() string {
	lag := fmt.Sprint(s.Lag)
	if s.LagSeconds >= 1 {
		lag += fmt.Sprintf(" (%.0f s)", s.LagSeconds)
	}
	return fmt.Sprintf("%d\t%s\t%d\t%.0f\t%d", s.Open, lag, s.Commands, math.Round(s.Rate), s.Polls)
}

// errNoTalkNode is of a cluster that has none which answers.
var errNoTalkNode = errors.New("no talk node answers")
