package checker

import (
	"fmt"
	"slices"
	"strings"
)

// Breach is a way to break a guarantee.
type Breach uint8

// The breaches.
const (
	// Lost: acknowledged and not there, or not at every device.
	Lost Breach = iota
	// Duplicated: there more than once.
	Duplicated
	// Reordered: before a message that was answered before it was sent.
	Reordered
	// Gap: a device was handed a revision that does not follow its last.
	Gap
	// Backwards: a revision that the device had, or log time that goes back.
	Backwards
	// Changed: a revision with other content than before.
	Changed
	// Unstable: two answers to one command that differ.
	Unstable
	// Half: in one of its two mailboxes only.
	Half
	// Alien: an operation that nobody sent, or that belongs to others.
	Alien
	// Appeared: refused, and there all the same.
	Appeared

	numBreaches
)

var breachWords = [numBreaches]string{
	Lost: "lost", Duplicated: "duplicated", Reordered: "reordered", Gap: "gaps", Backwards: "backwards",
	Changed: "changed", Unstable: "unstable", Half: "half", Alien: "alien", Appeared: "appeared",
}

func (b Breach) String() string { return breachWords[b] }

// breaches counts, and keeps a few examples of each.
type breaches struct {
	count    [numBreaches]int
	examples [numBreaches][]string
}

// maxExamples of each breach are kept: the first ones tell the story.
const maxExamples = 4

func (b *breaches) add(kind Breach, format string, arguments ...any) {
	b.count[kind]++
	if len(b.examples[kind]) < maxExamples {
		b.examples[kind] = append(b.examples[kind], fmt.Sprintf(format, arguments...))
	}
}

func (b *breaches) clone() breaches {
	c := *b
	for kind := range c.examples {
		c.examples[kind] = slices.Clone(c.examples[kind])
	}
	return c
}

// Report is the judgement of a run.
type Report struct {
	// Acked, Unknown and Refused count messages by what their senders know at
	// the end; those that were never taken count as none.
	Acked, Unknown, Refused int
	// Operations are the rows of all mailboxes.
	Operations int
	breaches   breaches
}

// report counts. h.mu is held.
func (h *History) report() *Report {
	r := &Report{breaches: h.mu.breaches.clone()}
	for _, c := range h.mu.commands {
		for _, v := range c.variants {
			switch {
			case v.answered != never:
				r.Acked++
			case v.refused:
				r.Refused++
			case v.open > 0:
				r.Unknown++
			}
		}
	}
	for _, m := range h.mu.mailboxes {
		r.Operations += len(m.rows)
	}
	return r
}

// Count returns how often a guarantee was broken in one way.
func (r *Report) Count(kind Breach) int { return r.breaches.count[kind] }

// OK reports whether no guarantee was broken.
func (r *Report) OK() bool { return r.breaches.count == [numBreaches]int{} }

// String is one line with every figure.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "acked %d, unknown %d, refused %d, operations %d", r.Acked, r.Unknown, r.Refused, r.Operations)
	for kind, count := range r.breaches.count {
		fmt.Fprintf(&b, ", %s %d", Breach(kind), count)
	}
	return b.String()
}

// Explain lists examples of what was broken, a line each; it is empty when
// nothing was.
func (r *Report) Explain() string {
	var b strings.Builder
	for kind, examples := range r.breaches.examples {
		for _, example := range examples {
			fmt.Fprintf(&b, "%s: %s\n", Breach(kind), example)
		}
		if more := r.breaches.count[kind] - len(examples); more > 0 {
			fmt.Fprintf(&b, "%s: and %d more\n", Breach(kind), more)
		}
	}
	return b.String()
}
