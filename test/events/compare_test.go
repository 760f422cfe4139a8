package events

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
)

// operation is one operation of a mailbox, as the mailbox or an event has it.
type operation struct {
	revision int64
	kind     string // as the event's field is called
	id       string
}

type mailbox struct{ operations []operation }

// published is what the topic holds, or what was posted to a webhook.
type published struct {
	total, again int
	// once has the events of each user as a consumer sees them that ignores what
	// is not above the highest that it has seen; all has every one.
	once, all map[string][]*eventsv1.Event
}

func newPublished() *published {
	return &published{once: map[string][]*eventsv1.Event{}, all: map[string][]*eventsv1.Event{}}
}

func position(e *eventsv1.Event) []int64 {
	return []int64{int64(e.Generation), e.Offset, int64(e.Index)}
}

func (p *published) take(e *eventsv1.Event) {
	p.total++
	p.all[e.User] = append(p.all[e.User], e)
	seen := p.once[e.User]
	if len(seen) > 0 && slices.Compare(position(e), position(seen[len(seen)-1])) <= 0 {
		p.again++
		return
	}
	p.once[e.User] = append(seen, e)
}

// readTopic reads the topic to its end.
func readTopic(t *testing.T, servers *stack.Stack) *published {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(servers.Addr(stack.Kafka)), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
	defer cancel()
	left := ends(ctx, t, client)
	p := newPublished()
	for len(left) > 0 {
		fetched := client.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			t.Fatal(err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			e := new(eventsv1.Event)
			if err := proto.Unmarshal(r.Value, e); err != nil || e.User != string(r.Key) {
				t.Fatalf("record %d of partition %d, key %q: %v, %v", r.Offset, r.Partition, r.Key, e, err)
			}
			p.take(e)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return p
}

// ends returns the end offset of each partition that is not empty.
func ends(ctx context.Context, t *testing.T, client *kgo.Client) map[int32]int64 {
	t.Helper()
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for n := range int32(partitions) {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition, partition.Timestamp = n, -1
		asked.Partitions = append(asked.Partitions, partition)
	}
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.Topics = -1, []kmsg.ListOffsetsRequestTopic{asked}
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[int32]int64{}
	for _, partition := range response.Topics[0].Partitions {
		if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
			t.Fatalf("end of partition %d: %v", partition.Partition, err)
		}
		if partition.Offset > 0 {
			ends[partition.Partition] = partition.Offset
		}
	}
	return ends
}

// readMailboxes reads every mailbox from its start, on a device of its own.
func readMailboxes(t *testing.T, server *process.Server) map[string]mailbox {
	t.Helper()
	mailboxes := map[string]mailbox{}
	for i := range users {
		user := fmt.Sprintf("user%03d", i)
		client := server.Device(user, "reader")
		var m mailbox
		for more := true; more; {
			request, page := &tegamiv1.FetchOpsRequest{AfterRevision: int64(len(m.operations)), Limit: 1000}, new(tegamiv1.FetchOpsResponse)
			if err := client.Call(t.Context(), "TalkService/FetchOps", request, page); err != nil {
				t.Fatalf("read %s: %v", user, err)
			}
			for _, op := range page.GetOps() {
				m.operations = append(m.operations, fromMailbox(op))
			}
			more = page.GetHasMore()
		}
		mailboxes[user] = m
	}
	return mailboxes
}

func fromMailbox(op *tegamiv1.Operation) operation {
	if received := op.GetReceiveMessage(); received != nil {
		return operation{op.GetRevision(), "message_received", received.GetMessageId()}
	}
	return operation{op.GetRevision(), "message_sent", op.GetSendMessage().GetMessageId()}
}

func fromEvent(e *eventsv1.Event) (op operation, ok bool) {
	switch kind := e.GetKind().(type) {
	case *eventsv1.Event_MessageReceived:
		return operation{kind.MessageReceived.GetRevision(), "message_received", kind.MessageReceived.GetMessageId()}, true
	case *eventsv1.Event_MessageSent:
		return operation{kind.MessageSent.GetRevision(), "message_sent", kind.MessageSent.GetMessageId()}, true
	default:
		return op, false
	}
}

// compare fails the test unless the events from a place are those of the mailboxes, each at
// least once, in order once what comes again is ignored, and no others.
func compare(t *testing.T, from string, p *published, mailboxes map[string]mailbox) {
	t.Helper()
	for user, m := range mailboxes {
		var once []operation
		for _, e := range p.once[user] {
			if op, ok := fromEvent(e); ok {
				once = append(once, op)
			}
		}
		if !slices.Equal(once, m.operations) {
			t.Errorf("%s, %s: %d events in order, of %d operations; the first that differs is %d", from, user, len(once), len(m.operations), differ(once, m.operations))
		}
		for _, e := range p.all[user] { // also what came again
			if op, ok := fromEvent(e); ok && (op.revision > int64(len(m.operations)) || op != m.operations[op.revision-1]) {
				t.Errorf("%s, %s: an event of %+v, which does not exist", from, user, op)
			}
		}
	}
	for user := range p.all {
		if _, ok := mailboxes[user]; !ok {
			t.Errorf("%s: events of %s, who does not exist", from, user)
		}
	}
}

// differ returns the index of the first difference.
func differ(a, b []operation) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
