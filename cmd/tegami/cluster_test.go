package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestClusterStatusShowsThePlacement(t *testing.T) {
	var out, problems bytes.Buffer
	code := run(t.Context(), []string{
		"cluster", "status", "--set", "cluster.membership=static",
		"--set", "cluster.members=talk-1=10.0.0.1:7500,talk-2=10.0.0.2:7500",
	}, streams{strings.NewReader(""), &out, &problems})
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, problems.String())
	}
	for _, want := range []string{
		"talk-1  talk  active  12", "talk-2  talk  active  1", "256 shards at revision 1; the fullest member has 1.0", "10.0.0.2:7500",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}

func TestClusterStatusSaysThatNobodyIsThere(t *testing.T) {
	var out, problems bytes.Buffer
	code := run(t.Context(), []string{"cluster", "status", "--set", "cluster.membership=static"}, streams{strings.NewReader(""), &out, &problems})
	if code != 0 || !strings.Contains(out.String(), "256 without an owner: no talk node is active") {
		t.Errorf("exit code %d: %s%s", code, out.String(), problems.String())
	}
}
