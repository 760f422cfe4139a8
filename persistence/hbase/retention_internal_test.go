package hbase

import (
	"testing"

	"github.com/tegami-im/tegami/persistence"
)

// TestDedupAge: entries are let go 48 hours of log time behind the checkpoint,
// and never by how young the newest entry is.
func TestDedupAge(t *testing.T) {
	at := func(hour int64) persistence.Position {
		return persistence.Position{Generation: 1, Offset: hour}
	}
	var age dedupAge
	for hour := int64(1000); hour < 1200; hour++ {
		age.note(&persistence.DedupEntry{Time: hour * hourMillis, Position: at(hour)})
		checkpoint := hour - 60 // far behind
		age.advance(at(checkpoint))
		if oldest := age.oldest(); oldest > checkpoint-dedupHours {
			t.Fatalf("with the checkpoint at hour %d, hours from %d are kept", checkpoint, oldest)
		}
	}
	age.advance(at(1200))
	age.note(&persistence.DedupEntry{Time: 1200 * hourMillis, Position: at(1200)})
	age.advance(at(1200))
	if oldest := age.oldest(); oldest != 1200-dedupHours {
		t.Fatalf("with the checkpoint at hour 1200, hours from %d are kept", oldest)
	}
}
