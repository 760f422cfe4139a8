package telemetry

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tegami-im/tegami/cluster"
)

var (
	buildInfo          = prometheus.NewDesc("tegami_build_info", "1, with the version of the program and the newest version of apply that it knows.", []string{"version", "apply"}, nil)
	clusterMembers     = prometheus.NewDesc("tegami_cluster_members", "Members of the cluster that this node knows of, by role and state.", []string{"role", "state"}, nil)
	certificateExpires = prometheus.NewDesc("tegami_certificate_expires_seconds", "When a certificate ends, in seconds since 1970: that of the cluster, or of the listener for clients.", []string{"of"}, nil)
)

// WatchBuild adds which version runs.
func (m *Metrics) WatchBuild(version string, apply uint32) {
	m.registry.MustRegister(constant{buildInfo, []string{version, strconv.FormatUint(uint64(apply), 10)}})
}

type constant struct {
	desc   *prometheus.Desc
	labels []string
}

// Describe implements prometheus.Collector.
func (c constant) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- c.desc }

// Collect implements prometheus.Collector.
func (c constant) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, 1, c.labels...)
}

// WatchMembers adds who the members are, as this node sees it.
func (m *Metrics) WatchMembers(snapshot func() cluster.Snapshot) {
	m.registry.MustRegister(memberCollector(snapshot))
}

type memberCollector func() cluster.Snapshot

// Describe implements prometheus.Collector.
func (memberCollector) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- clusterMembers }

// Collect implements prometheus.Collector. Where there may be none, there is a 0:
// what is absent raises no alarm.
func (c memberCollector) Collect(metrics chan<- prometheus.Metric) {
	type kind struct {
		role  cluster.Role
		state cluster.State
	}
	counts := map[kind]int{}
	for _, role := range []cluster.Role{cluster.RoleTalk, cluster.RoleGateway} {
		for _, state := range []cluster.State{cluster.StateJoining, cluster.StateActive, cluster.StateDraining} {
			counts[kind{role, state}] = 0
		}
	}
	for _, member := range c().Members {
		counts[kind{member.Role, member.State}]++
	}
	for k, n := range counts {
		metrics <- prometheus.MustNewConstMetric(clusterMembers, prometheus.GaugeValue, float64(n), string(k.role), string(k.state))
	}
}

// WatchCertificates adds when certificates end. files are PEM files by what they
// are of; they are read at each scrape, since they are replaced. One that cannot be
// read counts as ended.
func (m *Metrics) WatchCertificates(files map[string]string) {
	m.registry.MustRegister(certificateCollector(files))
}

type certificateCollector map[string]string

// Describe implements prometheus.Collector.
func (certificateCollector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- certificateExpires
}

// Collect implements prometheus.Collector.
func (c certificateCollector) Collect(metrics chan<- prometheus.Metric) {
	for of, file := range c {
		ends := 0.0
		if end, err := expiry(file); err == nil {
			ends = float64(end.Unix())
		}
		metrics <- prometheus.MustNewConstMetric(certificateExpires, prometheus.GaugeValue, ends, of)
	}
}

// expiry returns when the first certificate of a file ends.
func expiry(file string) (time.Time, error) {
	content, err := os.ReadFile(file) //nolint:gosec // the operator's own file
	if err != nil {
		return time.Time{}, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return time.Time{}, errors.New("no PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return certificate.NotAfter, nil
}
