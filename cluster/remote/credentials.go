package remote

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/tegami-im/tegami/actors/supervision"
)

// renewing are the credentials of a node, which may be others for each
// connection, and say who is refused. It implements
// credentials.TransportCredentials.
type renewing struct {
	credentials.TransportCredentials // of the beginning

	settings func() *tls.Config
	log      *slog.Logger
	refusals *supervision.Seldom
}

func credentialsOf(options Options) credentials.TransportCredentials {
	settings := options.Renewed
	if settings == nil {
		settings = func() *tls.Config { return options.TLS }
	}
	return &renewing{credentials.NewTLS(identifying(options.TLS)), settings, options.Logger, new(supervision.Seldom)}
}

func (r *renewing) now() credentials.TransportCredentials {
	return credentials.NewTLS(identifying(r.settings()))
}

// ClientHandshake implements credentials.TransportCredentials.
func (r *renewing) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := r.now().ClientHandshake(ctx, authority, conn)
	if err != nil && ctx.Err() == nil {
		r.refused(false, conn, err)
	}
	return secure, info, err
}

// ServerHandshake implements credentials.TransportCredentials.
func (r *renewing) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := r.now().ServerHandshake(conn)
	if err != nil {
		r.refused(true, conn, err)
	}
	return secure, info, err
}

// refused says so, though not each time: whoever reaches the port can have it
// said.
func (r *renewing) refused(incoming bool, conn net.Conn, err error) {
	if passed, due := r.refusals.Due(time.Now()); due {
		r.log.Warn("a connection between nodes is refused", "incoming", incoming, "address", conn.RemoteAddr(), "error", err, "others", passed)
	}
}

// Clone implements credentials.TransportCredentials.
func (r *renewing) Clone() credentials.TransportCredentials {
	clone := *r
	clone.TransportCredentials = r.TransportCredentials.Clone()
	return &clone
}
