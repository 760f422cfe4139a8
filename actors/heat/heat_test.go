package heat

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestTheWindowBeforeIsShown(t *testing.T) {
	c := new(Counter)
	for range 3 {
		c.Write("alice", begin)
	}
	c.Read("bob", begin.Add(time.Second))
	if shard, _ := c.Last(7, begin.Add(2*time.Second)); shard != (Shard{Shard: 7}) {
		t.Errorf("before the window is over it shows %+v", shard)
	}
	shard, mailboxes := c.Last(7, begin.Add(Window))
	if want := (Shard{Shard: 7, Writes: 3, Reads: 1}); shard != want {
		t.Errorf("counted %+v, want %+v", shard, want)
	}
	want := []Mailbox{{Name: "alice", Shard: 7, Count: 3}, {Name: "bob", Shard: 7, Count: 1}}
	if diff := cmp.Diff(want, mailboxes); diff != "" {
		t.Errorf("mailboxes (-want +got):\n%s", diff)
	}
	if shard, _ := c.Last(7, begin.Add(4*Window)); shard.Writes != 0 {
		t.Errorf("a window in which nobody asked shows %+v", shard)
	}
}

// Whoever gets more than one in Mailboxes is found, and no count is too low nor,
// without what it may have taken over, too high.
func TestHeavyMailboxesAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := map[string]int64{}
		c := new(Counter)
		asked := rapid.SliceOfN(rapid.IntRange(0, 200), 1, 3000).Draw(t, "mailboxes")
		heavy := rapid.IntRange(0, 5).Draw(t, "heavy")
		for i, n := range asked {
			if i%3 == 0 {
				n = heavy
			}
			name := fmt.Sprint("user", n)
			truth[name]++
			c.Write(name, begin)
		}
		shard, found := c.Last(0, begin.Add(Window))
		counted := map[string]Mailbox{}
		for _, m := range found {
			counted[m.Name] = m
			if m.Count < truth[m.Name] || m.Count-m.Over > truth[m.Name] {
				t.Fatalf("%+v, asked %d times", m, truth[m.Name])
			}
		}
		for name, n := range truth {
			if _, ok := counted[name]; !ok && n*Mailboxes > shard.Writes {
				t.Fatalf("%s was asked %d of %d times and is not found", name, n, shard.Writes)
			}
		}
		if len(found) > Mailboxes {
			t.Fatalf("%d mailboxes are counted", len(found))
		}
	})
}

func TestTopKeepsTheBusiest(t *testing.T) {
	b := Busy{
		Shards:    []Shard{{Shard: 1, Reads: 2}, {Shard: 2}, {Shard: 3, Writes: 5}, {Shard: 4, Writes: 1}},
		Mailboxes: []Mailbox{{Name: "taken", Count: 9, Over: 8}, {Name: "true", Count: 5}, {Name: "few", Count: 1}},
	}
	b.Top(2)
	want := Busy{
		Shards:    []Shard{{Shard: 3, Writes: 5}, {Shard: 1, Reads: 2}},
		Mailboxes: []Mailbox{{Name: "true", Count: 5}, {Name: "few", Count: 1}},
	}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func BenchmarkWrite(b *testing.B) {
	c, names := new(Counter), make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprint("user-", i)
	}
	for i := 0; b.Loop(); i++ {
		c.Write(names[i%len(names)], begin)
	}
}
