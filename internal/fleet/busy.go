package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/tegami-im/tegami/actors/heat"
	"github.com/tegami-im/tegami/cluster"
)

// Top is what was busiest on all talk nodes, the busiest first.
type Top struct {
	// Seconds is over how long was counted.
	Seconds   float64        `json:"seconds"`
	Shards    []Shard        `json:"shards"`
	Mailboxes []heat.Mailbox `json:"mailboxes"`
}

// Shard is a shard and the node that counted for it.
type Shard struct {
	heat.Shard
	Node string `json:"node"`
}

// Busiest asks all talk nodes at a time for the busiest n shards and mailboxes.
// The errors are of those that do not answer.
func Busiest(ctx context.Context, client *http.Client, token string, n int, members []cluster.Member) (Top, []error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var (
		asking sync.WaitGroup
		mu     sync.Mutex // guards the following
		all    heat.Busy
		nodes  = map[uint32]string{}
		failed []error
	)
	for _, member := range members {
		if member.Role != cluster.RoleTalk {
			continue
		}
		asking.Go(func() {
			busy, err := busyOf(ctx, client, token, n, member)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", member.Name, err))
				return
			}
			all.Seconds = busy.Seconds
			for _, s := range busy.Shards {
				nodes[s.Shard] = member.Name
			}
			all.Shards, all.Mailboxes = append(all.Shards, busy.Shards...), append(all.Mailboxes, busy.Mailboxes...)
		})
	}
	asking.Wait()
	all.Top(n)
	top := Top{Seconds: all.Seconds, Mailboxes: all.Mailboxes}
	for _, s := range all.Shards {
		top.Shards = append(top.Shards, Shard{s, nodes[s.Shard]})
	}
	return top, failed
}

func busyOf(ctx context.Context, client *http.Client, token string, n int, member cluster.Member) (busy heat.Busy, err error) {
	if member.Admin == "" {
		return busy, errNoAdmin
	}
	err = get(ctx, client, member.Admin, fmt.Sprintf("%s?n=%d", BusyPath, n), token, func(body io.Reader) error {
		return json.NewDecoder(body).Decode(&busy)
	})
	return busy, err
}
