package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
)

// storesTag is the build tag of tests that need the servers of scripts/stack,
// which they start themselves.
const storesTag = "stores"

// storePackages finds the packages below root that have such tests, so that a
// new one is run without being listed anywhere.
func storePackages(root string) ([]string, error) {
	var found []string
	err := eachTestFile(root, func(directory string, source []byte) {
		if bytes.HasPrefix(source, []byte("//go:build "+storesTag+"\n")) {
			found = append(found, directory)
		}
	})
	slices.Sort(found)
	return slices.Compact(found), err
}

// withServers has what the servers of scripts/stack need installed before a
// suite whose tests start them.
func withServers(run func(context.Context, *console) error) func(context.Context, *console) error {
	return func(ctx context.Context, c *console) error {
		if err := c.command(ctx, nil, "scripts/requirements.sh", "redis", "kafka", "hbase", "etcd"); err != nil {
			return err
		}
		return run(ctx, c)
	}
}

// stores runs the tests on real servers, one package at a time: each starts
// servers of its own.
func stores(ctx context.Context, c *console) error {
	packages, err := storePackages(".")
	if err != nil {
		return err
	}
	if len(packages) == 0 {
		return errors.New("no test with the build tag " + storesTag + " found")
	}
	return c.goTest(ctx, ".", nil, []string{"-tags=" + storesTag, "-p=1", "-count=1", "-timeout=0"}, packages...)
}
