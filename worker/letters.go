package worker

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/IBM/sarama"
	"google.golang.org/protobuf/proto"

	tasksv1 "github.com/tegami-im/tegami/api/gen/tegami/tasks/v1"
)

// Letters are the dead letters: what tasks gave up. They lie in a compacted
// topic under the id of each; a record without a value says that the letter is
// done with.
type Letters struct {
	log    *Log
	topics Topics
}

// NewLetters returns the dead letters in the topics, by way of a log.
func NewLetters(log *Log, topics Topics) *Letters { return &Letters{log, topics} }

// Letter is a dead letter.
type Letter struct {
	// ID is TASK/TOPIC/PARTITION/OFFSET, where the event was read. An event that
	// was retried and given up again is another letter, since it was read
	// elsewhere.
	ID string
	*tasksv1.DeadLetter

	offset int64
}

func letterID(task string, source Source, offset int64) string {
	return fmt.Sprintf("%s/%s/%d/%d", task, source.Topic, source.Partition, offset)
}

// maxReason bounds the text of an error in a letter.
const maxReason = 1 << 10

// text returns the reason as it is kept: whatever a task says, or a server that it
// asked, it must be text, or no letter could be written.
func (d *letter) text() string {
	reason := d.reason.Error()
	return strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "\uFFFD")
}

// add writes a letter. One that is written again replaces itself.
func (l *Letters) add(ctx context.Context, task string, dead letter) error {
	value, err := proto.Marshal(&tasksv1.DeadLetter{
		Task: task, Reason: dead.text(), Attempts: uint32(dead.attempts),
		FirstTime: dead.first.UnixMilli(), LastTime: dead.last.UnixMilli(),
		Topic: dead.record.source.Topic, Partition: dead.record.source.Partition, Offset: dead.record.offset,
		Key: dead.record.key, Event: dead.record.value,
	})
	if err != nil {
		return err
	}
	return l.put(ctx, letterID(task, dead.record.source, dead.record.offset), value)
}

func (l *Letters) put(ctx context.Context, id string, value []byte) error {
	m := &sarama.ProducerMessage{Topic: l.topics.Letters, Key: sarama.StringEncoder(id)}
	if value != nil {
		m.Value = sarama.ByteEncoder(value)
	}
	return l.log.Append(ctx, m)
}

// All returns the letters of a task, or of all when it is empty, the oldest
// first. All of them are in memory: the caller bounds them by task.
func (l *Letters) All(ctx context.Context, task string) ([]Letter, error) {
	letters := map[string]Letter{}
	var bad error
	err := l.log.ReadAll(ctx, l.topics.Letters, 0, func(m *sarama.ConsumerMessage) {
		id := string(m.Key)
		delete(letters, id)
		if len(m.Value) == 0 {
			return
		}
		dead := new(tasksv1.DeadLetter)
		if err := proto.Unmarshal(m.Value, dead); err != nil {
			bad = fmt.Errorf("dead letter %q: %w", id, err)
			return
		}
		if task == "" || dead.GetTask() == task {
			letters[id] = Letter{id, dead, m.Offset}
		}
	})
	if err = cmp.Or(err, bad); err != nil {
		return nil, err
	}
	sorted := make([]Letter, 0, len(letters))
	for _, letter := range letters {
		sorted = append(sorted, letter)
	}
	slices.SortFunc(sorted, func(a, b Letter) int { return cmp.Compare(a.offset, b.offset) })
	return sorted, nil
}

// Retry hands the event of a letter back to its task and is done with the
// letter. When it fails between the two, the letter stays, and the event may be
// handled twice.
func (l *Letters) Retry(ctx context.Context, letter Letter) error {
	partitions, err := l.log.Partitions(l.topics.Retries)
	if err != nil {
		return err
	}
	hash := fnv.New32a()
	_, _ = hash.Write(letter.GetKey()) // it never fails
	if err := l.log.Append(ctx, &sarama.ProducerMessage{
		Topic: l.topics.Retries, Partition: int32(hash.Sum32() % uint32(partitions)),
		Key: sarama.ByteEncoder(letter.GetKey()), Value: sarama.ByteEncoder(letter.GetEvent()),
		Headers: []sarama.RecordHeader{{Key: []byte(taskHeader), Value: []byte(letter.GetTask())}},
	}); err != nil {
		return err
	}
	return l.Drop(ctx, letter)
}

// Drop is done with a letter: its event is not handled.
func (l *Letters) Drop(ctx context.Context, letter Letter) error { return l.put(ctx, letter.ID, nil) }
