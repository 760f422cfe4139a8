package bench

import (
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
	"github.com/tegami-im/tegami/bench/h2client"
)

// send sends one message, due at a certain time, and calls done once with
// whether it was acknowledged. done must not block.
func (c *crowd) send(from, to int, due time.Time, done func(acknowledged bool)) {
	sender, number := c.users[from], c.ledger.Send(from, to, due)
	request, err := sender.message(c.users[to].name, c.ledger.ID(number), c.ledger.Text(number))
	if err == nil {
		c.inFlight.Add(1)
		_, err = sender.conn.Start(request, func(response h2client.Response) {
			what := failure(response)
			if what == "" {
				c.ledger.Ack(number)
			} else {
				c.errors.add("send: " + what)
			}
			c.inFlight.Add(-1)
			done(what == "")
		})
		if err != nil {
			c.inFlight.Add(-1)
		}
	}
	if err != nil {
		c.errors.add("send: " + reason(err))
		done(false)
	}
}

func (u *user) message(to, id, text string) (h2client.Request, error) {
	body, err := proto.Marshal(&tegamiv1.SendMessageRequest{
		To: to, ClientMessageId: id,
		Body: &tegamiv1.SendMessageRequest_Text{Text: text},
	})
	return h2client.Request{Path: sendPath, Header: u.header, Body: body}, err
}

// conversations are random pairs of users, ten for each user, so that a pair
// is drawn again and the order within it shows.
type conversations struct {
	random *rand.Rand
	pairs  [][2]int
}

func newConversations(users int, seed uint64) *conversations {
	c := &conversations{random: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // no secret; repeatable
	for range users * 10 {
		one := c.random.IntN(users)
		other := (one + 1 + c.random.IntN(users-1)) % users
		c.pairs = append(c.pairs, [2]int{one, other})
	}
	return c
}

// draw picks a pair, in either direction. It is not safe for concurrent use.
func (c *conversations) draw() (from, to int) {
	pair := c.pairs[c.random.IntN(len(c.pairs))]
	from = c.random.IntN(2)
	return pair[from], pair[1-from]
}
