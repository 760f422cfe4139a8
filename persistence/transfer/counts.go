package transfer

// Counts are how much is in a file.
type Counts struct{ Mailboxes, Rows, Dedup, Sources int64 }

func (c *Counts) add(m *Mailbox, p *Part) {
	if m != nil {
		c.Mailboxes++
	}
	c.Rows += int64(len(p.GetRows()))
	c.Dedup += int64(len(p.GetDedup()))
	c.Sources += int64(len(p.GetSources()))
}
