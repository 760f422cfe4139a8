package doctor

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/tegami-im/tegami/config"
)

// dialLimit is how long a server may take to answer a connection.
const dialLimit = 2 * time.Second

// stores are the checks of what a hybrid store stands on.
func stores(c *config.Config) []check {
	if c.Store.Kind != config.StoreHybrid {
		return nil
	}
	servers := []check{
		{"kafka", func(ctx context.Context, c *config.Config) Finding {
			return reachable(ctx, c.Kafka.Brokers, "nothing can be sent", problem)
		}},
		{"hbase", func(ctx context.Context, c *config.Config) Finding {
			return reachable(ctx, c.HBase.ZooKeeper, "the server does not start before it does", problem)
		}},
	}
	if c.Redis.Addresses != "" {
		servers = append(servers, check{"redis", func(ctx context.Context, c *config.Config) Finding {
			return reachable(ctx, c.Redis.Addresses, "mailboxes that are not in memory are read from HBase", warning)
		}})
	}
	return servers
}

// reachable connects to each of some addresses, separated by commas. One that
// answers is enough.
func reachable(ctx context.Context, addresses, otherwise string, bad func(remedy, format string, args ...any) Finding) Finding {
	var answers, silent []string
	for address := range strings.SplitSeq(addresses, ",") {
		address = strings.TrimSpace(address)
		dialer := net.Dialer{Timeout: dialLimit}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			silent = append(silent, address)
			continue
		}
		_ = conn.Close()
		answers = append(answers, address)
	}
	switch {
	case len(silent) == 0:
		return ok("%s answers", strings.Join(answers, ", "))
	case len(answers) > 0:
		return warning("", "%s answers, %s does not", strings.Join(answers, ", "), strings.Join(silent, ", "))
	default:
		return bad("start it (make stack, on this machine), or correct the address", "%s does not answer: %s", strings.Join(silent, ", "), otherwise)
	}
}
