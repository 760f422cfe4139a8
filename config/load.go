package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Layers are what Load reads above the defaults.
type Layers struct {
	// File is a YAML file; empty for none.
	File string
	// Env is the environment, in the form of os.Environ. Empty variables count
	// as not set.
	Env []string
	// Flags are the keys that were set on the command line.
	Flags []Flag
}

// Flag is one key set on the command line.
type Flag struct {
	Key, Value string
	// Source is the flag as the user typed it: "--listen".
	Source string
}

// Loaded is a checked configuration.
type Loaded struct {
	Config
	// Warnings tell of environment variables that look like keys and are none.
	Warnings []string

	sources map[string]string
}

// Source tells where the value of a key came from: "default", a file with the
// line, an environment variable or a flag.
func (l *Loaded) Source(key string) string {
	if source, ok := l.sources[key]; ok {
		return source
	}
	return "default"
}

// Default returns the configuration that no layer changes.
func Default() Config {
	var c Config
	for _, section := range sections {
		for _, key := range section.Keys {
			_ = c.Set(key.Name, key.Default) // a test sets them all
		}
	}
	return c
}

// Load fills a configuration from all layers and validates it. Its error names
// the key and where it was set, and holds every mistake, one a line.
func Load(layers Layers) (*Loaded, error) {
	loaded := &Loaded{Config: Default(), sources: make(map[string]string)}
	var problems []error
	if layers.File != "" {
		content, err := os.ReadFile(layers.File)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("configuration file %s does not exist", layers.File)
		}
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		problems = append(problems, loaded.setYAML(layers.File, content)...)
	}
	problems = append(problems, loaded.setEnv(layers.Env)...)
	for _, flag := range layers.Flags {
		if err := loaded.set(flag.Key, flag.Value, "flag "+flag.Source); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) == 0 {
		for _, problem := range loaded.problems() {
			problems = append(problems, loaded.locate(problem))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return loaded, nil
}

// locate says where a value at fault was set.
func (l *Loaded) locate(p problem) error {
	if source, ok := l.sources[p.key]; ok {
		return fmt.Errorf("%s: %w", source, p)
	}
	return p
}

// set sets a key and remembers where the value came from.
func (l *Loaded) set(name, value, source string) error {
	if err := l.Set(name, value); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	l.sources[name] = source
	return nil
}

// setEnv reads the variables of all keys. One that begins with a section's
// prefix and is no key is a warning rather than an error: container platforms
// put variables named after services into every process (TEGAMI_ADMIN_PORT).
func (l *Loaded) setEnv(environ []string) []error {
	values := make(map[string]string, len(environ))
	for _, variable := range environ {
		if name, value, _ := strings.Cut(variable, "="); value != "" {
			values[name] = value
		}
	}
	var problems []error
	known := make(map[string]bool)
	for _, section := range sections {
		for _, key := range section.Keys {
			known[key.Env] = true
			if value, ok := values[key.Env]; ok {
				if err := l.set(key.Name, value, key.Env); err != nil {
					problems = append(problems, err)
				}
			}
		}
	}
	known[adminTokenVariable] = true
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if looksLikeKey(name) && !known[name] {
			l.Warnings = append(l.Warnings, name+" is set, but no key has that name")
		}
	}
	return problems
}

// adminTokenVariable is for commands that make admin calls.
const adminTokenVariable = "TEGAMI_ADMIN_TOKEN" //nolint:gosec // the name, not the token

func looksLikeKey(variable string) bool {
	for _, section := range sections {
		if strings.HasPrefix(variable, EnvPrefix+strings.ToUpper(section.Name)+"_") {
			return true
		}
	}
	return false
}
