// Package fleet looks at the nodes of a cluster from outside: what each says of
// itself on its admin listener, how it is placed, and what is busy in it.
package fleet

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/config"
)

// Paths on the admin listener of a node.
const (
	// InfoPath answers with an Info. It needs no token.
	InfoPath = "/admin/node"
	// BusyPath answers with a heat.Busy. It names users, so it needs the token.
	BusyPath = "/admin/busy"
)

// Info is what a node says of itself. Fields are added, never renamed: other
// versions read them.
type Info struct {
	Name    string       `json:"name"`
	Role    cluster.Role `json:"role"`
	Version string       `json:"version"`
	Apply   uint32       `json:"apply"`
	// Time is what its clock shows.
	Time time.Time `json:"time"`
	// SigningKey is the fingerprint of the key that signs sessions; empty where
	// there is none.
	SigningKey string `json:"signingKey,omitempty"`
	// Settings are those keys of the configuration that nodes have to agree on.
	Settings map[string]string `json:"settings"`
}

// Keys on which nodes have to agree: all of them, and those on one store. Of the
// last, different values may mean the same.
var (
	everyone = []string{"data.shards", "cluster.etcd_prefix", "cluster.lease"}
	onStore  = []string{
		"store.kind", "kafka.topic", "hbase.root", "hbase.prefix", "events.enabled", "events.topic",
		"retention.age", "retention.operations",
	}
	addresses = []string{"kafka.brokers", "hbase.zookeeper", "redis.addresses", "redis.prefix"}
)

// MayDiffer reports whether different values of a key may mean the same.
func MayDiffer(key string) bool { return slices.Contains(addresses, key) }

// Settings returns what nodes have to agree on of the configuration of one with
// a role.
func Settings(c *config.Config, role cluster.Role) map[string]string {
	settings := map[string]string{}
	for _, key := range everyone {
		settings[key] = c.Get(key)
	}
	if role == cluster.RoleGateway {
		return settings
	}
	for _, keys := range [][]string{onStore, addresses} {
		for _, key := range keys {
			settings[key] = c.Get(key)
		}
	}
	return settings
}

// Fingerprint tells keys apart without showing them.
func Fingerprint(key ed25519.PrivateKey) string {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return ""
	}
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}
