package persisttest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/tegami-im/tegami/persistence"
)

// Rule is one of the rules that tie apply, journal and store together. A set
// of rules is written with |.
type Rule uint16

// The rules of package persistence, and of those who append and answer.
const (
	// RowsBeforeState: a state is stored only with or after its rows.
	RowsBeforeState Rule = 1 << iota
	// DedupBeforeState: and its dedup entries.
	DedupBeforeState
	// FollowUpsBeforeState: a state is stored only when the follow-ups of its
	// records are durable in their own journals.
	FollowUpsBeforeState
	// FollowUpsConfirmed: a follow-up is durable when its append was
	// confirmed, not when it was sent.
	FollowUpsConfirmed
	// FollowUpsInOrder: for one target nothing is sent before what precedes it
	// is confirmed.
	FollowUpsInOrder
	// AnswerAfterCopy: a send is answered when the sender's copy is durable.
	AnswerAfterCopy
	// PassivateStored: a mailbox is let go of only when all it applied is
	// stored.
	PassivateStored
	// BringForward: a mailbox that is loaded again is brought forward from the
	// journal to where it was.
	BringForward
	// SyncBeforeStore: what is stored is synced in the journal first.
	SyncBeforeStore
	// SyncCoversFollowUps: and its follow-ups are, in theirs.
	SyncCoversFollowUps
	// TruncateBelowSynced: the journal is truncated only below a checkpoint
	// that was read back from the synced store.
	TruncateBelowSynced

	lastRule
)

// Rules are all of them, in the order of their declaration.
func Rules() []Rule {
	var rules []Rule
	for r := Rule(1); r < lastRule; r <<= 1 {
		rules = append(rules, r)
	}
	return rules
}

var ruleNames = [...]string{
	"rows before state", "dedup entries before state", "follow-ups before state", "follow-ups count when confirmed",
	"follow-ups in order", "answer after the sender's copy", "passivate only what is stored",
	"bring a loaded mailbox forward", "sync the journal before the store", "sync covers the follow-ups",
	"truncate below a synced checkpoint",
}

// String names the rules of a set.
func (r Rule) String() string {
	var names []string
	for i, rule := range Rules() {
		if r&rule != 0 {
			names = append(names, ruleNames[i])
		}
	}
	return strings.Join(names, ", ")
}

// Model drives the real apply, a journal and a store through a random
// interleaving of all that may happen between them: two live owners of the
// same shards, write-behind in any order, follow-ups over a network that loses
// messages and mixes them up, mailboxes that fail or are passivated, owners
// that are killed, power cuts. Clients send, and send again.
//
// The steps are a function of the seed, and so is the outcome as far as the
// journal and the store let it be. It is the sibling of a hundred lines that
// explored the same rules before there was code to drive.
type Model struct {
	// Open returns an empty journal and store.
	Open func() *ModelStorage
	// Without are rules that are not kept.
	Without Rule
	// PowerCuts has the power cut now and then.
	PowerCuts bool
}

// ModelStorage is what a model runs on.
type ModelStorage struct {
	Journal    persistence.Journal
	Store      persistence.Store
	Durability persistence.Durability
	// Crash cuts the power and opens what that left.
	Crash func() *ModelStorage
	// Close ends both.
	Close func()
}

// Tally counts what a run did, to tell a run that proves something from one
// that does not.
type Tally struct {
	// Answered are the messages that were answered before all died at the end,
	// AnsweredAgain the answers to what was sent again.
	Answered, AnsweredAgain int
	// Skipped are the records that an owner met in a state that was past them,
	// LookedUp those whose dedup key was looked up in the store.
	Skipped, LookedUp int
}

// Violation is what a run found wrong.
type Violation struct {
	Seed uint64
	What string
}

// Error says what is wrong, and with which seed.
func (v *Violation) Error() string { return fmt.Sprintf("seed %d: %s", v.Seed, v.What) }

const (
	modelShards = 2
	modelOwners = 2
	modelSteps  = 400
	// modelSends and modelRetries bound the clients of one run.
	modelSends   = 14
	modelRetries = 12
)

// modelUsers live in the shard of their index, modulo modelShards.
var modelUsers = [...]string{"ann", "ben", "cat", "dan"}

func modelShardOf(user string) uint32 {
	return uint32(max(0, slices.Index(modelUsers[:], user)) % modelShards)
}

// Run does one run. Error: *Violation, or what the journal or store failed
// with.
func (m Model) Run(seed uint64) (Tally, error) {
	w := &world{
		Model:   m,
		rng:     rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // repeatable
		storage: m.Open(),
		seed:    seed,
		shown:   map[revision]string{},
	}
	defer func() { w.storage.Close() }()
	for i := range modelOwners {
		w.owners = append(w.owners, &owner{world: w, id: i})
	}
	for _, o := range w.owners {
		o.open()
	}
	for _, user := range modelUsers {
		w.owners[0].append(modelShardOf(user), []modelRecord{newAccount(user)})
	}
	w.check("sync journal", w.storage.Journal.Sync(background)) // no power cut undoes the accounts
	for step := range modelSteps {
		w.clock = step
		w.step()
		if w.err != nil {
			return w.tally, w.err
		}
	}
	tally := w.tally
	w.finish()
	return tally, w.err
}

// world is one run: the storage, the owners, the network between them, and
// what the clients saw.
type world struct {
	Model
	seed    uint64
	rng     *rand.Rand
	clock   int // steps so far
	storage *ModelStorage
	owners  []*owner
	network []func() // messages under way
	clients
	// log mirrors the journals, truncated or not.
	log [modelShards][]persistence.Entry
	// shown are the operations that readers saw.
	shown map[revision]string
	tally Tally
	err   error
}

type revision struct {
	user     string
	revision int64
}

// keeps reports whether a rule is kept in this run.
func (w *world) keeps(r Rule) bool { return w.Without&r == 0 }

// violate records the first thing that goes wrong.
func (w *world) violate(format string, args ...any) {
	if w.err == nil {
		w.err = &Violation{Seed: w.seed, What: fmt.Sprintf(format, args...)}
	}
}

// check records an error of journal or store, and reports whether there was
// none.
func (w *world) check(doing string, err error) bool {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("seed %d: %s: %w", w.seed, doing, err)
	}
	return err == nil
}

// chance is true in n of 1,000 cases.
func (w *world) chance(n int) bool { return w.rng.IntN(1000) < n }

// step lets one thing happen.
func (w *world) step() {
	o := w.owners[w.rng.IntN(modelOwners)]
	shard := uint32(w.rng.IntN(modelShards))
	switch n := w.rng.IntN(1000); {
	case n < 100:
		w.send(o)
	case n < 160:
		w.sendAgain(o)
	case n < 460:
		for range 1 + w.rng.IntN(6) {
			o.apply(shard)
		}
	case n < 600:
		o.write(shard)
	case n < 720:
		o.follow(shard)
	case n < 900:
		for range 1 + w.rng.IntN(4) {
			w.deliver()
		}
	case n < 930:
		o.passivate()
	case n < 945:
		o.failMailbox()
	case n < 960:
		w.check("sync store", w.storage.Store.Sync(background))
		if w.PowerCuts && w.chance(300) {
			w.cutPower() // when the store is furthest ahead of the journal
		}
	case n < 975:
		o.truncate(shard)
	case n < 985:
		w.mirror()
		o.open() // it was killed
	default:
		if w.storage.Durability == persistence.DurabilityOS {
			w.check("sync journal", w.storage.Journal.Sync(background))
		}
	}
}

// post puts a message under way.
func (w *world) post(arrive func()) { w.network = append(w.network, arrive) }

// deliver has any message arrive, or get lost.
func (w *world) deliver() {
	if len(w.network) == 0 {
		return
	}
	i := w.rng.IntN(len(w.network))
	arrive := w.network[i]
	w.network = append(w.network[:i], w.network[i+1:]...)
	if !w.chance(100) {
		arrive()
	}
}

// mirror reads what the journals have got since.
func (w *world) mirror() {
	for shard := range w.log {
		for {
			next := int64(len(w.log[shard]))
			entries, err := w.storage.Journal.Read(background, uint32(shard), next, 1<<20)
			if !w.check("read journal", err) || len(entries) == 0 {
				break
			}
			w.log[shard] = append(w.log[shard], entries...)
		}
	}
}

// cutPower cuts the power. With durability os the unsynced tails of the
// journals are gone, and what was answered because of them; what is sent
// afterwards must be safe all the same.
func (w *world) cutPower() {
	w.mirror()
	w.storage = w.storage.Crash()
	for shard := range w.log {
		bounds, err := w.storage.Journal.Bounds(background, uint32(shard))
		if !w.check("journal bounds", err) {
			return
		}
		if lost := int64(len(w.log[shard])) - bounds.Next; lost > 0 {
			if w.storage.Durability == persistence.DurabilityFsync {
				w.violate("the journal of shard %d lost %d durable records", shard, lost)
			}
			w.log[shard] = w.log[shard][:bounds.Next]
		}
	}
	w.network = nil
	if w.storage.Durability == persistence.DurabilityOS {
		w.forgetUnsynced()
	}
	for _, o := range w.owners {
		o.open()
	}
}

// finish has everything die once more and one owner take over. All clients ask
// again. When the owner has come to rest, the whole is checked.
func (w *world) finish() {
	w.mirror()
	w.network = nil
	o := w.owners[0]
	o.open()
	for _, m := range w.messages {
		w.attempt(o, m, body)
	}
	for range 1000 {
		for shard := range uint32(modelShards) {
			o.apply(shard)
			o.write(shard)
			o.follow(shard)
		}
		for len(w.network) > 0 {
			arrive := w.network[0]
			w.network = w.network[1:]
			arrive()
		}
		if w.err != nil {
			return
		}
		if o.atRest() {
			w.mirror()
			w.judge()
			return
		}
	}
	w.violate("an owner does not come to rest")
}
