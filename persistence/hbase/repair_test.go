//go:build stores

package hbase_test

import (
	"testing"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

func TestRepairer(t *testing.T) {
	persisttest.Repairer(t, func(t *testing.T) (persistence.Repairer, uint32) {
		s := openStore(t, optionsFor(t))
		return s, newShards(s).first
	})
}
