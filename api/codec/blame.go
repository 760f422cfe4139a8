package codec

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tegami-im/tegami/api/fault"
)

// maxFieldName bounds how much of a name that the client made up is told back
// to it.
const maxFieldName = 64

func malformed(field, text string) *fault.Fault {
	return fault.Invalid(field, "malformed", text)
}

// blameJSON finds out why data could not be read into message: protobuf's own
// errors name fields in texts that are not stable. It runs on requests that
// were refused already and is in no hurry.
func blameJSON(data []byte, message protoreflect.Message) *fault.Fault {
	switch {
	case !utf8.Valid(data):
		return fault.Invalid("", "invalid_utf8", "the request is not valid UTF-8")
	case !json.Valid(data):
		return malformed("", "the request is not valid JSON")
	}
	if f := blameObject(data, message, ""); f != nil {
		return f
	}
	return malformed("", "the request does not fit its message")
}

// blameObject looks for the first field of a JSON object that does not belong
// into message. path is the object's own, empty or with a dot behind it.
func blameObject(data []byte, message protoreflect.Message, path string) *fault.Fault {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return malformed(trimDot(path), "an object was expected")
	}
	seen := make(map[protoreflect.Name]bool)
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return malformed(trimDot(path), "the request is not valid JSON")
		}
		name, _ := token.(string) // a key of valid JSON
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return malformed(path+shorten(name), "the request is not valid JSON")
		}
		field := fieldByName(message.Descriptor(), name)
		if field == nil {
			return fault.Invalid(path+shorten(name), "unknown_field", "there is no such field")
		}
		if f := blameValue(value, message, field, path+field.JSONName()); f != nil {
			return f
		}
		if seen[field.Name()] {
			return malformed(path+field.JSONName(), "the field occurs twice")
		}
		seen[field.Name()] = true
		// null leaves a oneof as it is.
		if oneof := field.ContainingOneof(); oneof != nil && string(value) != "null" {
			if seen["oneof "+oneof.Name()] {
				return malformed(path+field.JSONName(), "another field of the same choice is set")
			}
			seen["oneof "+oneof.Name()] = true
		}
	}
	return nil
}

func blameValue(value json.RawMessage, message protoreflect.Message, field protoreflect.FieldDescriptor, path string) *fault.Fault {
	if field.Message() != nil && field.Message().ParentFile().Package() == message.Descriptor().ParentFile().Package() {
		return blameMessages(value, message, field, path)
	}
	alone, err := json.Marshal(map[string]json.RawMessage{field.JSONName(): value})
	if err != nil || readJSON.Unmarshal(alone, message.New().Interface()) != nil {
		return malformed(path, "the value is not of the field's type")
	}
	return nil
}

// blameMessages goes down into a field that holds one of our own messages or a
// list of them.
func blameMessages(value json.RawMessage, message protoreflect.Message, field protoreflect.FieldDescriptor, path string) *fault.Fault {
	if string(value) == "null" {
		return nil
	}
	if !field.IsList() {
		return blameObject(value, message.NewField(field).Message(), path+".")
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(value, &elements); err != nil {
		return malformed(path, "a list was expected")
	}
	element := message.NewField(field).List().NewElement().Message()
	for i, raw := range elements {
		if f := blameObject(raw, element, path+"["+strconv.Itoa(i)+"]."); f != nil {
			return f
		}
	}
	return nil
}

// fieldByName finds a field by either of the names that JSON may use.
func fieldByName(message protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if field := message.Fields().ByJSONName(name); field != nil {
		return field
	}
	return message.Fields().ByTextName(name)
}

func trimDot(path string) string {
	if path == "" {
		return ""
	}
	return path[:len(path)-1]
}

// shorten cuts a name between two code points.
func shorten(name string) string {
	if len(name) <= maxFieldName {
		return name
	}
	cut := maxFieldName
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut]
}

// blameBinary finds out why data could not be read into a message: a string
// that is not UTF-8, or bytes that are no message at all.
func blameBinary(data []byte, message protoreflect.MessageDescriptor) *fault.Fault {
	if f := blameFields(data, message, ""); f != nil {
		return f
	}
	return malformed("", "the request is not a valid protobuf message")
}

func blameFields(data []byte, message protoreflect.MessageDescriptor, path string) *fault.Fault {
	counts := make(map[protoreflect.FieldNumber]int)
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return malformed(trimDot(path), "the request is not a valid protobuf message")
		}
		size := protowire.ConsumeFieldValue(number, kind, data[n:])
		if size < 0 {
			return malformed(trimDot(path), "the request is not a valid protobuf message")
		}
		value := data[n : n+size]
		data = data[n+size:]
		field := message.Fields().ByNumber(number)
		if field == nil || kind != protowire.BytesType {
			continue
		}
		name := path + field.JSONName()
		if field.IsList() {
			name += "[" + strconv.Itoa(counts[number]) + "]"
			counts[number]++
		}
		content, _ := protowire.ConsumeBytes(value)
		switch {
		case field.Kind() == protoreflect.StringKind && !utf8.Valid(content):
			return fault.Invalid(name, "invalid_utf8", "the string is not valid UTF-8")
		case field.Message() != nil:
			if f := blameFields(content, field.Message(), name+"."); f != nil {
				return f
			}
		}
	}
	return nil
}
