package workload

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// compareStates judges what the mix came to, when what follows from the last of
// it has had its time. Every device has read its mailbox again.
func (w *Workload) compareStates(ctx context.Context) {
	deadline := time.Now().Add(settleLimit)
	for {
		wrong, chats, err := w.wrongStates(ctx)
		switch {
		case err != nil:
			w.t.Errorf("compare states: %v", err)
			return
		case len(wrong) == 0:
			w.t.Logf("progress: %s", w.describeChats(chats))
			return
		case time.Now().After(deadline):
			for _, finding := range wrong[:min(len(wrong), maxFindings)] {
				w.t.Error(finding)
			}
			w.t.Errorf("%d states are wrong", len(wrong))
			return
		}
		pause(ctx, w.mixers[0].rand, 50*time.Millisecond)
		for _, d := range w.readers() {
			if err := d.catchUp(ctx, 1000); err != nil {
				w.t.Errorf("read %s/%s to the end: %v", d.user, d.name, err)
				return
			}
		}
	}
}

// wrongStates returns what is wrong: what a snapshot and all operations make
// different things of; what one user has otherwise than the other; what is not as
// whoever made it so was told.
func (w *Workload) wrongStates(ctx context.Context) (wrong []string, chats map[string]*verdict, err error) {
	chats, wrong, err = w.judgeChats(ctx)
	if err != nil {
		return nil, nil, err
	}
	replicas := map[string]*replica{}
	for _, d := range w.devices {
		replicas[d.user] = d.replica
		snapshot, err := d.sync(ctx)
		if err != nil {
			return nil, nil, err
		}
		listed, err := d.listChats(ctx)
		if err != nil {
			return nil, nil, err
		}
		if difference := cmp.Or(d.replica.differs(snapshot, d.user, d.name, chats), d.replica.compareChats(listed)); difference != "" {
			wrong = append(wrong, d.user+"/"+d.name+": "+difference)
		}
	}
	for _, user := range w.users {
		wrong = append(wrong, asymmetries(user, replicas)...)
	}
	for _, m := range w.mixers {
		r := replicas[m.device.user]
		for _, name := range slices.Sorted(maps.Keys(m.facts)) {
			if value, want := r.fact(name, m.device, chats), m.facts[name]; !holds(name, value, want) {
				wrong = append(wrong, fmt.Sprintf("%s: %s is %q, want one of %q", m.device.user, name, value, want))
			}
		}
	}
	return wrong, chats, nil
}

// sync reads a snapshot.
func (d *device) sync(ctx context.Context) (items []*tegamiv1.SyncResponse_Item, err error) {
	for request := new(tegamiv1.SyncRequest); ; {
		request.Limit = 3 + d.rand.Int32N(998)
		page := new(tegamiv1.SyncResponse)
		if err := d.client.Call(ctx, "TalkService/Sync", request, page); err != nil {
			return nil, fmt.Errorf("snapshot of %s/%s: %w", d.user, d.name, err)
		}
		items = append(items, page.Items...)
		if request.PageToken = page.NextPageToken; page.NextPageToken == "" {
			return items, nil
		}
	}
}

// mirror returns a relation as the other of the two sees it.
func mirror(relation tegamiv1.Contact_Relation) tegamiv1.Contact_Relation {
	switch relation {
	case tegamiv1.Contact_REQUESTED:
		return tegamiv1.Contact_RECEIVED
	case tegamiv1.Contact_RECEIVED:
		return tegamiv1.Contact_REQUESTED
	default:
		return relation
	}
}

// asymmetries returns what a user has otherwise than those whom it is with.
func asymmetries(user string, replicas map[string]*replica) (wrong []string) {
	r := replicas[user]
	for peer, c := range r.contacts {
		other := replicas[peer]
		if other == nil { // a quiet one
			continue
		}
		got := tegamiv1.Contact_NONE
		if is := other.contacts[user]; is != nil {
			got = is.Relation
		}
		if got != mirror(c.Relation) {
			wrong = append(wrong, fmt.Sprintf("%s has %s as %v, and is %v there", user, peer, c.Relation, got))
		}
		if shown := c.GetProfile().GetStatusMessage(); c.Relation == tegamiv1.Contact_FRIEND && shown != other.profile.GetStatusMessage() {
			wrong = append(wrong, fmt.Sprintf("%s sees %q of a friend, %s, who shows %q", user, shown, peer, other.profile.GetStatusMessage()))
		}
	}
	for id, m := range r.messages {
		if other := replicas[m.peer]; !m.same(other.messages[id]) {
			wrong = append(wrong, fmt.Sprintf("%s has message %s as %v, and %s as %v", user, id, m, m.peer, other.messages[id]))
		}
	}
	return wrong
}

// fact returns the value of a fact, which of a chat's messages the chat knows.
func (r *replica) fact(name string, d *device, chats map[string]*verdict) string {
	what, of, _ := strings.Cut(name, " ")
	m := r.messages[of]
	for _, s := range chats {
		m = cmp.Or(m, s.amended[of])
	}
	switch what {
	case "blocked":
		return fmt.Sprint(r.contacts[of].GetBlocked())
	case "favorite":
		return fmt.Sprint(r.contacts[of].GetFavorite())
	case "alias":
		return r.contacts[of].GetAlias()
	case "language":
		return r.settings.GetLanguage()
	case "previews":
		settings := r.deviceSettings[d.name]
		return fmt.Sprint(settings == nil || settings.GetPreviews())
	case "status":
		return r.profile.GetStatusMessage()
	case "pinned", "read":
		c := cmp.Or(r.conversations[of], r.inChats[of])
		switch s := chats[of]; {
		case s != nil && c == nil: // no member any more
			return fmt.Sprint(int64(math.MaxInt64))
		case c == nil:
			return "no conversation"
		case what == "pinned":
			return fmt.Sprint(c.Pinned)
		case s != nil:
			return fmt.Sprint(s.unreadFrom(c.ReadRevision))
		}
		return fmt.Sprint(c.unreadUpTo())
	default:
		switch {
		case m == nil:
			return ""
		case what == "text":
			return m.text
		case what == "unsent":
			return fmt.Sprint(m.unsent)
		default:
			return m.reactions[d.user]
		}
	}
}

// unreadUpTo returns the revision below which all of the peer's messages are
// read.
func (c *conversation) unreadUpTo() int64 {
	for _, revision := range c.received {
		if revision > c.ReadRevision {
			return revision
		}
	}
	return math.MaxInt64
}

// holds reports whether a value is one of those that are possible: of a mark,
// that the least of them is read.
func holds(name, value string, possible []string) bool {
	if !strings.HasPrefix(name, "read ") {
		return slices.Contains(possible, value)
	}
	unread, err := strconv.ParseInt(value, 10, 64)
	mark, err2 := strconv.ParseInt(possible[0], 10, 64)
	return err == nil && err2 == nil && unread > mark
}
