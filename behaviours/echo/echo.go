// Package echo is a behaviour that answers every text with itself.
package echo

import (
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tegami-im/tegami/actors/behaviour"
)

// Kind is the kind "echo".
func Kind() *behaviour.Kind { return behaviour.New("echo", bot{}) }

// bot remembers nothing.
type bot struct{}

// Handle implements behaviour.Handler.
func (bot) Handle(c *behaviour.Context, _ *emptypb.Empty, event behaviour.Event) error {
	if m, ok := event.(*behaviour.Message); ok && m.Text() != "" {
		c.Send(m.From, m.Text())
	}
	return nil
}
