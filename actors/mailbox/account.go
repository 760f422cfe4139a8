package mailbox

import (
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
)

var createAccountKind = kind{
	command:   true,
	creates:   true,
	malformed: func(*record.Record) bool { return false },
	decide:    func(d *decision, r *record.Record) { d.createAccount(r.GetCreateAccount()) },
}

func (d *decision) createAccount(c *record.CreateAccount) {
	if d.account != nil {
		d.refuse(refusal.UserExists)
		return
	}
	d.account = &record.Account{
		DisplayName:  c.GetDisplayName(),
		PasswordHash: c.GetPasswordHash(),
		CreateTime:   d.time,
	}
	d.accountChanged = true
}

// trimKind lets go of old operations. Retention asks for it again and again,
// and needs no answer.
var trimKind = kind{
	anywhere:  true,
	malformed: func(*record.Record) bool { return false },
	decide:    func(d *decision, r *record.Record) { d.trim(r.GetTrim()) },
}

func (d *decision) trim(c *record.Trim) {
	if first := min(c.GetFirstRevision(), d.head+1); first > d.first {
		d.first = first
		d.trimmed = true
	}
}
