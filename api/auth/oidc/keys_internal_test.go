package oidc

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// publisher is a provider whose fetches take a time and may fail.
type publisher struct {
	mu      sync.Mutex // guards the following
	fetches int
	takes   time.Duration
	away    bool
}

func (p *publisher) fetch(ctx context.Context) ([]key, error) {
	p.mu.Lock()
	p.fetches++
	n, takes, away := p.fetches, p.takes, p.away
	p.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if away {
		return nil, errors.New("away")
	}
	return []key{{id: string(rune('0' + n))}}, nil
}

func (p *publisher) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

// A key that the provider withdrew is good for as long as keys go unconfirmed.
func TestKeysAreConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(publisher)
		ring := newKeyring(p.fetch)
		for want, wait := range []time.Duration{0, confirmAfter, confirmAfter - 1, 1} {
			<-time.After(wait)
			keys, err := ring.current(t.Context())
			if want = []int{1, 2, 2, 3}[want]; err != nil || keys[0].id != string(rune('0'+want)) || p.count() != want {
				t.Errorf("after %v more: %v, %v after %d fetches, want %d", wait, keys, err, p.count(), want)
			}
		}
	})
}

func TestFetchesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(publisher)
		ring := newKeyring(p.fetch)
		const hour = 3600
		for range hour { // a key that nobody has, ten times a second
			for range 10 {
				if _, err := ring.renewed(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			<-time.After(time.Second)
		}
		most := fetchBurst + int(hour*time.Second/fetchEvery)
		if n := p.count(); n > most || n < most-1 {
			t.Errorf("%d fetches in an hour, want %d", n, most)
		}
	})
}

// While the provider is away it is asked no more often, what is known stays good,
// and who needs more is told to come again.
func TestProviderThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{away: true}
		ring := newKeyring(p.fetch)
		for range 100 {
			if keys, err := ring.current(t.Context()); !errors.Is(err, errAway) || keys != nil {
				t.Fatalf("got %v, %v", keys, err)
			}
		}
		if n := p.count(); n != fetchBurst {
			t.Errorf("%d fetches, want %d", n, fetchBurst)
		}
		p.away = false
		<-time.After(errAway.RetryAfter)
		known, err := ring.current(t.Context())
		if err != nil {
			t.Fatalf("it is back: %v", err)
		}
		p.away = true
		<-time.After(24 * time.Hour)
		if keys, err := ring.current(t.Context()); err != nil || keys[0] != known[0] {
			t.Errorf("known keys: %v, %v", keys, err)
		}
		if _, err := ring.renewed(t.Context()); !errors.Is(err, errAway) {
			t.Errorf("a key that is not known: %v", err)
		}
	})
}

// A provider that hangs holds nobody up for longer than a fetch may take, and all
// who come meanwhile wait for the same one.
func TestProviderThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{takes: time.Hour}
		ring := newKeyring(p.fetch)
		begin := time.Now()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if _, err := ring.current(t.Context()); !errors.Is(err, errAway) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begin); took != fetchTimeout || p.count() != 1 {
			t.Errorf("%v and %d fetches, want %v and 1", took, p.count(), fetchTimeout)
		}
	})
}

// Whoever gives up leaves the others their answer; known keys do for one who has
// no time to wait for their confirmation.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{takes: time.Second}
		ring := newKeyring(p.fetch)
		impatient, cancel := context.WithCancel(t.Context())
		cancel()
		first := make(chan error, 1)
		go func() {
			_, err := ring.current(impatient) // it asks: the answer is for all
			first <- err
		}()
		synctest.Wait()
		if _, err := ring.current(impatient); !errors.Is(err, context.Canceled) {
			t.Errorf("one who waits: %v", err)
		}
		known, err := ring.current(t.Context())
		if err != nil || p.count() != 1 {
			t.Errorf("one who goes on: %v after %d fetches", err, p.count())
		}
		if err := <-first; err != nil {
			t.Errorf("who asked: %v", err)
		}

		<-time.After(confirmAfter)
		var confirming sync.WaitGroup
		confirming.Go(func() { _, _ = ring.current(t.Context()) })
		synctest.Wait()
		if keys, err := ring.current(impatient); err != nil || keys[0] != known[0] {
			t.Errorf("known keys: %v, %v", keys, err)
		}
		confirming.Wait()
	})
}
