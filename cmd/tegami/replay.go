package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/tegami-im/tegami/client"
	"github.com/tegami-im/tegami/internal/replay"
	"github.com/tegami-im/tegami/internal/terminal"
)

type replayCommand struct {
	connectFlags
	File       string        `arg:"" type:"existingfile" help:"Conversations, one JSON object a line: {\"language\", \"topic\", \"turns\": [\"…\"]}."`
	Rate       float64       `placeholder:"N" default:"0" help:"Turns a second to say; 0 for as many as can be."`
	Limit      int           `placeholder:"N" default:"0" help:"Play only the first N conversations; 0 for all."`
	Accounts   int           `placeholder:"N" default:"16" help:"How many accounts to make up, 2 to 1000."`
	Admin      string        `placeholder:"URL" default:"http://127.0.0.1:7401" help:"The admin listener."`
	AdminToken string        `placeholder:"TOKEN" env:"TEGAMI_ADMIN_TOKEN" help:"Make the accounts by the admin calls: the token, or @FILE. Missing: they register."`
	Patience   time.Duration `default:"30s" help:"How long to wait for what is missing, with nothing arriving meanwhile."`
	Output     string        `enum:"text,json" default:"text" help:"text or json."`
}

func (replayCommand) Help() string {
	return `Says every turn of the conversations between made-up accounts and checks that it arrives once, in order, byte for byte, at both sides. It ends with exit code 1 when anything is lost, doubled, out of order or altered. "make corpus" fetches real conversations in 28 languages.

Examples:
  tegami replay corpus/conversations.jsonl
  tegami replay corpus/conversations.jsonl --rate 200 --accounts 50 --admin-token @data/admin.token
  tegami replay corpus/conversations.jsonl --limit 100 --output json`
}

func (c *replayCommand) Run(ctx context.Context, std streams) error {
	if c.Accounts < 2 || c.Accounts > 1000 {
		return usagef("--accounts must be 2 to 1000")
	}
	conversations, err := c.read()
	if err != nil {
		return err
	}
	run := strings.ToLower(rand.Text()[:8])
	accounts, err := c.accounts(ctx, std, run)
	if err != nil {
		return err
	}
	progress, done := c.progress(std, conversations)
	summary, err := replay.Play(ctx, conversations, accounts, replay.Options{
		Run: run, Rate: c.Rate, Patience: c.Patience, OnArrival: progress,
	})
	done()
	if summary.Turns > 0 {
		if err := c.print(std, &summary); err != nil {
			return err
		}
	}
	if err == nil && !summary.Faultless() {
		err = errors.New("not every turn arrived once, in order, byte for byte")
	}
	return err
}

func (c *replayCommand) read() ([]replay.Conversation, error) {
	file, err := os.Open(c.File)
	if err != nil {
		return nil, err
	}
	conversations, err := replay.Read(file)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", c.File, err)
	}
	if c.Limit > 0 && c.Limit < len(conversations) {
		conversations = conversations[:c.Limit]
	}
	return conversations, nil
}

// progress shows a bar on a terminal. It returns what to call for each arrival,
// and at the end.
func (c *replayCommand) progress(std streams, conversations []replay.Conversation) (arrived, done func()) {
	if !terminal.Is(std.err) {
		return nil, func() {}
	}
	var turns int64
	for _, conversation := range conversations {
		turns += int64(len(conversation.Turns))
	}
	bars := mpb.New(mpb.WithOutput(std.err), mpb.WithWidth(60))
	bar := bars.AddBar(2*turns,
		mpb.PrependDecorators(decor.Name("arrived "), decor.CountersNoUnit("%d / %d")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)))
	return bar.Increment, func() {
		bar.Abort(false) // does nothing to a bar that is full
		bars.Wait()
	}
}

func (c *replayCommand) print(std streams, s *replay.Summary) error {
	if c.Output == "json" {
		return json.NewEncoder(std.out).Encode(s)
	}
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
	std.printf("%d turns of %d conversations in %d languages (%d bytes) between %d accounts in %v: %.0f turns a second.\n",
		s.Turns, s.Conversations, s.Languages, s.Bytes, s.Accounts, s.Duration.Round(time.Millisecond), float64(s.Turns)/s.Duration.Seconds())
	std.printf("%d arrivals at both sides: %d lost, %d duplicated, %d reordered, %d altered, %d of unknown origin.\n",
		s.Arrivals, s.Lost, s.Duplicated, s.Reordered, s.Altered, s.Strangers)
	for _, line := range []struct {
		name string
		q    replay.Quantiles
	}{{"acknowledged", s.Acknowledged}, {"delivered", s.Delivered}} {
		std.printf("%-12s  p50 %-9v p99 %-9v max %v\n", line.name, round(line.q.P50), round(line.q.P99), round(line.q.Max))
	}
	return nil
}

// replayAccount is a signed-in client as package replay sees it.
type replayAccount struct {
	name   string
	client *client.Client
}

func (a replayAccount) Name() string { return a.name }

func (a replayAccount) Send(ctx context.Context, to, text, id string) error {
	_, err := a.client.Send(ctx, to, text, client.WithID(id))
	return err
}

func (a replayAccount) Receive(ctx context.Context, arrived func(replay.Message)) error {
	return a.client.Run(ctx, new(client.MemoryCursor), func(_ context.Context, op *client.Operation) error {
		if message := messageOf(op); message != nil {
			arrived(replay.Message{
				ID: message.GetClientMessageId(), From: message.GetFrom(), To: message.GetTo(), Text: message.GetText(),
			})
		}
		return nil
	})
}
