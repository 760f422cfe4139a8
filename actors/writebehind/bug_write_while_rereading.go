//go:build bug_write_while_rereading

package writebehind

func init() { writeWhileRereading = true }
