//go:build stores

package redis_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/redis"
)

// startCluster starts three masters.
func startCluster(t *testing.T) []*server {
	t.Helper()
	ctx := t.Context()
	slots := [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}}
	servers := make([]*server, len(slots))
	admins := make([]*goredis.Client, len(slots))
	for i := range servers {
		// A master that is down takes its own slots with it, not all of them.
		servers[i] = startServer(t, "--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "2000")
		admins[i] = servers[i].admin()
		check(t, admins[i].ClusterAddSlotsRange(ctx, slots[i][0], slots[i][1]).Err())
		check(t, admins[i].Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
	}
	for _, other := range servers[1:] {
		check(t, admins[0].ClusterMeet(ctx, "127.0.0.1", other.port()).Err())
	}
	for _, admin := range admins {
		eventually(t, "the cluster comes together", func(ctx context.Context) error {
			info, err := admin.ClusterInfo(ctx).Result()
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3") || !strings.Contains(info, "cluster_slots_ok:16384")) {
				err = errors.New(info)
			}
			return err
		})
	}
	return servers
}

func TestClusterWithoutOneMaster(t *testing.T) {
	servers := startCluster(t)
	c := open(t, redis.Options{Cluster: true, Breaker: redis.BreakerOptions{MaxPause: 200 * time.Millisecond}}, servers...)
	ctx := testContext(t)
	const shards = 12
	marks := make([]persistence.CacheMark, shards)
	for shard := range marks {
		var err error
		marks[shard], err = c.Begin(ctx, uint32(shard), at(1))
		check(t, err)
	}
	servers[1].kill()
	up, down := 0, 0
	for round := range 3 {
		up, down = 0, 0
		for shard := range marks {
			mark, err := c.Write(ctx, uint32(shard), marks[shard], at(int64(round)+2), batch("a", int64(round)+2))
			switch {
			case err == nil:
				marks[shard] = mark
				up++
			case errors.Is(err, redis.ErrUnavailable):
				down++
			default:
				t.Fatalf("shard %d: %v", shard, err)
			}
		}
	}
	t.Logf("%d shards are served, %d are not", up, down)
	if up == 0 || down == 0 {
		t.Fatalf("of %d shards %d are served and %d are not", shards, up, down)
	}
	servers[1].restart() // with its part of the map, without data
	for shard := range marks {
		eventually(t, "the cluster is whole again", func(ctx context.Context) error {
			_, err := c.Begin(ctx, uint32(shard), at(9))
			return err
		})
	}
}
