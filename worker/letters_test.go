package worker

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	tasksv1 "github.com/tegami-im/tegami/api/gen/tegami/tasks/v1"
)

// A letter can be written whatever its reason is: else its user's events would wait
// for ever.
func TestReasonsOfLettersAreText(t *testing.T) {
	for _, reason := range []string{
		"", "the receiver answered 410 Gone", "answered \xff\xfe", strings.Repeat("あ", maxReason), strings.Repeat("\xe3", 2*maxReason),
	} {
		l := letter{reason: errors.New(reason)}
		if _, err := proto.Marshal(&tasksv1.DeadLetter{Reason: l.text()}); err != nil {
			t.Errorf("%q: %v", reason[:min(20, len(reason))], err)
		}
	}
}
