package doctor

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/tegami-im/tegami/config"
)

// port checks that an address can be listened on, or that it is a running
// server's own.
func port(ctx context.Context, c *config.Config, address string) Finding {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err == nil {
		_ = listener.Close()
		return ok("%s is free", address)
	}
	if serverRuns(ctx, c) {
		return ok("%s is in use by the running server", address)
	}
	_, number, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return problem("see tegami config --example", "%v", splitErr)
	}
	return problem("sudo ss -ltnp 'sport = :"+number+"' shows who uses it", "%v", err)
}

// serverRuns reports whether a server answers on the admin address.
func serverRuns(ctx context.Context, c *config.Config) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Admin.Listen+"/healthz", http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode == http.StatusOK
}
