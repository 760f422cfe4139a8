package record_test

import (
	"errors"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/record"
)

func TestRevisionOf(t *testing.T) {
	for _, revision := range []int64{1, 127, 128, math.MaxInt64} {
		data, err := proto.Marshal(&record.Operation{Revision: revision, Time: 3, OriginDevice: "phone"})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := record.RevisionOf(data); err != nil || got != revision {
			t.Errorf("%d, %v; want %d", got, err, revision)
		}
	}
	for name, data := range map[string][]byte{
		"nothing":       nil,
		"no tag":        {0xff},
		"another field": {2 << 3, 1},
		"another type":  {1<<3 | 2, 0},
		"no number":     {1 << 3},
	} {
		if _, err := record.RevisionOf(data); !errors.Is(err, record.ErrOperation) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeOperationsTellsDamage(t *testing.T) {
	if _, err := record.DecodeOperations([][]byte{{1 << 3, 1}, {0xff}}); !errors.Is(err, record.ErrOperation) {
		t.Error(err)
	}
}
