package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/worker"
)

// index is a task that keeps a search index of who wrote to whom.
type index struct{ out io.Writer }

func (i index) Handle(ctx context.Context, event *worker.Event) error {
	received := event.GetMessageReceived()
	if received == nil {
		return nil // another kind
	}
	if received.GetFrom() == "" {
		return worker.Permanent(errors.New("a message from nobody"))
	}
	// Writing by the event's id makes a second time harmless.
	_, err := fmt.Fprintln(i.out, event.ID, received.GetFrom(), event.GetUser())
	return err
}

// A program that runs a task of its own beside tegami worker.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	group, err := worker.Start(ctx, index{os.Stdout},
		kafka.Options{Brokers: []string{"127.0.0.1:9092"}},
		worker.Options{Name: "index", Logger: log})
	if err != nil {
		log.Error("start", "error", err)
		return
	}
	<-ctx.Done()
	if err := group.Close(); err != nil {
		log.Error("stop", "error", err)
	}
}
