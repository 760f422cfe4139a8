package behaviour

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
)

// Handler decides what a behaviour does. S is a pointer to the generated message
// that its state is kept as.
type Handler[S proto.Message] interface {
	// Handle changes state and has effects, by way of c, about one event. It is
	// called for one event at a time, in the order of the mailbox; a timer comes
	// when it is due. An error or a panic undoes everything and is tried again,
	// [Attempts] times in all; then the event is passed over. So is a call that
	// takes longer than [Timeout], whose effects are lost.
	//
	// Given the same state, event, time and seed it should decide the same. It
	// may be called again for the same event, after a crash.
	Handle(c *Context, state S, event Event) error
}

// Upgrader is a Handler that takes over state which was kept as another message.
type Upgrader[S proto.Message] interface {
	// Upgrade returns the state that old data of a message amounts to.
	Upgrade(message string, data []byte) (S, error)
}

// Kind is a kind of behaviour.
type Kind struct {
	name   string
	decode func(stored *record.Memory) (proto.Message, error)
	handle func(*Context, proto.Message, Event) error
}

var kindName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// New returns a kind of behaviour. The name is what the configuration calls it,
// and is kept with the state: 1 to 32 lower-case letters, digits, underscores
// and hyphens.
func New[S proto.Message](name string, handler Handler[S]) *Kind {
	return &Kind{
		name: name,
		decode: func(stored *record.Memory) (proto.Message, error) {
			return decode(name, handler, stored)
		},
		handle: func(c *Context, state proto.Message, event Event) error {
			typed, ok := state.(S)
			if !ok {
				return fmt.Errorf("state of type %T", state)
			}
			return handler.Handle(c, typed, event)
		},
	}
}

// Name returns the name of the kind.
func (k *Kind) Name() string { return k.name }

// Registry has kinds by name.
type Registry map[string]*Kind

// Register returns a registry of kinds. Errors: a name that is none, or taken.
func Register(kinds ...*Kind) (Registry, error) {
	registry := make(Registry, len(kinds))
	for _, k := range kinds {
		if !kindName.MatchString(k.name) {
			return nil, fmt.Errorf("%q is no name of a kind of behaviour", k.name)
		}
		if registry[k.name] != nil {
			return nil, fmt.Errorf("the kind of behaviour %q is there twice", k.name)
		}
		registry[k.name] = k
	}
	return registry, nil
}

// Names returns the names of the kinds, sorted.
func (r Registry) Names() []string { return slices.Sorted(maps.Keys(r)) }

// errForeign says that the account is another behaviour's.
var errForeign = errors.New("the account keeps what another kind of behaviour remembers")

// decode returns the state that is remembered, a new one before the first step.
func decode[S proto.Message](kind string, handler Handler[S], stored *record.Memory) (proto.Message, error) {
	var none S
	state := none.ProtoReflect().New().Interface()
	if stored.GetKind() == "" {
		return state, nil
	}
	if stored.Kind != kind {
		return nil, fmt.Errorf("%w: %s, not %s", errForeign, stored.Kind, kind)
	}
	if name := string(state.ProtoReflect().Descriptor().FullName()); stored.StateType != name {
		upgrader, ok := handler.(Upgrader[S])
		if !ok {
			return nil, fmt.Errorf("the state is a %s, not a %s, and %s has no Upgrade", stored.StateType, name, kind)
		}
		upgraded, err := upgrader.Upgrade(stored.StateType, stored.State)
		if err == nil && !upgraded.ProtoReflect().IsValid() {
			err = fmt.Errorf("the Upgrade of %s returns no state", kind)
		}
		return upgraded, err
	}
	if err := proto.Unmarshal(stored.State, state); err != nil {
		return nil, fmt.Errorf("state of %s: %w", kind, err)
	}
	return state, nil
}
