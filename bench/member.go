package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/bench/h2client"
	"github.com/tegami-im/tegami/bench/ledger"
)

// member is a member of a chat with one device that polls. What one poll brings
// is read before the next is made.
type member struct {
	*user
	group   *group
	number  int // in the books; -1 for the one who writes
	cursor  int64
	stopped atomic.Bool
}

// start reads what there is, and polls from then on.
func (m *member) start(ctx context.Context) error {
	if m.group.large {
		var chat tegamiv1.GetChatResponse
		if err := m.call(ctx, "ChatService/GetChat", &tegamiv1.GetChatRequest{ChatId: m.group.chat}, &chat); err != nil {
			return err
		}
		m.cursor = chat.GetChat().GetChatRevision()
	} else {
		var head tegamiv1.GetHeadResponse
		if err := m.call(ctx, "TalkService/GetHead", new(tegamiv1.GetHeadRequest), &head); err != nil {
			return err
		}
		m.cursor = head.GetRevision()
	}
	m.poll()
	return nil
}

// poll asks for what follows the cursor.
func (m *member) poll() {
	request := &tegamiv1.FetchOpsRequest{AfterRevision: m.cursor, Limit: pageSize, Timeout: durationpb.New(m.group.scenario.PollTimeout)}
	if m.group.large {
		request.ChatId = m.group.chat
	}
	body, err := proto.Marshal(request)
	if err == nil {
		_, err = m.conn.Start(h2client.Request{Path: fetchPath, Header: m.header, Body: body}, m.answered)
	}
	if err != nil {
		m.failed(reason(err))
	}
}

func (m *member) failed(what string) {
	if m.stopped.Load() {
		return
	}
	m.group.errors.add("poll: " + what)
	time.AfterFunc(pollAgain, m.poll)
}

func (m *member) answered(response h2client.Response) {
	if what := failure(response); what != "" {
		m.failed(what)
		return
	}
	now, page := time.Now(), &tegamiv1.FetchOpsResponse{}
	if err := proto.Unmarshal(response.Body, page); err != nil {
		m.failed(err.Error())
		return
	}
	for _, op := range page.Ops {
		if op.Revision != m.cursor+1 {
			m.group.books.gap(m.name, m.cursor, op.Revision)
		}
		m.cursor = op.Revision
		if text := op.GetReceiveMessage().GetText(); m.number >= 0 && len(text) >= 8 {
			number, err := strconv.Atoi(text[:8])
			m.group.books.received(m.number, number, err == nil, now)
		}
	}
	m.poll()
}

// chatBooks keep which message reached whom, and when. All messages are of one
// writer, numbered from 0, so that each member must get them in that order. They
// are safe for concurrent use.
type chatBooks struct {
	mu       sync.Mutex // guards the following
	next     []int      // by member: the message that is due
	messages []chatMessage
	times    []chatDelivery
	bad      ledger.Faults
	evidence []string
}

type chatMessage struct {
	due     time.Time
	ack     time.Duration // 0: not answered
	refused bool
	reached int
	last    time.Duration
}

type chatDelivery struct {
	message int
	took    time.Duration
}

func newChatBooks(readers int) *chatBooks { return &chatBooks{next: make([]int, readers)} }

func (b *chatBooks) sent(due time.Time) (number int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, chatMessage{due: due})
	return len(b.messages) - 1
}

func (b *chatBooks) acked(number int) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages[number].ack = now.Sub(b.messages[number].due)
}

func (b *chatBooks) refused(number int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages[number].refused = true
}

func (b *chatBooks) received(member, number int, valid bool, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch due := b.next[member]; {
	case !valid || number >= len(b.messages):
		b.fault(&b.bad.Foreign, "member %d got what nobody sent", member)
		return
	case number < due:
		b.fault(&b.bad.Duplicated, "member %d got message %d after %d", member, number, due-1)
		return
	default:
		for skipped := due; skipped < number; skipped++ {
			if !b.messages[skipped].refused {
				b.fault(&b.bad.Lost, "member %d got message %d and not %d", member, number, skipped)
			}
		}
	}
	b.next[member] = number + 1
	m := &b.messages[number]
	took := now.Sub(m.due)
	m.reached++
	m.last = max(m.last, took)
	b.times = append(b.times, chatDelivery{number, took})
}

func (b *chatBooks) gap(name string, after, revision int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault(&b.bad.Gaps, "%s got revision %d after %d", name, revision, after)
}

// fault counts one. The caller holds mu.
func (b *chatBooks) fault(count *int, format string, arguments ...any) {
	*count++
	if len(b.evidence) < 10 {
		b.evidence = append(b.evidence, fmt.Sprintf(format, arguments...))
	}
}

func (b *chatBooks) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.messages)
}

// missing counts acknowledged messages that have not reached every member.
func (b *chatBooks) missing() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.messages {
		if m := &b.messages[i]; m.ack > 0 && m.reached < len(b.next) {
			n++
		}
	}
	return n
}

// faults returns what was wrong, at the end.
func (b *chatBooks) faults() (ledger.Faults, []string) {
	n := b.missing()
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > 0 {
		b.bad.Lost += n
		b.evidence = append(b.evidence, fmt.Sprintf("%d messages did not reach every member", n))
	}
	return b.bad, b.evidence
}

// figures returns what was measured of the messages from one on.
func (b *chatBooks) figures(first int) *GroupFigures {
	b.mu.Lock()
	defer b.mu.Unlock()
	var acks, all, deliveries []time.Duration
	for _, m := range b.messages[first:] {
		if m.ack > 0 {
			acks, all = append(acks, m.ack), append(all, m.last)
		}
	}
	for _, d := range b.times {
		if d.message >= first {
			deliveries = append(deliveries, d.took)
		}
	}
	return &GroupFigures{
		Messages: len(acks), Deliveries: len(deliveries),
		Ack: ledger.LatencyOf(acks), Delivery: ledger.LatencyOf(deliveries), All: ledger.LatencyOf(all),
	}
}
