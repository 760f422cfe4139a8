package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size, written as a number with an optional unit: B, KiB, MiB or
// GiB.
type Bytes int64

var units = []struct {
	name string
	size Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String returns the size in the largest unit that divides it.
func (b Bytes) String() string {
	for _, unit := range units {
		if b != 0 && b%unit.size == 0 && unit.size > 1 {
			return strconv.FormatInt(int64(b/unit.size), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

func parseBytes(text string) (Bytes, error) {
	number, scale := text, Bytes(1)
	for _, unit := range units {
		if rest, found := strings.CutSuffix(text, unit.name); found {
			number, scale = rest, unit.size
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size such as 192KiB", text)
	}
	if size := Bytes(n) * scale; size/scale == Bytes(n) {
		return size, nil
	}
	return 0, fmt.Errorf("%q is too large", text)
}

// typeName says how a value of a field is written.
func typeName(t reflect.Type, oneOf []string) string {
	switch {
	case len(oneOf) > 0:
		return strings.Join(oneOf, " | ")
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t == reflect.TypeFor[Bytes]():
		return "size"
	case t.Kind() == reflect.Bool:
		return "true | false"
	case t.Kind() == reflect.String:
		return "text"
	default:
		return "number"
	}
}

// parse sets a field from text.
func parse(field reflect.Value, oneOf []string, text string) error {
	switch field.Interface().(type) {
	case string:
		if len(oneOf) > 0 && !slices.Contains(oneOf, text) {
			return fmt.Errorf("%q is not one of %s", text, strings.Join(oneOf, ", "))
		}
		field.SetString(text)
	case bool:
		switch text {
		case "true", "false":
			field.SetBool(text == "true")
		default:
			return fmt.Errorf("%q is neither true nor false", text)
		}
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 90s, 15m or 720h", text)
		}
		field.SetInt(int64(d))
	case Bytes:
		size, err := parseBytes(text)
		if err != nil {
			return err
		}
		field.SetInt(int64(size))
	default:
		n, err := strconv.ParseInt(text, 10, field.Type().Bits())
		if errors.Is(err, strconv.ErrRange) {
			return fmt.Errorf("%s is too large", text)
		}
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		field.SetInt(n)
	}
	return nil
}

// format is the inverse of parse.
func format(field reflect.Value) string {
	switch value := field.Interface().(type) {
	case time.Duration:
		return formatDuration(value)
	default:
		return fmt.Sprint(value)
	}
}

// formatDuration leaves out the zero minutes and seconds of 720h0m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
