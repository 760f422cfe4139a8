// Package behaviours has the kinds of behaviours that the server is built with.
// A new one is entered here.
package behaviours

import (
	"github.com/tegami-im/tegami/actors/behaviour"
	"github.com/tegami-im/tegami/behaviours/echo"
)

// Kinds returns all kinds.
func Kinds() (behaviour.Registry, error) {
	return behaviour.Register(
		echo.Kind(),
	)
}
