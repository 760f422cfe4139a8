package persisttest_test

import (
	"errors"
	"testing"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

var models = []struct {
	name  string
	model persisttest.Model
}{
	{"fsync", persisttest.Model{Open: inMemory(persistence.DurabilityFsync)}},
	{"fsync/power cuts", persisttest.Model{Open: inMemory(persistence.DurabilityFsync), PowerCuts: true}},
	{"os/power cuts", persisttest.Model{Open: inMemory(persistence.DurabilityOS), PowerCuts: true}},
}

// With all rules kept nothing goes wrong.
func TestModel(t *testing.T) {
	for _, c := range models {
		t.Run(c.name, func(t *testing.T) { c.model.NothingWrong(t, 1000) })
	}
}

// With any rule broken something does, soon: a model that found nothing then
// would prove nothing above.
func TestModelFindsBrokenRules(t *testing.T) {
	persisttest.FindsBrokenRules(t, 600, models[0].model, models[1].model, models[2].model)
}

func inMemory(durability persistence.Durability) func() *persisttest.ModelStorage {
	return func() *persisttest.ModelStorage {
		return storage(memory.NewJournal(durability), memory.NewStore(), durability)
	}
}

func storage(journal *memory.Journal, store *memory.Store, durability persistence.Durability) *persisttest.ModelStorage {
	return &persisttest.ModelStorage{
		Journal:    journal,
		Store:      store,
		Durability: durability,
		Crash:      func() *persisttest.ModelStorage { return storage(journal.Crash(), store.Crash(), durability) },
		Close:      func() { _ = errors.Join(journal.Close(), store.Close()) },
	}
}
