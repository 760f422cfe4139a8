//go:build stores

package redis_test

import (
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tegami-im/tegami/persistence/persisttest"
	"github.com/tegami-im/tegami/persistence/redis"
)

// instance is a cache on servers that a suite may empty and set back.
func instance(t testing.TB, options redis.Options, servers ...*server) *persisttest.CacheInstance {
	ctx := t.Context()
	admins := make([]*goredis.Client, len(servers))
	for i, s := range servers {
		admins[i] = s.admin()
		check(t, admins[i].FlushAll(ctx).Err())
	}
	empty := func() {
		for _, admin := range admins {
			check(t, admin.FlushAll(ctx).Err())
		}
	}
	return &persisttest.CacheInstance{
		Cache: open(t, options, servers...),
		Empty: empty,
		Snapshot: func() func() {
			var restores []func()
			for _, admin := range admins {
				all, err := keys(ctx, admin)
				check(t, err)
				for _, key := range all {
					dump, err := admin.Dump(ctx, key).Result()
					check(t, err)
					restores = append(restores, func() { check(t, admin.Restore(ctx, key, time.Hour, dump).Err()) })
				}
			}
			return func() {
				empty()
				for _, restore := range restores {
					restore()
				}
			}
		},
	}
}

func TestCache(t *testing.T) {
	s := startServer(t)
	persisttest.Cache(t, func(t *testing.T) *persisttest.CacheInstance { return instance(t, redis.Options{}, s) })
}

func TestCacheOnCluster(t *testing.T) {
	servers := startCluster(t)
	persisttest.Cache(t, func(t *testing.T) *persisttest.CacheInstance {
		return instance(t, redis.Options{Cluster: true}, servers...)
	})
}

func TestCacheModel(t *testing.T) {
	s := startServer(t)
	persisttest.CacheModel(t, func(t *testing.T) *persisttest.CacheInstance { return instance(t, redis.Options{}, s) })
}
