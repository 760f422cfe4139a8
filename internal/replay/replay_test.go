package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// town delivers between its accounts at once, with the fault that is planted.
type town struct {
	fault func(n int, deliver func(Message), m Message)

	mu      sync.Mutex
	sent    int
	streets map[string]chan Message
}

type inhabitant struct {
	town *town
	name string
}

func (i inhabitant) Name() string { return i.name }

func (i inhabitant) Send(_ context.Context, to, text, id string) error {
	i.town.mu.Lock()
	defer i.town.mu.Unlock()
	m := Message{ID: id, From: i.name, To: to, Text: text}
	if text == "refuse me" {
		return errors.New("refused")
	}
	i.town.streets[i.name] <- m
	deliver := func(m Message) { i.town.streets[to] <- m }
	i.town.sent++
	if i.town.fault == nil {
		deliver(m)
		return nil
	}
	i.town.fault(i.town.sent, deliver, m)
	return nil
}

func (i inhabitant) Receive(ctx context.Context, arrived func(Message)) error {
	for {
		select {
		case m := <-i.town.streets[i.name]:
			arrived(m)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func build(n int, fault func(int, func(Message), Message)) []Account {
	place := &town{fault: fault, streets: make(map[string]chan Message)}
	var accounts []Account
	for i := range n {
		name := fmt.Sprintf("account-%d", i)
		place.streets[name] = make(chan Message, 10_000)
		accounts = append(accounts, inhabitant{place, name})
	}
	return accounts
}

func talks(n int) []Conversation {
	var all []Conversation
	for i := range n {
		all = append(all, Conversation{
			Language: fmt.Sprintf("language %d", i%3),
			Turns:    []string{"hello", "hello yourself", fmt.Sprintf("number %d", i)},
		})
	}
	return all
}

func TestAFaultlessRun(t *testing.T) {
	for _, accounts := range []int{2, 3, 8} {
		synctest.Test(t, func(t *testing.T) {
			arrivals := 0
			var mu sync.Mutex
			summary, err := Play(t.Context(), talks(50), build(accounts, nil), Options{Run: "r", Patience: time.Second, OnArrival: func() {
				mu.Lock()
				defer mu.Unlock()
				arrivals++
			}})
			if err != nil {
				t.Fatal(err)
			}
			if !summary.Faultless() || summary.Turns != 150 || summary.Arrivals != 300 || arrivals != 300 ||
				summary.Conversations != 50 || summary.Languages != 3 {
				t.Errorf("%d accounts: %d arrivals, %+v", accounts, arrivals, summary)
			}
		})
	}
}

func TestFaultsAreFound(t *testing.T) {
	var kept Message
	for _, test := range []struct {
		name  string
		fault func(n int, deliver func(Message), m Message)
		want  Summary
	}{
		{"lost", func(n int, deliver func(Message), m Message) {
			if n != 7 {
				deliver(m)
			}
		}, Summary{Lost: 1}},
		{"duplicated", func(n int, deliver func(Message), m Message) {
			deliver(m)
			if n == 7 {
				deliver(m)
			}
		}, Summary{Duplicated: 1}},
		{"changed by one space", func(n int, deliver func(Message), m Message) {
			if n == 7 {
				m.Text += " "
			}
			deliver(m)
		}, Summary{Altered: 1}},
		{"in another's name", func(n int, deliver func(Message), m Message) {
			if n == 7 {
				m.From = "mallory"
			}
			deliver(m)
		}, Summary{Altered: 1}},
		{"late", func(n int, deliver func(Message), m Message) {
			switch n {
			case 7:
				kept = m
			case 9: // the same speaker's next turn
				deliver(m)
				deliver(kept)
			default:
				deliver(m)
			}
		}, Summary{Reordered: 1}},
		{"of unknown origin", func(n int, deliver func(Message), m Message) {
			deliver(m)
			if n == 7 {
				deliver(Message{ID: "x", Text: "buy now"})
			}
		}, Summary{Strangers: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				long := []Conversation{{Turns: strings.Split(strings.Repeat("turn,", 20)+"end", ",")}}
				got, err := Play(t.Context(), long, build(2, test.fault), Options{Run: "r", Patience: time.Second})
				if err != nil {
					t.Fatal(err)
				}
				if got.Faultless() {
					t.Error("not found")
				}
				found := Summary{Lost: got.Lost, Duplicated: got.Duplicated, Reordered: got.Reordered, Altered: got.Altered, Strangers: got.Strangers}
				if found != test.want {
					t.Errorf("found %+v, want %+v", found, test.want)
				}
			})
		})
	}
}

func TestRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		summary, err := Play(t.Context(), talks(50), build(4, nil), Options{Run: "r", Rate: 10, Patience: time.Second})
		if err != nil || summary.Duration < 14900*time.Millisecond || summary.Duration > 15100*time.Millisecond {
			t.Errorf("150 turns at 10 a second took %v, %v", summary.Duration, err)
		}
	})
}

func TestARefusalEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conversations := append(talks(3), Conversation{Turns: []string{"refuse me"}})
		_, err := Play(t.Context(), conversations, build(2, nil), Options{Run: "r", Patience: time.Second})
		if err == nil || err.Error() != "account-0 says to account-1: refused" {
			t.Errorf("got %v", err)
		}
	})
}

func TestPlayNeedsTwo(t *testing.T) {
	if _, err := Play(t.Context(), nil, build(1, nil), Options{}); err == nil {
		t.Error("one account talked with itself")
	}
}

func TestRead(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"good", `{"language":"l","topic":"t","turns":["a","b"]}` + "\n\n" + `{"turns":["c"]}`, ""},
		{"empty", "", ""},
		{"not JSON", "{}\nx\n", "line 2: invalid character 'x' looking for beginning of value"},
		{"unknown field", `{"turn":["a"]}`, `line 1: json: unknown field "turn"`},
		{"empty turn", `{"turns":["a",""]}`, "line 1: turn 2 cannot be sent: 1 to 10000 code points of valid UTF-8"},
		{"long turn", `{"turns":["` + strings.Repeat("é", 10_001) + `"]}`, "line 1: turn 1 cannot be sent: 1 to 10000 code points of valid UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(test.file))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
