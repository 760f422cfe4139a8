package node

import (
	"context"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

// known is what a mailbox answered to a query.
type known struct {
	*record.Known
	Exists bool
	Head   int64
}

// query asks what a user's mailbox knows.
func (n *Node) query(ctx context.Context, user string, q *record.Query) (known, error) {
	if n.apply.Load() < mailbox.QuerySince(q) {
		return known{}, upgrading()
	}
	view, err := n.view(ctx, user, q)
	return known{Known: view.Known, Exists: view.Exists, Head: view.Head.Revision}, err
}

// orNotReady is the error of an answer that does not say what was asked.
func orNotReady(err error) error {
	if err == nil {
		err = refusal.After(refusal.NotReady, time.Second)
	}
	return err
}
