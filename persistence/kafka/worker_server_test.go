//go:build stores

package kafka_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	eventsv1 "github.com/tegami-im/tegami/api/gen/tegami/events/v1"
	"github.com/tegami-im/tegami/persistence/kafka"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/worker"
)

// refusing is a task that gives up the first event, which becomes a dead letter,
// and takes it when it is handed back.
type refusing struct{ handled chan *worker.Event }

func (r refusing) Handle(_ context.Context, e *worker.Event) error {
	r.handled <- e
	if !e.Retried {
		return worker.Permanent(errors.New("not now"))
	}
	return nil
}

// A worker reads, commits, buries and hands back over TLS, whatever it signs in
// by; with a wrong password it does not start.
func TestWorkerOverTLSAndSASL(t *testing.T) {
	stack.Shared(t, stack.Kafka)
	for _, mechanism := range []string{kafka.SASLPlain, kafka.SASLScramSHA256, kafka.SASLScramSHA512} {
		t.Run(mechanism, func(t *testing.T) {
			o := options(t, local(safePort))
			o.TLS = &tls.Config{RootCAs: authority}
			o.SASL = &kafka.SASL{Mechanism: mechanism, User: "alice", Password: "secret"}
			events := eventsOptions(o)
			publisher := openEvents(t, events)
			names := worker.Topics{Events: events.Topic, Retries: events.Topic + ".retry", Letters: events.Topic + ".dead"}
			if err := worker.ApplyTopics(t.Context(), o, names.Specs()...); err != nil {
				t.Fatal(err)
			}
			data, err := proto.Marshal(&eventsv1.Event{User: "bob", Generation: 1, Offset: 7})
			if err == nil {
				err = publishAll(t, publisher, "bob: "+string(data))
			}
			if err != nil {
				t.Fatal(err)
			}
			start := worker.Options{Name: "refusing", Group: fmt.Sprint(events.Topic, "-group"), Topics: names}
			wrong := o
			wrong.SASL = &kafka.SASL{Mechanism: mechanism, User: "alice", Password: "guess"}
			if g, err := worker.Start(t.Context(), refusing{}, wrong, start); err == nil {
				t.Error("a wrong password is accepted", g.Close())
			} else if errors.Is(err, kafka.ErrUnavailable) {
				t.Errorf("a wrong password is taken for a server that is away: %v", err)
			}
			task := refusing{make(chan *worker.Event, 1)}
			group, err := worker.Start(t.Context(), task, o, start)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := group.Close(); err != nil {
					t.Error(err)
				}
			}()
			if e := handled(t, task); e.GetOffset() != 7 || e.Retried {
				t.Errorf("handled %v", e)
			}
			log, err := worker.OpenLog(t.Context(), o, worker.ClientID)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = log.Close() }()
			letters := worker.NewLetters(log, names)
			if err := letters.Retry(t.Context(), theLetter(t, letters)); err != nil {
				t.Fatal(err)
			}
			if e := handled(t, task); e.GetOffset() != 7 || !e.Retried {
				t.Errorf("handled %v", e)
			}
		})
	}
}

func handled(t *testing.T, task refusing) *worker.Event {
	t.Helper()
	select {
	case e := <-task.handled:
		return e
	case <-time.After(time.Minute):
		t.Fatal("nothing is handled")
		return nil
	}
}

// theLetter waits for a dead letter.
func theLetter(t *testing.T, letters *worker.Letters) worker.Letter {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		all, err := letters.All(t.Context(), "")
		switch {
		case err != nil:
			t.Fatal(err)
		case len(all) == 1:
			return all[0]
		case time.Now().After(deadline):
			t.Fatalf("%d letters", len(all))
		}
		<-time.After(20 * time.Millisecond)
	}
}
