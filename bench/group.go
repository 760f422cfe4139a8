package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/bench/h2client"
	"github.com/tegami-im/tegami/bench/ledger"
)

// Group sends messages to one chat, of which every member holds a poll: of the
// mailbox, or, where the chat is large, of the chat.
type Group struct {
	Members     int           `help:"Members of the chat, each with one device that polls all the time; with more than 500 the chat is polled." default:"500"`
	Connections int           `help:"Connections that the members share. 0: one each." default:"0"`
	Rate        float64       `help:"Messages a second, at equal intervals." default:"2"`
	Size        int           `help:"Length of a message's text, in bytes." default:"100"`
	Warmup      time.Duration `help:"How long to send before measuring." default:"3s"`
	Duration    time.Duration `help:"How long to measure." default:"15s"`
	PollTimeout time.Duration `help:"The longest time that a poll asks to be held." default:"60s"`
}

func (s *Group) name() string { return "group" }

func (s *Group) validate() error {
	switch {
	case s.Members < 2 || s.Members > 20_000:
		return errors.New("members: from 2 to 20,000")
	case s.Rate <= 0 || s.Rate > 10_000:
		return errors.New("rate: above 0, at most 10,000")
	}
	load := Load{
		Users: s.Members, Connections: s.Connections, Size: s.Size, Warmup: s.Warmup, Duration: s.Duration, PollTimeout: s.PollTimeout,
	}
	return load.validate()
}

func (s *Group) run(ctx context.Context, r *run) error {
	g := &group{scenario: s, books: newChatBooks(s.Members - 1)}
	defer g.disconnect()
	if err := g.gather(ctx, r); err != nil {
		return err
	}
	r.say("warming up")
	if err := g.send(ctx, s.Warmup); err != nil {
		return err
	}
	first := g.books.count()
	before, err := spend(ctx, r.target)
	if err != nil {
		return err
	}
	r.say("measuring for %v", s.Duration)
	from := time.Now()
	if err := g.send(ctx, s.Duration); err != nil {
		return err
	}
	waitFor(ctx, answerLimit, func() bool { return g.unanswered.Load() == 0 && g.books.missing() == 0 })
	seconds := time.Since(from).Seconds()
	after, err := spend(ctx, r.target)
	if err != nil {
		return err
	}
	figures := g.books.figures(first)
	reached := float64(max(figures.Deliveries, 1))
	figures.Members, figures.Connections, figures.Large, figures.Rate, figures.Seconds = s.Members, len(g.conns), g.large, s.Rate, seconds
	figures.ServerCPU = micros(after.server.CPU-before.server.CPU) / reached
	figures.ClientCPU = micros(after.client-before.client) / reached
	r.result.Group = figures
	r.result.Faults, r.result.Evidence = g.books.faults()
	r.result.Errors = g.errors.snapshot()
	return nil
}

// group is the members of a chat.
type group struct {
	scenario   *Group
	chat       string
	large      bool
	members    []*member
	conns      []*h2client.Conn
	books      *chatBooks
	errors     errorCounts
	unanswered atomic.Int64
}

// gather makes the chat and its members, who poll from then on.
func (g *group) gather(ctx context.Context, r *run) error {
	names := userNames(newTag(), g.scenario.Members)
	r.say("creating %d users and signing them in", len(names))
	if err := createUsers(ctx, r.target, names); err != nil {
		return fmt.Errorf("create users: %w", err)
	}
	tokens, err := signIn(ctx, r.target, names)
	if err != nil {
		return fmt.Errorf("sign users in: %w", err)
	}
	connections := g.scenario.Connections
	if connections == 0 {
		connections = len(names)
	}
	g.conns = make([]*h2client.Conn, connections)
	err = each(connections, 16, func(i int) (err error) {
		g.conns[i], err = dial(ctx, r.target)
		return err
	})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	for i, name := range names {
		u := &user{name: name, conn: g.conns[i%connections], header: header(tokens[i], connections < len(names))}
		g.members = append(g.members, &member{user: u, group: g, number: i - 1})
	}
	r.say("%d users join a chat", len(names))
	if err := g.join(ctx); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := each(len(g.members), 64, func(i int) error { return g.members[i].start(ctx) }); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	return settle(ctx, r.target)
}

// join makes the chat, and all others members of it, by its link.
func (g *group) join(ctx context.Context) error {
	owner := g.members[0]
	var made tegamiv1.CreateChatResponse
	if err := owner.call(ctx, "ChatService/CreateChat", &tegamiv1.CreateChatRequest{Name: "bench"}, &made); err != nil {
		return err
	}
	g.chat = made.GetChat().GetChatId()
	var link tegamiv1.CreateChatLinkResponse
	if err := owner.call(ctx, "ChatService/CreateChatLink", &tegamiv1.CreateChatLinkRequest{ChatId: g.chat}, &link); err != nil {
		return err
	}
	err := each(len(g.members)-1, 64, func(i int) error {
		return g.members[i+1].call(ctx, "ChatService/JoinByLink", &tegamiv1.JoinByLinkRequest{Code: link.GetCode()}, new(tegamiv1.JoinByLinkResponse))
	})
	if err != nil {
		return err
	}
	var chat tegamiv1.GetChatResponse
	err = owner.call(ctx, "ChatService/GetChat", &tegamiv1.GetChatRequest{ChatId: g.chat}, &chat)
	g.large = chat.GetChat().GetLarge()
	return err
}

// send has the owner write at the scenario's rate for a while.
func (g *group) send(ctx context.Context, d time.Duration) error {
	pace := newPacer()
	defer pace.close()
	owner, end := g.members[0], time.Now().Add(d)
	for due := time.Now(); due.Before(end); due = due.Add(time.Duration(float64(time.Second) / g.scenario.Rate)) {
		if !pace.wait(ctx, due) {
			return ctx.Err()
		}
		number := g.books.sent(due)
		text := fmt.Sprintf("%08d ", number)
		text += strings.Repeat("x", max(0, g.scenario.Size-len(text)))
		request, err := owner.message(g.chat, fmt.Sprintf("%s-%d", owner.name, number), text)
		if err != nil {
			return err
		}
		g.unanswered.Add(1)
		_, err = owner.conn.Start(request, func(response h2client.Response) {
			if what := failure(response); what != "" {
				g.errors.add("send: " + what)
				g.books.refused(number)
			} else {
				g.books.acked(number)
			}
			g.unanswered.Add(-1)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (g *group) disconnect() {
	for _, m := range g.members {
		m.stopped.Store(true)
	}
	for _, conn := range g.conns {
		if conn != nil {
			conn.Close() //nolint:errcheck // the server may have closed it first
			<-conn.Done()
		}
	}
}

// call makes a call as the user, again when the server asks to wait.
func (u *user) call(ctx context.Context, method string, request, answer proto.Message) error {
	body, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	for {
		response, err := u.conn.Do(ctx, h2client.Request{Path: "/tegami.v1." + method, Header: u.header, Body: body})
		if err != nil {
			return err
		}
		switch what := failure(response); what {
		case "":
			return proto.Unmarshal(response.Body, answer)
		case "resource_exhausted", "unavailable":
			if err := sleep(ctx, sendAgain); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s: %s %s", method, what, reasonIn(response.Body))
		}
	}
}

// reasonIn returns what an error of Connect's says in words.
func reasonIn(body []byte) string {
	var refused struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(body, &refused) // else nothing
	return refused.Message
}

// GroupFigures tell what messages to a chat cost and how long they took.
type GroupFigures struct {
	Members     int `json:"members"`
	Connections int `json:"connections"`
	// Large: the chat was polled, not the mailboxes.
	Large      bool    `json:"large"`
	Rate       float64 `json:"rate"`
	Seconds    float64 `json:"seconds"`
	Messages   int     `json:"messages"`
	Deliveries int     `json:"deliveries"`
	// Ack counts from when a message was due to its answer, Delivery to each
	// member's poll answer, and All to the last of these.
	Ack      ledger.Latency `json:"ack"`
	Delivery ledger.Latency `json:"delivery"`
	All      ledger.Latency `json:"all"`
	// Processor time, in microseconds for each member that a message reached.
	ServerCPU float64 `json:"serverCpuMicros"`
	ClientCPU float64 `json:"clientCpuMicros"`
}

func (f *GroupFigures) rows(row func(name, format string, values ...any)) {
	read := "their mailboxes"
	if f.Large {
		read = "the chat"
	}
	row("members", "%d on %d connections, who poll %s", f.Members, f.Connections, read)
	row("messages", "%d, %.1f a second, to %d members each", f.Messages, f.Rate, f.Members-1)
	latencyRow(row, "send to ack", f.Ack)
	latencyRow(row, "send to a member", f.Delivery)
	latencyRow(row, "send to the last member", f.All)
	row("server CPU", "%.0f µs for each member reached", f.ServerCPU)
	row("client CPU", "%.0f µs for each member reached", f.ClientCPU)
}
