package fleet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tegami-im/tegami/cluster"
)

// Node is a member and what was seen of it.
type Node struct {
	cluster.Member
	// Info is nil where the node does not say; Err says why.
	Info    *Info
	Metrics Metrics
	// Ahead is by how much its clock is ahead of this machine's, give or take
	// Within.
	Ahead, Within time.Duration
	Err           error
}

// answerLimit bounds the wait for one node.
const answerLimit = 3 * time.Second

// errNoAdmin is that of a member of an older version.
var errNoAdmin = errors.New("it does not tell where operators reach it")

// Look asks all members at a time. One that does not answer has an error.
func Look(ctx context.Context, client *http.Client, members []cluster.Member) []Node {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	nodes := make([]Node, len(members))
	var asking sync.WaitGroup
	for i, member := range members {
		asking.Go(func() { nodes[i] = look(ctx, client, member) })
	}
	asking.Wait()
	return nodes
}

func look(ctx context.Context, client *http.Client, member cluster.Member) Node {
	node := Node{Member: member}
	if member.Admin == "" {
		node.Err = errNoAdmin
		return node
	}
	began := time.Now()
	info := new(Info)
	if node.Err = get(ctx, client, member.Admin, InfoPath, "", func(body io.Reader) error {
		return json.NewDecoder(body).Decode(info)
	}); node.Err != nil {
		return node
	}
	// The answer was made somewhere between question and arrival.
	node.Info, node.Within = info, time.Since(began)/2
	node.Ahead = info.Time.Sub(began.Add(node.Within))
	node.Err = get(ctx, client, member.Admin, "/metrics", "", func(body io.Reader) (err error) {
		node.Metrics, err = ReadMetrics(body)
		return err
	})
	return node
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

func get(ctx context.Context, client *http.Client, address, path, token string, read func(io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body := io.LimitReader(response.Body, maxAnswer)
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(body, 200))
		return fmt.Errorf("%s%s: %s: %s", address, path, response.Status, strings.TrimSpace(string(text)))
	}
	if err := read(body); err != nil {
		return fmt.Errorf("%s%s: %w", address, path, err)
	}
	return nil
}

// Metrics are the values of a scrape, by name and labels as they are written.
type Metrics map[string]float64

// ReadMetrics reads Prometheus' text format.
func ReadMetrics(text io.Reader) (Metrics, error) {
	metrics := Metrics{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		end := strings.LastIndexByte(line, ' ')
		if end < 0 || line[0] == '#' {
			continue
		}
		value, err := strconv.ParseFloat(line[end+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("no metric: %q", line)
		}
		metrics[line[:end]] = value
	}
	return metrics, lines.Err()
}

// Sum adds up the values of a metric whose labels contain all of some, each as in
// `state="open"`.
func (m Metrics) Sum(name string, labels ...string) float64 {
	sum := 0.0
next:
	for series, value := range m {
		found, rest, _ := strings.Cut(series, "{")
		if found != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(rest, label) {
				continue next
			}
		}
		sum += value
	}
	return sum
}

// Max returns the largest of the values of a metric; 0 without any.
func (m Metrics) Max(name string) float64 {
	largest := 0.0
	for series, value := range m {
		if found, _, _ := strings.Cut(series, "{"); found == name {
			largest = max(largest, value)
		}
	}
	return largest
}
