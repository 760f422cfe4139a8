// Package bridge is a behaviour between users and another service: it posts what
// users write to it, and sends users what the service posts to it.
//
// It posts {"id", "from", "text", "time"} to its URL (behaviours.hooks), at least
// once and in order, and takes {"to", "text"} at /behaviours/USER, once for each
// Tegami-Id. Both are signed (package hook).
package bridge

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tegami-im/tegami/actors/behaviour"
)

// Kind is the kind "bridge".
func Kind() *behaviour.Kind { return behaviour.New("bridge", bridge{}) }

// Posted is what the bridge posts.
type Posted struct {
	// ID is that of the message, in hexadecimal: the same whenever it is posted
	// again.
	ID   string    `json:"id"`
	From string    `json:"from"`
	Text string    `json:"text"`
	Time time.Time `json:"time"`
}

// Sent is what a service posts to the bridge.
type Sent struct {
	To   string `json:"to"`
	Text string `json:"text"`
}

type bridge struct{}

// Handle implements behaviour.Handler. A call that is none is passed over, with an
// error in the log.
func (bridge) Handle(c *behaviour.Context, _ *emptypb.Empty, event behaviour.Event) error {
	switch e := event.(type) {
	case *behaviour.Message:
		if e.Text() == "" {
			return nil
		}
		body, err := json.Marshal(Posted{ID: hex.EncodeToString([]byte(e.ID)), From: e.From, Text: e.Text(), Time: e.Time.UTC()})
		if err != nil {
			return err
		}
		c.Post(body)
	case *behaviour.Call:
		var sent Sent
		if err := json.Unmarshal(e.Body, &sent); err != nil {
			return fmt.Errorf("not what a bridge is sent: %w", err)
		}
		if sent.To != "" && sent.Text != "" {
			c.Send(sent.To, sent.Text)
		}
	}
	return nil
}
