package limit_test

import (
	"testing"

	"github.com/tegami-im/tegami/api/limit"
)

// As the gate fills, the classes are kept out one after the other.
func TestTheGateShedsTheLowestFirst(t *testing.T) {
	const most = 100
	shares := []float64{0.5, 0.75, 1}
	gate := limit.NewGate(most, shares...)
	for n := range most {
		for class, share := range shares {
			enters := gate.Enter(class)
			if enters {
				gate.Leave()
			}
			if want := n < int(most*share); enters != want {
				t.Fatalf("class %d with %d in flight: enters %v", class, n, enters)
			}
		}
		if !gate.Enter(2) {
			t.Fatal("the highest does not enter")
		}
	}
	if gate.Enter(2) {
		t.Error("one too many enters")
	}
	for range most {
		gate.Leave()
	}
	if !gate.Enter(0) {
		t.Error("it does not open again")
	}
}

func TestNoGateIsOpen(t *testing.T) {
	var gate *limit.Gate
	if !gate.Enter(5) {
		t.Error("it is closed")
	}
	gate.Leave()
}
