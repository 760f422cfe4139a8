package config

import (
	"fmt"
	"strings"
)

// Example returns a YAML file with every key, commented out at its default.
func Example() string {
	var b strings.Builder
	b.WriteString("# Configuration of a Tegami server. Every key is shown with its default.\n" +
		"# Later wins: this file, then the environment (TEGAMI_SERVER_LISTEN), then flags.\n")
	for _, section := range sections {
		b.WriteString("\n")
		comment(&b, "", section.Doc)
		fmt.Fprintf(&b, "%s:\n", section.Name)
		for _, key := range section.Keys {
			comment(&b, "  ", fmt.Sprintf("%s (%s)", key.Doc, key.Type))
			fmt.Fprintf(&b, "  # %s: %s\n", key.short(), key.yamlDefault())
		}
	}
	return b.String()
}

// Markdown returns the body of docs/configuration.md: a table for each section.
func Markdown() string {
	var b strings.Builder
	for _, section := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", section.Name, section.Doc)
		b.WriteString("| key | type | default | environment |  |\n| --- | --- | --- | --- | --- |\n")
		for _, key := range section.Keys {
			fmt.Fprintf(&b, "| `%s` | %s | `%s` | `%s` | %s |\n",
				key.Name, strings.ReplaceAll(key.Type, "|", "\\|"), key.yamlDefault(), key.Env, key.Doc)
		}
	}
	return b.String()
}

// short returns the key's name within its section.
func (k Key) short() string {
	_, name, _ := strings.Cut(k.Name, ".")
	return name
}

func (k Key) yamlDefault() string {
	if k.Default == "" {
		return `""`
	}
	return k.Default
}

// comment writes text as lines of at most about 80 columns.
func comment(b *strings.Builder, indent, text string) {
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 80 {
			b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
