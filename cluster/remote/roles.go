package remote

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tegami-im/tegami/actors/wire"
	"github.com/tegami-im/tegami/cluster"
)

// asks are the kinds of messages that gateways send: what they ask for their
// clients. All others come from owners of shards.
var asks = map[protoreflect.Name]bool{
	"command": true, "fetch": true, "unsubscribe": true, "inspect": true, "history": true, "keys": true,
}

var (
	messagesField = new(wire.Frame).ProtoReflect().Descriptor().Fields().ByName("messages").Number()
	kinds         = new(wire.Message).ProtoReflect().Descriptor().Fields()
)

// permitted returns why a node with a role may not send an encoded frame. A kind
// that this node does not know it leaves out anyway. No role is that of cleartext,
// on loopback: everything is permitted.
func permitted(role cluster.Role, frame []byte) error {
	if role == cluster.RoleTalk || role == "" {
		return nil
	}
	return fields(frame, func(number protowire.Number, value []byte) error {
		if number != messagesField {
			return nil
		}
		return fields(value, func(kind protowire.Number, _ []byte) error {
			known := kinds.ByNumber(kind)
			if known == nil || role == cluster.RoleGateway && asks[known.Name()] {
				return nil
			}
			return fmt.Errorf("a message that no %s sends: %s", role, known.Name())
		})
	})
}

// fields calls a function with the embedded messages of an encoded one.
func fields(message []byte, do func(protowire.Number, []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errMalformed
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return errMalformed
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			if err := do(number, value); err != nil {
				return err
			}
		}
		message = message[n:]
	}
	return nil
}

var errMalformed = errors.New("a frame that is none")
