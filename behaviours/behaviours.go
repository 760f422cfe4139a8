// Package behaviours has the kinds of behaviours that the server is built with.
// A new one is entered here.
package behaviours

import (
	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/behaviours/bridge"
	"github.com/tegami-im/tegami/behaviours/echo"
	"github.com/tegami-im/tegami/behaviours/poll"
	"github.com/tegami-im/tegami/behaviours/reminder"
)

// Kinds returns all kinds.
func Kinds() (behaviour.Registry, error) {
	return behaviour.Register(
		bridge.Kind(),
		echo.Kind(),
		poll.Kind(),
		reminder.Kind(),
	)
}
