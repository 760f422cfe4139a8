package shard

import (
	"github.com/tegami-im/tegami/actors/event"
	"github.com/tegami-im/tegami/actors/mailbox"
	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
)

// events returns what other services are to be told of a record, while the
// polls that it ends are still held. There is nobody to tell where no events are
// published.
func (b *mailboxActor) events(m *applyRecord, outcome *mailbox.Outcome) []*eventsv1.Event {
	if b.Publisher == nil {
		return nil
	}
	applied := event.Applied{Shard: b.shardID, Position: m.position, Record: m.record, Outcome: outcome}
	if len(outcome.Operations) > 0 {
		applied.Absent = b.absent(outcome.Operations[0].GetOriginDevice())
	}
	return event.Of(applied)
}

// absent returns the signed-in devices that hold no poll, but for the one that
// caused what they are asked for.
func (b *mailboxActor) absent(origin string) []string {
	var absent []string
	for _, device := range b.state.Devices() {
		if device.ID != origin && b.subscribers.find(b.name, device.ID) < 0 {
			absent = append(absent, device.ID)
		}
	}
	return absent
}
