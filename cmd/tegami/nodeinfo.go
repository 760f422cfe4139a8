package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/internal/fleet"
	"github.com/tegami-im/tegami/telemetry"
)

// nodeInfo answers what operators want to know of each node of a cluster.
func (s *service) nodeInfo(w http.ResponseWriter, _ *http.Request) {
	info := fleet.Info{
		Name: s.config.Cluster.Name, Role: cluster.RoleTalk, Version: readVersion().Version, Apply: mailbox.ApplyVersion,
		SigningKey: s.signingKey,
	}
	if s.storage == nil {
		info.Role = cluster.RoleGateway
	}
	info.Settings = fleet.Settings(s.config, info.Role)
	info.Time = time.Now()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(info)
}

// watch has the metrics tell what runs here, until when its certificates are good,
// and, in a cluster, who the members are.
func (s *service) watch(metrics *telemetry.Metrics, membership membersView) {
	metrics.WatchBuild(readVersion().Version, mailbox.ApplyVersion)
	certificates := map[string]string{}
	for of, file := range map[string]string{"cluster": s.config.Cluster.Cert, "clients": s.config.TLS.Cert} {
		if file != "" {
			certificates[of] = file
		}
	}
	metrics.WatchCertificates(certificates)
	if membership != nil {
		metrics.WatchMembers(membership.Snapshot)
	}
}

// adminAddress returns where operators reach a node; empty where that cannot be
// known.
func adminAddress(c *config.Config) string {
	if c.Admin.Advertise != "" {
		return c.Admin.Advertise
	}
	host, port, err := net.SplitHostPort(c.Admin.Listen)
	if err != nil || port == "0" {
		return ""
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		return c.Admin.Listen
	}
	// On every address of the machine: where other nodes reach it, operators do.
	for _, address := range []string{c.Cluster.Advertise, c.Cluster.Listen} {
		if host, _, err := net.SplitHostPort(address); err == nil {
			return net.JoinHostPort(host, port)
		}
	}
	return ""
}
