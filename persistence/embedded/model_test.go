package embedded_test

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/embedded"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// The model, on a disk that loses power: of what was not synced it keeps any
// part.
func TestModel(t *testing.T) {
	for _, durability := range []persistence.Durability{persistence.DurabilityFsync, persistence.DurabilityOS} {
		t.Run(durability.String(), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			model := persisttest.Model{PowerCuts: true, Open: func() *persisttest.ModelStorage {
				return modelStorage(t, onCrashableDisk(durability), rng, func() {})
			}}
			model.NothingWrong(t, 30)
		})
	}
}

func modelStorage(t *testing.T, options embedded.Options, rng *rand.Rand, closeOlder func()) *persisttest.ModelStorage {
	t.Helper()
	options.Shards = persisttest.Shards
	s, err := embedded.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	closeAll := func() {
		_ = s.Close()
		closeOlder()
	}
	return &persisttest.ModelStorage{
		Journal:    s.Journal,
		Store:      s.Store,
		Durability: options.Durability,
		Crash: func() *persisttest.ModelStorage {
			// What has crashed lives on until the end, on a disk of its own.
			survivor := options
			survivor.FS = options.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			return modelStorage(t, survivor, rng, closeAll)
		},
		Close: closeAll,
	}
}
