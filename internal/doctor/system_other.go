//go:build !linux

package doctor

import (
	"context"

	"github.com/tegami-im/tegami/config"
)

// What only Linux tells in the way that we know is not judged elsewhere.

func diskSpace(context.Context, *config.Config) Finding { return ok("not checked on this system") }

func openFiles(context.Context, *config.Config) Finding { return ok("not checked on this system") }

func clock(context.Context, *config.Config) Finding { return ok("not checked on this system") }

func volatile(string) bool { return false }
