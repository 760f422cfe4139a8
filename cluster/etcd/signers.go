package etcd

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// signer is a public key as it lies in etcd. Fields are added, never renamed.
type signer struct {
	Key   []byte `json:"key"`
	Until int64  `json:"until"` // seconds since 1970

	revision int64 // of etcd, at which it was put there
}

func decodeSigner(value []byte) (one signer, err error) {
	if err = json.Unmarshal(value, &one); err == nil && len(one.Key) != ed25519.PublicKeySize {
		err = fmt.Errorf("a key of %d bytes", len(one.Key))
	}
	return one, err
}

func (s signer) over(now time.Time) bool { return now.Unix() >= s.Until }

// PublishSigner has all gateways take the tokens that are signed with a key, until
// a time by which the last of them has expired. It outlives the process, which is
// to publish it again before. Keys whose time is over are removed.
func (o *Observer) PublishSigner(ctx context.Context, id string, public ed25519.PublicKey, until time.Time) error {
	value, err := json.Marshal(signer{Key: public, Until: until.Unix()})
	if err != nil {
		return wrapped("publish a key", err)
	}
	if _, err := o.client.Put(ctx, o.options.Prefix+signersKey+id, string(value)); err != nil {
		return wrapped("publish a key", err)
	}
	for other, one := range *o.signers.Load() {
		if other == id || !one.over(time.Now()) {
			continue
		}
		// It may have been published again, which is not seen here yet.
		key := o.options.Prefix + signersKey + other
		if _, err := o.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", one.revision)).
			Then(clientv3.OpDelete(key)).
			Commit(); err != nil {
			return wrapped("remove a key whose time is over", err)
		}
	}
	return nil
}

// Signer returns the public key with an id, if it was published and its time is not
// over.
func (o *Observer) Signer(id string) (public ed25519.PublicKey, ok bool) {
	one, ok := (*o.signers.Load())[id]
	if !ok || one.over(time.Now()) {
		return nil, false
	}
	return one.Key, true
}
