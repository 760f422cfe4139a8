package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/persistence/embedded"
)

// The defaults of the configuration are those that the parts were measured
// with.
func TestDefaultsAreThoseOfTheParts(t *testing.T) {
	c := config.Default()
	if diff := cmp.Diff(shard.DefaultLimits(), nodeOptions(&c, &storage{}, nil).Limits); diff != "" {
		t.Error(diff)
	}
	if c.Data.Shards != embedded.DefaultShards {
		t.Errorf("%d shards, want %d", c.Data.Shards, embedded.DefaultShards)
	}
}
