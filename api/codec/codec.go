// Package codec reads requests strictly and writes answers completely.
//
// In JSON an unknown field is an error, so that a misspelt one is noticed, and
// fields with default values are written, so that a client need not know the
// schema to find "revision" or "ops". In binary unknown fields are ignored:
// they are what a newer client sends during a rolling upgrade.
//
// A request that cannot be read is a [fault.Fault] with code invalid_argument
// that names the field where it can be told.
package codec

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// maxDepth bounds the nesting of messages, far above that of the schema.
const maxDepth = 32

var (
	readJSON   = protojson.UnmarshalOptions{RecursionLimit: maxDepth}
	writeJSON  = protojson.MarshalOptions{EmitDefaultValues: true}
	readBinary = proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxDepth}
)

// Codec is one encoding of messages. Its values are safe for concurrent use
// and serve Connect's handlers too.
type Codec interface {
	connect.Codec
	// Unmarshal reads a request. It keeps nothing of data. Its error is a
	// *fault.Fault.
	Unmarshal(data []byte, message proto.Message) error
	// MarshalAppend appends an answer to dst.
	MarshalAppend(dst []byte, message proto.Message) ([]byte, error)
}

// The encodings that the API speaks.
var (
	JSON   Codec = jsonCodec{}
	Binary Codec = binaryCodec{}
)

type jsonCodec struct{}

func (jsonCodec) Name() string { return connect.CodecNameJSON }

func (jsonCodec) Unmarshal(data []byte, message proto.Message) error {
	if err := readJSON.Unmarshal(data, message); err != nil {
		return blameJSON(data, message.ProtoReflect())
	}
	return nil
}

func (jsonCodec) MarshalAppend(dst []byte, message proto.Message) ([]byte, error) {
	return writeJSON.MarshalAppend(dst, message)
}

func (c jsonCodec) MarshalWrite(_ context.Context, dst io.Writer, message any) error {
	return write(c, dst, message)
}

func (c jsonCodec) UnmarshalRead(_ context.Context, src io.Reader, message any) error {
	return read(c, src, message)
}

type binaryCodec struct{}

func (binaryCodec) Name() string { return connect.CodecNameProto }

func (binaryCodec) Unmarshal(data []byte, message proto.Message) error {
	if err := readBinary.Unmarshal(data, message); err != nil {
		return blameBinary(data, message.ProtoReflect().Descriptor())
	}
	return nil
}

func (binaryCodec) MarshalAppend(dst []byte, message proto.Message) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(dst, message)
}

func (c binaryCodec) MarshalWrite(_ context.Context, dst io.Writer, message any) error {
	return write(c, dst, message)
}

func (c binaryCodec) UnmarshalRead(_ context.Context, src io.Reader, message any) error {
	return read(c, src, message)
}

func write(c Codec, dst io.Writer, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("codec: %T is not a protobuf message", message)
	}
	data, err := c.MarshalAppend(nil, m)
	if err != nil {
		return err
	}
	_, err = dst.Write(data)
	return err
}

func read(c Codec, src io.Reader, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("codec: %T is not a protobuf message", message)
	}
	if buffered, ok := src.(*bytes.Buffer); ok { // what Connect passes
		return c.Unmarshal(buffered.Next(buffered.Len()), m)
	}
	data, err := io.ReadAll(src)
	if err != nil {
		return err
	}
	return c.Unmarshal(data, m)
}
