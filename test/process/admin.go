package process

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	tegamiv1 "github.com/tegami-im/tegami/api/gen/tegami/v1"
)

// AdminClient returns a client of the admin listener, with the token that the
// server's first start wrote.
func (s *Server) AdminClient() *Client {
	s.t.Helper()
	token, err := os.ReadFile(filepath.Join(s.options.Data, "admin.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return &Client{HTTP: HTTP1(), URL: "http://" + s.Admin, Token: strings.TrimSpace(string(token)), JSON: true}
}

// Metric reads one value, without labels, from /metrics.
func (s *Server) Metric(name string) float64 {
	s.t.Helper()
	values := s.metrics(name + " ")
	if len(values) != 1 {
		s.t.Fatalf("there are %d metrics %s, want 1", len(values), name)
	}
	return values[0]
}

// Sum adds up those values of /metrics whose name and labels begin with prefix:
// 0 when there is none.
func (s *Server) Sum(prefix string) float64 {
	s.t.Helper()
	sum := 0.0
	for _, value := range s.metrics(prefix) {
		sum += value
	}
	return sum
}

// metrics reads the values of those lines of /metrics that begin with prefix.
func (s *Server) metrics(prefix string) []float64 {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.Admin+"/metrics", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	var values []float64
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		values = append(values, value)
	}
	if err := lines.Err(); err != nil {
		s.t.Fatal(err)
	}
	return values
}

// CreateUsers makes users that do not exist yet.
func (s *Server) CreateUsers(users ...string) {
	s.t.Helper()
	admin := s.AdminClient()
	defer admin.HTTP.CloseIdleConnections()
	const page = 5000
	for len(users) > 0 {
		request := new(tegamiv1.CreateUsersRequest)
		for _, user := range users[:min(page, len(users))] {
			request.Users = append(request.Users, &tegamiv1.NewUser{UserId: user, DisplayName: strings.ToUpper(user)})
		}
		users = users[len(request.Users):]
		response := new(tegamiv1.CreateUsersResponse)
		if err := admin.Call(s.t.Context(), "AdminService/CreateUsers", request, response); err != nil {
			s.t.Fatal(fmt.Errorf("create users: %w", err))
		}
		if got := int(response.Created); got != len(request.Users) {
			s.t.Fatalf("created %d of %d users, existing: %v", got, len(request.Users), response.Existing)
		}
	}
}

// SignIn signs a device in without a password.
func (s *Server) SignIn(user, device string) *tegamiv1.IssueTokenResponse {
	s.t.Helper()
	admin := s.AdminClient()
	defer admin.HTTP.CloseIdleConnections()
	response := new(tegamiv1.IssueTokenResponse)
	request := &tegamiv1.IssueTokenRequest{UserId: user, DeviceId: device}
	if err := admin.Call(s.t.Context(), "AdminService/IssueToken", request, response); err != nil {
		s.t.Fatal(fmt.Errorf("sign in %s/%s: %w", user, device, err))
	}
	return response
}

// Device signs a device in and returns its client, with a connection of its
// own.
func (s *Server) Device(user, device string) *Client {
	s.t.Helper()
	client := &Client{HTTP: HTTP2(), URL: s.URL(), Token: s.SignIn(user, device).GetAccessToken()}
	if s.options.TLS != nil {
		client.HTTP = HTTPS(s.options.TLS)
	}
	s.t.Cleanup(client.HTTP.CloseIdleConnections)
	return client
}
