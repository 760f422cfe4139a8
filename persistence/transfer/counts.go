package transfer

// Counts are how much is in a file.
type Counts struct{ Mailboxes, Rows, Dedup, Sources, StateParts int64 }

func (c *Counts) add(m *Mailbox, p *Part) {
	if m != nil {
		c.Mailboxes++
	}
	c.Rows += int64(len(p.GetRows()))
	c.Dedup += int64(len(p.GetDedup()))
	c.Sources += int64(len(p.GetSources()))
	c.StateParts += int64(len(p.GetStateParts()))
}

// plus returns the sum.
func (c Counts) plus(d Counts) Counts {
	return Counts{c.Mailboxes + d.Mailboxes, c.Rows + d.Rows, c.Dedup + d.Dedup, c.Sources + d.Sources, c.StateParts + d.StateParts}
}
