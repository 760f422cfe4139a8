package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Key declares one setting.
type Key struct {
	// Name is section and name: "server.listen".
	Name string
	// Env is the environment variable that sets it.
	Env string
	// Type is how a value is written: text, number, duration, size, or the words
	// that are accepted.
	Type string
	// Default is the value when no layer sets it.
	Default string
	// Doc says what it does.
	Doc string

	oneOf   []string
	section int
	field   int
}

// Section is a group of keys.
type Section struct {
	Name, Doc string
	Keys      []Key
}

// EnvPrefix begins the environment variables.
const EnvPrefix = "TEGAMI_"

// sections is the declaration of Config, read from its tags.
var sections = readSections()

// Sections returns every section in the order of Config, with its keys.
func Sections() []Section { return slices.Clone(sections) }

func readSections() []Section {
	var all []Section
	for i, sf := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		section := Section{Name: sf.Tag.Get("yaml"), Doc: sf.Tag.Get("doc")}
		for j, kf := range reflect.VisibleFields(sf.Type) {
			name := section.Name + "." + kf.Tag.Get("yaml")
			key := Key{
				Name:    name,
				Env:     EnvPrefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_")),
				Default: kf.Tag.Get("default"),
				Doc:     kf.Tag.Get("doc"),
				oneOf:   strings.Fields(kf.Tag.Get("oneof")),
				section: i,
				field:   j,
			}
			key.Type = typeName(kf.Type, key.oneOf)
			section.Keys = append(section.Keys, key)
		}
		all = append(all, section)
	}
	return all
}

// find returns the key of a name.
func find(name string) (Key, bool) {
	for _, section := range sections {
		for _, key := range section.Keys {
			if key.Name == name {
				return key, true
			}
		}
	}
	return Key{}, false
}

// Set gives one key a value as it is written in a file, a variable or a flag.
func (c *Config) Set(name, value string) error {
	key, ok := find(name)
	if !ok {
		return unknown(name)
	}
	if err := parse(c.field(key), key.oneOf, value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Get returns the value of a key as Set takes it; empty for an unknown key.
func (c *Config) Get(name string) string {
	key, ok := find(name)
	if !ok {
		return ""
	}
	return format(c.field(key))
}

func (c *Config) field(key Key) reflect.Value {
	return reflect.ValueOf(c).Elem().Field(key.section).Field(key.field)
}

// unknown names the nearest key, since most unknown keys are misspelt.
func unknown(name string) error {
	best, distance := "", 4
	for _, section := range sections {
		for _, key := range section.Keys {
			if d := editDistance(name, key.Name); d < distance {
				best, distance = key.Name, d
			}
		}
	}
	if best == "" {
		return fmt.Errorf("%s: no such key; tegami config --example lists them all", name)
	}
	return fmt.Errorf("%s: no such key; did you mean %s?", name, best)
}

// editDistance is Levenshtein's: how many letters to insert, remove or change.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
