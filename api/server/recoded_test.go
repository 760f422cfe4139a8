package server

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tegami-im/tegami/actors/record"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// What is stored and what clients get are made from each other by their
// encoding.
func TestStoredSettingsAreThoseOfTheAPI(t *testing.T) {
	for _, pair := range [][2]proto.Message{
		{new(record.Settings), new(tegamiv1.Settings)},
		{new(record.DeviceSettings), new(tegamiv1.DeviceSettings)},
		{new(record.QuietHours), new(tegamiv1.QuietHours)},
		{new(record.Profile), new(tegamiv1.Profile)},
	} {
		stored, public := pair[0].ProtoReflect().Descriptor(), pair[1].ProtoReflect().Descriptor()
		if stored.Fields().Len() != public.Fields().Len() {
			t.Errorf("%s has %d fields, %s has %d", stored.FullName(), stored.Fields().Len(), public.FullName(), public.Fields().Len())
		}
		for i := range stored.Fields().Len() {
			a := stored.Fields().Get(i)
			b := public.Fields().ByNumber(a.Number())
			if b == nil || a.Name() != b.Name() || a.Kind() != b.Kind() || a.Cardinality() != b.Cardinality() || a.HasPresence() != b.HasPresence() {
				t.Errorf("%s is not as in %s", a.FullName(), public.FullName())
			} else if a.Enum() != nil {
				sameValues(t, a.Enum(), b.Enum())
			}
		}
	}
	sameValues(t, record.Audience(0).Descriptor(), tegamiv1.Audience(0).Descriptor())
}

func sameValues(t *testing.T, stored, public protoreflect.EnumDescriptor) {
	t.Helper()
	for i := range stored.Values().Len() {
		a := stored.Values().Get(i)
		b := public.Values().ByNumber(a.Number())
		if b == nil || a.Number() != 0 && a.Name() != "AUDIENCE_"+b.Name() {
			t.Errorf("%s %d is another in %s", a.Name(), a.Number(), public.FullName())
		}
	}
}
