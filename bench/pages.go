package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/bench/h2client"
	"github.com/tegami-im/tegami/bench/ledger"
)

const (
	// newest is how many operations of each mailbox are not read: memory and
	// cache may have them.
	newest = 1500
	// fillers is how many messages to each mailbox are on their way at once.
	fillers = 16
	// mostDevices is how many a user may have.
	mostDevices = 10
)

// Pages has devices page through old operations, one page of 1,000 after the
// other, and over again, while messages flow at a fixed rate between others: once
// without the readers, once with them.
type Pages struct {
	Rate
	Mailboxes  int           `help:"Mailboxes that are read, up to 10 readers of each." default:"20"`
	Operations int           `help:"Operations in each; the newest 1,500 are not read." default:"3500"`
	Readers    int           `help:"Devices that read." default:"100"`
	Think      time.Duration `help:"How long a reader waits behind each page, on average. 0: not at all." default:"1s"`
}

func (s *Pages) name() string { return "pages" }

func (s *Pages) validate() error {
	switch {
	case s.Mailboxes < 1 || s.Readers < 1 || s.Readers > mostDevices*s.Mailboxes:
		return errors.New("readers: from 1 to 10 for each mailbox")
	case s.Operations < newest+1 || s.Operations > 100_000:
		return errors.New("operations: from 1,501 to 100,000")
	case s.Think < 0 || s.Think > time.Minute:
		return errors.New("think: from 0s to 1m")
	}
	return s.Rate.validate()
}

func (s *Pages) run(ctx context.Context, r *run) error {
	library, err := s.fill(ctx, r)
	if err != nil {
		return err
	}
	defer library.close()
	r.say("messages without the readers")
	alone, err := s.live(ctx, r, func(load generator) generator { return load })
	if err != nil || r.result.Faults.Any() {
		return err
	}
	r.say("messages with %d readers", s.Readers)
	beside, err := s.live(ctx, r, func(load generator) generator { return &readers{generator: load, scenario: s, library: library} })
	if err != nil {
		return err
	}
	r.result.Messages = beside
	r.result.Pages = &PageFigures{
		Readers: s.Readers, Think: s.Think.Seconds(), Page: ledger.LatencyOf(library.took),
		PerSecond: float64(len(library.took)) / beside.Seconds, AloneAck: alone.Ack, AloneDelivery: alone.Delivery,
	}
	return library.err
}

// live measures messages between users of their own.
func (s *Pages) live(ctx context.Context, r *run, with func(generator) generator) (*MessageFigures, error) {
	c, err := s.gather(ctx, r)
	if err != nil {
		return nil, err
	}
	defer c.disconnect()
	loop := &openLoop{crowd: c, scenario: &s.Rate}
	figures, err := s.measure(ctx, r, c, with(loop))
	if err = errors.Join(err, loop.err); err != nil {
		return nil, err
	}
	figures.Rate = s.Rate.Rate
	return figures, nil
}

// library is the mailboxes that are read and the devices that read them.
type library struct {
	devices []*user
	conns   []*h2client.Conn

	mu   sync.Mutex // guards the following
	took []time.Duration
	err  error // the first
}

func (l *library) close() {
	for _, conn := range l.conns {
		conn.Close() //nolint:errcheck // the server may have closed it first
		<-conn.Done()
	}
}

// fill makes mailboxes that have enough, and waits until they are stored.
func (s *Pages) fill(ctx context.Context, r *run) (_ *library, err error) {
	names := userNames(newTag(), s.Mailboxes)
	if err := createUsers(ctx, r.target, names); err != nil {
		return nil, fmt.Errorf("create users: %w", err)
	}
	l := &library{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for i := range s.Readers {
		name := names[i%len(names)]
		token, err := r.target.IssueToken(ctx, name, fmt.Sprintf("reader%d", i/len(names)))
		if err != nil {
			return nil, fmt.Errorf("sign a reader in: %w", err)
		}
		conn, err := dial(ctx, r.target)
		if err != nil {
			return nil, err
		}
		l.conns = append(l.conns, conn)
		l.devices = append(l.devices, &user{name: name, conn: conn, header: header(token, false)})
	}
	filled := l.devices[:min(len(names), len(l.devices))]
	r.say("sending %d messages to each of %d mailboxes", s.Operations, len(filled))
	err = each(len(filled)*fillers, len(filled)*fillers, func(i int) error {
		u, first := filled[i%len(filled)], i/len(filled)
		for n := first; n < s.Operations; n += fillers {
			if err := u.note(ctx, fmt.Sprintf("old-%d", n), s.Size); err != nil {
				return fmt.Errorf("fill a mailbox: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, awaitStored(ctx, r)
}

// note sends a message to its sender, until it is acknowledged.
func (u *user) note(ctx context.Context, id string, size int) error {
	request, err := u.message(u.name, id, strings.Repeat("x", size))
	if err != nil {
		return err
	}
	for {
		response, err := u.conn.Do(ctx, request)
		if err != nil {
			return err
		}
		switch what := failure(response); what {
		case "":
			return nil
		case "resource_exhausted", "unavailable":
			if err := sleep(ctx, sendAgain); err != nil {
				return err
			}
		default:
			return errors.New(what)
		}
	}
}

// awaitStored waits until the store has what was sent, if that is known.
func awaitStored(ctx context.Context, r *run) error {
	for {
		usage, err := r.target.Usage(ctx)
		if err != nil || usage.Unstored <= 0 {
			return err
		}
		if err := sleep(ctx, pollAgain); err != nil {
			return err
		}
	}
}

// readers read beside another load.
type readers struct {
	generator
	scenario *Pages
	library  *library
	cancel   context.CancelFunc
	reading  sync.WaitGroup
}

func (g *readers) warmUp(ctx context.Context) error {
	ctx, g.cancel = context.WithCancel(ctx)
	for i, u := range g.library.devices {
		random := rand.New(rand.NewPCG(g.scenario.Seed, uint64(i))) //nolint:gosec // no secret; repeatable
		g.reading.Go(func() { g.read(ctx, u, random) })
	}
	err := g.generator.warmUp(ctx)
	g.library.mu.Lock()
	defer g.library.mu.Unlock()
	g.library.took = nil
	return err
}

func (g *readers) stop() {
	g.cancel()
	g.reading.Wait()
	g.generator.stop()
}

// read reads page after page until the context ends.
func (g *readers) read(ctx context.Context, u *user, random *rand.Rand) {
	last := int64(g.scenario.Operations - newest)
	for after := int64(0); ; {
		if g.scenario.Think > 0 && sleep(ctx, time.Duration(random.ExpFloat64()*float64(g.scenario.Think))) != nil {
			return
		}
		began := time.Now()
		count, err := u.page(ctx, after, min(pageSize, last-after))
		if ctx.Err() != nil {
			return
		}
		g.library.mu.Lock()
		g.library.took = append(g.library.took, time.Since(began))
		if g.library.err == nil && err != nil {
			g.library.err = fmt.Errorf("read a page: %w", err)
		}
		g.library.mu.Unlock()
		if err != nil {
			return
		}
		if after += count; after >= last {
			after = 0
		}
	}
}

// page reads operations and returns how many there were.
func (u *user) page(ctx context.Context, after, limit int64) (int64, error) {
	body, err := proto.Marshal(&tegamiv1.FetchOpsRequest{AfterRevision: after, Limit: int32(limit)})
	if err != nil {
		return 0, err
	}
	response, err := u.conn.Do(ctx, h2client.Request{Path: fetchPath, Header: u.header, Body: body})
	if err != nil {
		return 0, err
	}
	if what := failure(response); what != "" {
		return 0, errors.New(what)
	}
	page := &tegamiv1.FetchOpsResponse{}
	if err := proto.Unmarshal(response.Body, page); err != nil {
		return 0, err
	}
	for i, op := range page.Ops {
		if op.Revision != after+1+int64(i) {
			return 0, fmt.Errorf("revision %d follows %d", op.Revision, after+int64(i))
		}
	}
	if len(page.Ops) == 0 {
		return 0, fmt.Errorf("nothing follows revision %d", after)
	}
	return int64(len(page.Ops)), nil
}
