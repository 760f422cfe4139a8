package hbase

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/persistence"
)

// names are prefixes of each other and bytes that mean something in keys.
var names = rapid.OneOf(
	rapid.SampledFrom([]string{"", "a", "aa", "a\x00", "a\x01", "a\xff", "\x00", "\x00\x00", "\x02", "\xff", strings.Repeat("n", 127), strings.Repeat("n", 128), strings.Repeat("n", 300)}),
	rapid.StringN(0, 12, 40),
)

func TestVersionsOrderAsPositions(t *testing.T) {
	position := rapid.Custom(func(t *rapid.T) persistence.Position {
		return persistence.Position{
			Generation: rapid.Uint32Range(0, maxGeneration).Draw(t, "generation"),
			Offset:     rapid.Int64Range(0, maxOffset).Draw(t, "offset"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		p, q := position.Draw(t, "p"), position.Draw(t, "q")
		versionP, errP := versionOf(p)
		versionQ, errQ := versionOf(q)
		if errP != nil || errQ != nil {
			t.Fatal(errP, errQ)
		}
		if p.Less(q) != (versionP < versionQ) || (p == q) != (versionP == versionQ) {
			t.Fatalf("positions %v and %v have the versions %x and %x", p, q, versionP, versionQ)
		}
		if versionP >= maxVersion || versionQ >= maxVersion {
			t.Fatalf("versions %x and %x are not below %x", versionP, versionQ, maxVersion)
		}
	})
}

func TestVersionsEndBeforeNow(t *testing.T) {
	const latest = math.MaxInt64 // means "now" to HBase
	if maxVersion >= latest {
		t.Fatalf("the highest version is %x", maxVersion)
	}
	for _, p := range []persistence.Position{
		{Generation: maxGeneration + 1},
		{Generation: math.MaxUint32, Offset: math.MaxInt64},
		{Generation: 1, Offset: maxOffset + 1},
		{Generation: 1, Offset: -1},
	} {
		if version, err := versionOf(p); err == nil {
			t.Errorf("position %v has the version %x", p, version)
		}
		if version := sourceVersion(p); version != maxVersion {
			t.Errorf("a source at %v has the version %x", p, version)
		}
	}
	if version, err := versionOf(persistence.Position{}); version != 0 || err != nil {
		t.Errorf("the zero position has the version %x, error %v", version, err)
	}
}

// TestRowsOfAMailboxLieTogether: a row key begins with a mailbox's prefix if
// and only if it is that mailbox's.
func TestRowsOfAMailboxLieTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shard, other := rapid.Uint32Range(0, maxShards).Draw(t, "shard"), rapid.Uint32Range(0, maxShards).Draw(t, "other")
		a, b, peer := names.Draw(t, "a"), names.Draw(t, "b"), names.Draw(t, "peer")
		revision := rapid.Int64Range(0, math.MaxInt64).Draw(t, "revision")
		hour := rapid.Int64Range(0, math.MaxUint32).Draw(t, "hour")
		same := shard == other && a == b
		prefix := mailboxPrefix(shard, a)
		for kind, row := range map[string][]byte{
			"state":        stateRow(other, b),
			"dedup":        dedupRow(other, b, hour),
			"operation":    revisionRow(other, b, uint64(revision)),
			"conversation": conversationRow(other, b, peer, revision),
		} {
			if bytes.HasPrefix(row, prefix) != same {
				t.Fatalf("the %s row %x of %q in shard %d and the prefix %x of %q in shard %d", kind, row, b, other, prefix, a, shard)
			}
		}
		if !bytes.HasPrefix(shardRow(shard, kindBarrier), []byte{byte(shard >> 8), byte(shard)}) || bytes.HasPrefix(schemaRow, shardRow(min(shard, maxShards-1), kindMarks)[:2]) {
			t.Fatal("rows of a shard do not lie together")
		}
	})
}

func TestConversationsOfPeersLieApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peer, other := names.Draw(t, "peer"), names.Draw(t, "other")
		revision := rapid.Int64Range(1, math.MaxInt64).Draw(t, "revision")
		row := conversationRow(1, "a", other, revision)
		inside := bytes.Compare(row, conversationRow(1, "a", peer, math.MaxInt64)) >= 0 && bytes.Compare(row, conversationRow(1, "a", peer, 0)) < 0
		if inside != (peer == other) {
			t.Fatalf("revision %d with %q lies in the conversation with %q: %v", revision, other, peer, inside)
		}
	})
}

func TestRowsLieInTheirOrder(t *testing.T) {
	numbers := rapid.Int64Range(0, math.MaxInt64)
	rapid.Check(t, func(t *rapid.T) {
		a, b := numbers.Draw(t, "a"), numbers.Draw(t, "b")
		if got := bytes.Compare(revisionRow(1, "m", uint64(a)), revisionRow(1, "m", uint64(b))); got != cmp.Compare(a, b) {
			t.Fatalf("operations %d and %d compare as %d", a, b, got)
		}
		if got := bytes.Compare(conversationRow(1, "m", "p", a), conversationRow(1, "m", "p", b)); got != cmp.Compare(b, a) {
			t.Fatalf("conversation's %d and %d compare as %d", a, b, got)
		}
		a, b = min(a, math.MaxUint32), min(b, math.MaxUint32)
		if got := bytes.Compare(dedupRow(1, "m", a), dedupRow(1, "m", b)); got != cmp.Compare(b, a) {
			t.Fatalf("hours %d and %d compare as %d", a, b, got)
		}
		if bytes.Compare(stateRow(1, "m"), dedupRow(1, "m", a)) >= 0 || bytes.Compare(dedupRow(1, "m", a), dedupRow(1, "m", -1)) >= 0 {
			t.Fatalf("hour %d lies outside of its mailbox's hours", a)
		}
		if revision, err := revisionOfRow(revisionRow(1, "m", uint64(b))); err != nil || revision != b {
			t.Fatalf("operation %d reads as %d, error %v", b, revision, err)
		}
		if revision, err := revisionOfConversationRow(conversationRow(1, "m", "p", b)); err != nil || revision != b {
			t.Fatalf("conversation's %d reads as %d, error %v", b, revision, err)
		}
		if hour, err := hourOfRow(dedupRow(1, "m", b)); err != nil || hour != b {
			t.Fatalf("hour %d reads as %d, error %v", b, hour, err)
		}
	})
	if bytes.Compare(revisionRow(1, "m", uint64(math.MaxInt64)+1), revisionRow(1, "m", math.MaxInt64)) <= 0 {
		t.Fatal("nothing lies above the highest revision")
	}
}

func TestShardsAreSplitEvenly(t *testing.T) {
	for _, test := range []struct{ shards, regions int }{{1, 1}, {8, 4}, {8, 8}, {256, 16}, {7, 3}, {maxShards, 100}} {
		splits := shardSplits(test.shards, test.regions)
		if len(splits) != test.regions-1 || !slices.IsSortedFunc(splits, bytes.Compare) {
			t.Errorf("%+v: splits %x", test, splits)
		}
		perRegion := make([]int, test.regions)
		for shard := range test.shards {
			row := shardRow(uint32(shard), kindMailbox)
			region := 0
			for region < len(splits) && bytes.Compare(splits[region], row) <= 0 {
				region++
			}
			perRegion[region]++
		}
		if least, most := slices.Min(perRegion), slices.Max(perRegion); most-least > 1 {
			t.Errorf("%+v: regions have from %d to %d shards", test, least, most)
		}
		keys := keySplits(test.regions)
		if len(keys) != test.regions-1 || !slices.IsSortedFunc(keys, bytes.Compare) {
			t.Errorf("%+v: splits of keys %x", test, keys)
		}
	}
}

func TestKeysAreSpread(t *testing.T) {
	const regions, mailboxes = 16, 16_000
	splits := keySplits(regions)
	perRegion := make([]int, regions)
	for i := range mailboxes {
		row := keyRow(fmt.Sprintf("user%d", i))
		region := 0
		for region < len(splits) && bytes.Compare(splits[region], row) <= 0 {
			region++
		}
		perRegion[region]++
	}
	if most := slices.Max(perRegion); most > 2*mailboxes/regions {
		t.Errorf("regions have %v of %d keys", perRegion, mailboxes)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add([]byte("0123456789"), encodeDedup(&persistence.DedupEntry{Time: 5, Position: persistence.Position{Generation: 1, Offset: 2}}))
	f.Add(revisionRow(3, "mailbox", 7), encodeOperation(&persistence.Row{Peer: "peer", Data: []byte("data")}))
	f.Add(keyRow("mailbox"), keyValue{changes: 1, key: &persistence.Key{1}}.encode())
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if entry, err := decodeDedup(key, value); err == nil {
			if !bytes.Equal(encodeDedup(&entry), value) || !bytes.Equal(entry.Key[:], key) {
				t.Errorf("the entry %x %x reads as %+v", key, value, entry)
			}
		} else if !errors.Is(err, persistence.ErrDamaged) {
			t.Errorf("the entry %x %x fails with %v", key, value, err)
		}
		if peer, data, err := decodeOperation(value); err == nil {
			row := persistence.Row{Peer: string(peer), Data: data}
			peer2, data2, err := decodeOperation(encodeOperation(&row))
			if err != nil || !bytes.Equal(peer, peer2) || !bytes.Equal(data, data2) {
				t.Errorf("the operation %x reads as %+v", value, row)
			}
		} else if !errors.Is(err, persistence.ErrDamaged) {
			t.Errorf("the operation %x fails with %v", value, err)
		}
		if p, err := decodePosition(value); err == nil && !bytes.Equal(encodePosition(p), value) {
			t.Errorf("the position %x reads as %v", value, p)
		}
		if n, err := decodeNumber(value); err == nil && !bytes.Equal(encodeNumber(n), value) {
			t.Errorf("the number %x reads as %d", value, n)
		}
		if v, err := decodeKeyValue(value); err == nil && !bytes.Equal(v.encode(), value) {
			t.Errorf("the key %x reads as %+v", value, v)
		}
		_, _ = hourOfRow(key)
		_, _ = revisionOfRow(key)
		_, _ = revisionOfConversationRow(key)
	})
}
