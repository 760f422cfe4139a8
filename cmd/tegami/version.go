package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
)

type versionCommand struct {
	Output string `enum:"text,json" default:"text" help:"text or json."`
}

// version is what this program was built from.
type version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readVersion() version {
	v := version{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			v.Revision = setting.Value
		case "vcs.time":
			v.Time = setting.Value
		case "vcs.modified":
			v.Modified = setting.Value == "true"
		}
	}
	return v
}

func (c *versionCommand) Run(std streams) error {
	v := readVersion()
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(v)
	}
	std.printf("tegami %s", v.Version)
	if v.Revision != "" {
		std.printf(" (%.12s, %s)", v.Revision, v.Time)
	}
	std.printf(" %s %s\n", v.Go, v.Platform)
	return nil
}
