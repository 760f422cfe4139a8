package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrNoMember is returned for a member that there is not.
var ErrNoMember = errors.New("no such member")

// Drain has the talk node of a name give its shards up, in this run and in those
// to come, until Undrain.
func (o *Observer) Drain(ctx context.Context, name string) error {
	_, err := o.client.Put(ctx, o.options.Prefix+drainsKey+name, "")
	return wrapped("drain "+name, err)
}

// Undrain ends what Drain began. It does nothing where nothing was begun.
func (o *Observer) Undrain(ctx context.Context, name string) error {
	_, err := o.client.Delete(ctx, o.options.Prefix+drainsKey+name)
	return wrapped("undrain "+name, err)
}

// Move places a shard on the member with an id, until EndMoves or until that
// member is one no more. Error: ErrNoMember.
func (o *Observer) Move(ctx context.Context, shard uint32, id string) error {
	what := fmt.Sprintf("move shard %d to %s", shard, id)
	member, err := o.client.Get(ctx, o.key(id))
	if err != nil {
		return wrapped(what, err)
	}
	if len(member.Kvs) == 0 {
		return wrapped(what, ErrNoMember)
	}
	// It lies under the member's lease, and goes with it.
	lease := clientv3.LeaseID(member.Kvs[0].Lease)
	done, err := o.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(o.key(id)), ">", 0)).
		Then(clientv3.OpPut(o.moveKey(shard), id, clientv3.WithLease(lease))).
		Commit()
	if err == nil && !done.Succeeded {
		err = ErrNoMember
	}
	return wrapped(what, err)
}

// EndMoves places shards where they belong again.
func (o *Observer) EndMoves(ctx context.Context, shards ...uint32) error {
	for _, shard := range shards {
		if _, err := o.client.Delete(ctx, o.moveKey(shard)); err != nil {
			return wrapped(fmt.Sprintf("end the move of shard %d", shard), err)
		}
	}
	return nil
}

func (o *Observer) moveKey(shard uint32) string {
	return o.options.Prefix + movesKey + strconv.FormatUint(uint64(shard), 10)
}

func wrapped(what string, err error) error {
	if err != nil {
		return fmt.Errorf("etcd: %s: %w", what, err)
	}
	return nil
}
