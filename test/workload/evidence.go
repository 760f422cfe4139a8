package workload

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// evidence is what clients know of a chat when a run has ended.
type evidence struct {
	chat string
	// sequence is the chat as whoever made it reads it.
	sequence []*tegamiv1.Operation
	// copies are what each device has of it in its mailbox, visits what users read
	// of the chat itself while they were members.
	copies map[seat][]*tegamiv1.Operation
	visits map[string][]*tegamiv1.Operation
	// told, promises and places are from answers.
	told     []told
	promises []promise
	places   map[int64]string // message ids by revision
}

// seat is a device of a user.
type seat struct{ user, device string }

// told is a chat as one of its users was told that it is.
type told struct {
	user string
	chat *tegamiv1.Chat
}

// promise is what an answer said has come to be: it was so at the revision that was
// known before the call, or at one above it.
type promise struct {
	what  string
	since int64
	holds func(*chatState) bool
}

// verdict is what the evidence comes to.
type verdict struct {
	*chatState

	wrong []string
	// whileLarge counts the operations of a large chat, ended the memberships that
	// have.
	whileLarge, ended int
}

func (v *verdict) add(format string, arguments ...any) {
	v.wrong = append(v.wrong, fmt.Sprintf(format, arguments...))
}

// judge replays the chat and compares everything with it.
func (e *evidence) judge() *verdict {
	v := &verdict{chatState: newChatState(e.chat)}
	want := map[string][]*tegamiv1.Operation{}
	toldAt := map[int64][]told{}
	for _, t := range e.told {
		toldAt[t.chat.GetChatRevision()] = append(toldAt[t.chat.GetChatRevision()], t)
	}
	promised := slices.SortedStableFunc(slices.Values(e.promises), func(a, b promise) int { return cmp.Compare(a.since, b.since) })
	var open []promise
	for _, op := range e.sequence {
		copiedTo, err := v.apply(op)
		if err != nil {
			v.add("%v", err)
			return v
		}
		for _, user := range copiedTo {
			want[user] = append(want[user], v.copyFor(user, op))
		}
		for _, t := range toldAt[v.revision] {
			if is := v.chatFor(t.user); !proto.Equal(t.chat, is) {
				v.add("%s was told %v, it was %v", t.user, t.chat, is)
			}
		}
		for len(promised) > 0 && promised[0].since <= v.revision {
			open, promised = append(open, promised[0]), promised[1:]
		}
		open = slices.DeleteFunc(open, func(p promise) bool { return p.holds(v.chatState) })
		if v.large {
			v.whileLarge++
		}
	}
	for _, p := range append(open, promised...) {
		v.add("acknowledged and not so from revision %d on: %s", p.since, p.what)
	}
	for revision := range toldAt {
		if revision > v.revision {
			v.add("it ends at revision %d, and somebody was told of %d", v.revision, revision)
		}
	}
	v.comparePlaces(e)
	v.compareCopies(e.copies, want)
	v.compareVisits(e)
	for _, spans := range v.spans {
		for _, of := range spans {
			if of.last > 0 {
				v.ended++
			}
		}
	}
	return v
}

func (v *verdict) comparePlaces(e *evidence) {
	at := map[int64]string{}
	for _, m := range v.messages {
		at[m.ChatRevision] = m.MessageId
	}
	for revision, id := range e.places {
		if at[revision] != id {
			v.add("revision %d was told to be message %s, it is %q", revision, id, at[revision])
		}
	}
}

// compareCopies compares what devices have of the chat with what they are to have.
func (v *verdict) compareCopies(copies map[seat][]*tegamiv1.Operation, want map[string][]*tegamiv1.Operation) {
	for _, at := range slices.SortedFunc(maps.Keys(copies), func(a, b seat) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.device, b.device))
	}) {
		got, want := copies[at], want[at.user]
		for i := range max(len(got), len(want)) {
			if wrong := compareCopy(got, want, i); wrong != "" {
				v.add("%s/%s %s", at.user, at.device, wrong)
				break // What comes after the first difference only hides it.
			}
		}
	}
}

func compareCopy(got, want []*tegamiv1.Operation, i int) string {
	switch {
	case i >= len(got):
		return fmt.Sprintf("has no copy of revision %d: %v", want[i].ChatRevision, want[i])
	case i >= len(want):
		return fmt.Sprintf("has a copy too many, of revision %d: %v", got[i].ChatRevision, got[i])
	case got[i].ChatRevision > want[i].ChatRevision:
		return fmt.Sprintf("has a copy of revision %d in the place of %d", got[i].ChatRevision, want[i].ChatRevision)
	case got[i].ChatRevision < want[i].ChatRevision:
		return fmt.Sprintf("has a copy of revision %d that it was not to have there, before %d", got[i].ChatRevision, want[i].ChatRevision)
	}
	if is := placed(want[i], got[i]); !proto.Equal(got[i], is) {
		return fmt.Sprintf("has %v, it is to be %v", got[i], is)
	}
	return ""
}

// placed returns a copy with the revision and the time that it has in a mailbox.
func placed(op, in *tegamiv1.Operation) *tegamiv1.Operation {
	op = proto.CloneOf(op)
	op.Revision, op.CreateTime = in.Revision, in.CreateTime
	switch kind := op.Kind.(type) {
	case *tegamiv1.Operation_ReceiveMessage:
		kind.ReceiveMessage.Revision = in.Revision
	case *tegamiv1.Operation_SendMessage:
		kind.SendMessage.Revision = in.Revision
	case *tegamiv1.Operation_MessageAmended:
		kind.MessageAmended.Revision = in.Revision
	case *tegamiv1.Operation_ChatChanged:
		kind.ChatChanged.Chat.Revision = in.Revision
	}
	return op
}

// compareVisits compares what users read of the chat with what they might.
func (v *verdict) compareVisits(e *evidence) {
	for user, ops := range e.visits {
		for _, op := range ops {
			switch {
			case op.Revision < 1 || op.Revision > v.revision || !proto.Equal(op, e.sequence[op.Revision-1]):
				v.add("%s read %v, which the chat does not have", user, op)
			case !v.sees(user, op.Revision):
				v.add("%s read revision %d, and was a member at %v", user, op.Revision, v.spans[user])
			}
		}
	}
}
