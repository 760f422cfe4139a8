package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/remote"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/internal/fleet"
)

// Cluster is what is known of a cluster: who its members are, and what each says.
type Cluster struct {
	Config  *config.Config
	Members cluster.Snapshot
	Nodes   []fleet.Node
	// TLS is how to connect to a node; nil where the cluster has no certificates.
	TLS *tls.Config
}

// ExamineCluster looks at all nodes of a cluster. Beyond what the nodes said it
// connects to each to see its certificate.
func ExamineCluster(ctx context.Context, c *Cluster) []Finding {
	var findings []Finding
	for _, check := range []struct {
		name string
		run  func(context.Context, *Cluster) Finding
	}{
		{"members", members},
		{"fitness", fitness},
		{"answers", answers},
		{"views", views},
		{"shards", shards},
		{"clocks", clocks},
		{"versions", versions},
		{"settings", settings},
		{"signing key", signingKey},
		{"cluster certificates", clusterCertificates},
	} {
		finding := check.run(ctx, c)
		finding.Check = check.name
		findings = append(findings, finding)
	}
	for _, check := range stores(c.Config) {
		if check.name == "redis" { // the others are opened, which tells more
			finding := check.run(ctx, c.Config)
			finding.Check = check.name
			findings = append(findings, finding)
		}
	}
	return findings
}

// members checks that every part of a cluster has somebody.
func members(_ context.Context, c *Cluster) Finding {
	active, draining := map[cluster.Role]int{}, []string{}
	for _, m := range c.Members.Members {
		switch m.State {
		case cluster.StateActive:
			active[m.Role]++
		case cluster.StateDraining:
			draining = append(draining, m.Name)
		case cluster.StateJoining:
		}
	}
	talk, gateways := active[cluster.RoleTalk], active[cluster.RoleGateway]
	switch {
	case talk == 0:
		return problem("start one: tegami talk --config FILE", "no talk node is active: nothing is sent or fetched")
	case len(draining) > 0:
		return warning("wait for it to end, or tegami cluster undrain NODE", "%d talk nodes and %d gateways are active, %s drains", talk, gateways, strings.Join(draining, ", "))
	case talk == 1:
		return warning("start another: tegami talk --config FILE", "one talk node: when it dies, nobody has its shards until it is back")
	default:
		return ok("%d talk nodes and %d gateways are active", talk, gateways)
	}
}

// remedies of what makes a talk node unfit.
var remedies = map[string]string{
	"journal": "see whether it reaches the journal's brokers: its log says so",
	"network": "see whether it reaches the gateways, and they it",
	"clock":   "on that machine, or the brokers': sudo timedatectl set-ntp true; chronyc tracking",
}

// fitness checks that every active talk node may have shards.
func fitness(_ context.Context, c *Cluster) Finding {
	var unfit []string
	remedy := ""
	for _, m := range c.Members.Members {
		if m.Unfit != "" {
			unfit = append(unfit, fmt.Sprintf("%s (%s)", m.Name, m.Unfit))
			remedy = cmp.Or(remedies[m.Unfit], "its log says why")
		}
	}
	if len(unfit) > 0 {
		return problem(remedy, "unfit to have shards: %s", strings.Join(unfit, ", "))
	}
	return ok("all may have shards")
}

// answers checks that operators reach every node.
func answers(_ context.Context, c *Cluster) Finding {
	var silent []string
	for _, n := range c.Nodes {
		if n.Err != nil {
			silent = append(silent, fmt.Sprintf("%s (%v)", n.Name, n.Err))
		}
	}
	if len(silent) > 0 {
		return warning("set admin.listen, or admin.advertise, of each to an address that is reached from here, in a private network",
			"what follows leaves out %s", strings.Join(silent, ", "))
	}
	return ok("all %d nodes answer operators", len(c.Nodes))
}

// views checks that all nodes know the same members.
func views(_ context.Context, c *Cluster) Finding {
	want := map[cluster.Role]float64{}
	for _, m := range c.Members.Members {
		want[m.Role]++
	}
	var others []string
	for _, n := range c.Nodes {
		for _, role := range []cluster.Role{cluster.RoleTalk, cluster.RoleGateway} {
			if got := n.Metrics.Sum("tegami_cluster_members", fmt.Sprintf("role=%q", role)); n.Err == nil && got != want[role] {
				others = append(others, fmt.Sprintf("%s knows %.0f of role %s, not %.0f", n.Name, got, role, want[role]))
			}
		}
	}
	if len(others) > 0 {
		return warning("see whether it reaches etcd: its log says so; ask again in a moment, when somebody has just come or gone", "%s", strings.Join(others, "; "))
	}
	return ok("all know the same members")
}

// shards checks that every shard is open somewhere.
func shards(_ context.Context, c *Cluster) Finding {
	open := 0.0
	var halted, opening []string
	for _, n := range c.Nodes {
		open += n.Metrics.Sum("tegami_shards", `state="open"`)
		if k := n.Metrics.Sum("tegami_shards", `state="halted"`); k > 0 {
			halted = append(halted, fmt.Sprintf("%.0f of %s", k, n.Name))
		}
		if k := n.Metrics.Sum("tegami_shards", `state="opening"`); k > 0 {
			opening = append(opening, fmt.Sprintf("%.0f of %s", k, n.Name))
		}
	}
	switch {
	case len(halted) > 0:
		return problem("see docs/runbooks.md#tegamishardhalted; the log of the node says why", "shards wait for an operator: %s", strings.Join(halted, ", "))
	case len(opening) > 0:
		return warning("ask again in a moment; then see docs/runbooks.md#tegamishardsdonotopen", "shards are opening: %s", strings.Join(opening, ", "))
	case int(open) < c.Config.Data.Shards && !anySilent(c, cluster.RoleTalk):
		return problem("tegami cluster status shows who has them", "%.0f of %d shards are open", open, c.Config.Data.Shards)
	default:
		return ok("%.0f open", open)
	}
}

func anySilent(c *Cluster, role cluster.Role) bool {
	return slices.ContainsFunc(c.Nodes, func(n fleet.Node) bool { return n.Role == role && n.Err != nil })
}

// How far clocks may be apart. A node that is more than 5 s from the journal's
// clock takes no commands.
const (
	skewNoticed = time.Second
	skewTooMuch = 5 * time.Second
)

// clocks compares the clocks of all nodes with this machine's.
func clocks(_ context.Context, c *Cluster) Finding {
	worst, name := time.Duration(0), ""
	for _, n := range c.Nodes {
		if n.Info == nil {
			continue
		}
		// What the way of the question may account for is no skew.
		if skew := max(n.Ahead.Abs()-n.Within, 0); name == "" || skew > worst {
			worst, name = skew, n.Name
		}
	}
	if name == "" {
		return warning("see the finding above", "no node says what its clock shows")
	}
	remedy := "on " + name + ", or here: sudo timedatectl set-ntp true; chronyc tracking"
	switch {
	case worst > skewTooMuch:
		return problem(remedy, "that of %s is %v from this machine's", name, worst.Round(time.Millisecond))
	case worst > skewNoticed:
		return warning(remedy, "that of %s is %v from this machine's", name, worst.Round(time.Millisecond))
	default:
		return ok("none is more than %v from this machine's", max(worst, time.Millisecond).Round(time.Millisecond))
	}
}

// versions checks that all nodes run one program.
func versions(_ context.Context, c *Cluster) Finding {
	by := map[string][]string{}
	for _, m := range c.Members.Members {
		by[m.Version] = append(by[m.Version], m.Name)
	}
	if len(by) <= 1 {
		for version := range by {
			return ok("all run %s", version)
		}
		return ok("nobody is there")
	}
	var all []string
	for _, version := range slices.Sorted(maps.Keys(by)) {
		all = append(all, fmt.Sprintf("%s: %s", version, strings.Join(by[version], ", ")))
	}
	return warning("finish the upgrade: until all run one version, what came with the newest is refused", "several run: %s", strings.Join(all, "; "))
}

// settings checks that nodes agree on what they have to agree on.
func settings(_ context.Context, c *Cluster) Finding {
	by := map[string]map[string][]string{} // key, value, nodes
	for _, n := range c.Nodes {
		if n.Info == nil {
			continue
		}
		for key, value := range n.Info.Settings {
			if by[key] == nil {
				by[key] = map[string][]string{}
			}
			by[key][value] = append(by[key][value], n.Name)
		}
	}
	var hard, soft []string
	for _, key := range slices.Sorted(maps.Keys(by)) {
		if len(by[key]) <= 1 {
			continue
		}
		var all []string
		for _, value := range slices.Sorted(maps.Keys(by[key])) {
			all = append(all, fmt.Sprintf("%q on %s", value, strings.Join(by[key][value], ", ")))
		}
		text := key + " is " + strings.Join(all, " and ")
		if fleet.MayDiffer(key) {
			soft = append(soft, text)
		} else {
			hard = append(hard, text)
		}
	}
	const remedy = "have all nodes read one configuration: tegami config shows where each value comes from"
	switch {
	case len(hard) > 0:
		return problem(remedy, "%s", strings.Join(append(hard, soft...), "; "))
	case len(soft) > 0:
		return warning(remedy+"; several addresses of the same servers are fine", "%s", strings.Join(soft, "; "))
	default:
		return ok("nodes agree on %d of them", len(by))
	}
}

// signingKey checks that a session of one gateway is one at all.
func signingKey(_ context.Context, c *Cluster) Finding {
	by := map[string][]string{}
	for _, n := range c.Nodes {
		if n.Info != nil && n.Info.SigningKey != "" {
			by[n.Info.SigningKey] = append(by[n.Info.SigningKey], n.Name)
		}
	}
	switch len(by) {
	case 0:
		return warning("start one: tegami gateway --config FILE", "no gateway says which it has")
	case 1:
		return ok("all gateways have the same")
	}
	if c.Config.Cluster.Membership == config.MembershipEtcd {
		return ok("gateways have their own, and learn the public keys of the others from etcd")
	}
	var all []string
	for _, names := range by {
		all = append(all, strings.Join(names, ", "))
	}
	slices.Sort(all)
	return problem("copy signing.key from the data folder of one to the others, and restart them",
		"gateways have different ones, so that each refuses the sessions of the others: %s", strings.Join(all, " | "))
}

// clusterCertificates connects to every node and looks at what it shows.
func clusterCertificates(ctx context.Context, c *Cluster) Finding {
	if c.TLS == nil {
		return ok("not used: cleartext between nodes, which is for one machine")
	}
	var bad []string
	var first time.Time
	names := []string{}
	for _, m := range c.Members.Members {
		certificate, err := shown(ctx, m.Address, c.TLS)
		if err == nil {
			err = belongs(certificate, m)
		}
		if err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", m.Name, err))
			names = append(names, m.Name)
			continue
		}
		if first.IsZero() || certificate.NotAfter.Before(first) {
			first = certificate.NotAfter
		}
	}
	day := 24 * time.Hour
	switch left := time.Until(first); {
	case len(bad) > 0:
		return problem("tegami admin cert node "+names[0]+" --dir DIR --role ROLE --address HOST, and copy it there", "%s", strings.Join(bad, "; "))
	case left < 14*day:
		return warning("tegami admin cert node NAME --dir DIR --role ROLE --address HOST, for each", "the first ends in %d days", left/day)
	default:
		return ok("good until %s", first.Format(time.DateOnly))
	}
}

// shown returns the certificate that a node shows.
func shown(ctx context.Context, address string, settings *tls.Config) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	settings = settings.Clone()
	settings.ServerName = host
	conn, err := (&tls.Dialer{Config: settings}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	secure, isTLS := conn.(*tls.Conn)
	if !isTLS {
		return nil, errors.New("not encrypted")
	}
	return secure.ConnectionState().PeerCertificates[0], nil
}

// belongs checks that a certificate is that of a member.
func belongs(certificate *x509.Certificate, m cluster.Member) error {
	identity, err := remote.IdentityOf(certificate)
	switch {
	case err != nil:
		return err
	case identity.Role != m.Role || identity.Name != m.Name:
		return fmt.Errorf("it shows the certificate of %s", identity.URI())
	default:
		return nil
	}
}
