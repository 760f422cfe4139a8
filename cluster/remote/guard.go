package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	protoremote "github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tegami-im/tegami/actors/wire"
	"github.com/tegami-im/tegami/cluster"
)

// identityScheme begins the name, a URI, that the certificate of a node has
// for it: tegami://talk/talk-1.
const identityScheme = "tegami"

// Identity is who a certificate says that a node is.
type Identity struct {
	Role cluster.Role
	// Name is what the node is called in all its runs.
	Name string
}

// URI returns the identity as it stands in a certificate.
func (i Identity) URI() *url.URL {
	return &url.URL{Scheme: identityScheme, Host: string(i.Role), Path: "/" + i.Name}
}

// ErrIdentity is returned for a certificate that names no node.
var ErrIdentity = errors.New("the certificate names no node: it needs a URI such as tegami://talk/talk-1")

// identify returns the identity in the certificate of the other end.
func identify(connection tls.ConnectionState) (Identity, error) {
	if len(connection.PeerCertificates) == 0 {
		return Identity{}, ErrIdentity
	}
	return IdentityOf(connection.PeerCertificates[0])
}

// IdentityOf returns the identity in a certificate. Error: ErrIdentity.
func IdentityOf(certificate *x509.Certificate) (Identity, error) {
	for _, uri := range certificate.URIs {
		identity := Identity{cluster.Role(uri.Host), strings.TrimPrefix(uri.Path, "/")}
		if uri.Scheme == identityScheme && identity.Name != "" && *uri == *identity.URI() &&
			slices.Contains([]cluster.Role{cluster.RoleTalk, cluster.RoleGateway, cluster.RoleWorker}, identity.Role) {
			return identity, nil
		}
	}
	return Identity{}, ErrIdentity
}

// identifying returns settings under which both ends must be nodes, beside what
// else is verified.
func identifying(settings *tls.Config) *tls.Config {
	settings = settings.Clone()
	settings.VerifyConnection = func(connection tls.ConnectionState) error {
		_, err := identify(connection)
		return err
	}
	return settings
}

// refuseUnary refuses the calls that list the actors of a node: the library
// answers them with a panic.
func refuseUnary(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, status.Error(codes.PermissionDenied, "not for others")
}

// guarding lets nothing through but frames of the node at the other end, and
// has a connection end on which anything else comes: the library would bear
// some of it badly, and do the rest.
func guarding(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
		defer func() {
			if failed := recover(); failed != nil {
				log.Error("a connection of another node failed", "reason", failed)
				err = status.Error(codes.InvalidArgument, "malformed")
			}
		}()
		guarded := &guard{ServerStream: stream}
		if other, ok := peer.FromContext(stream.Context()); ok {
			if secure, ok := other.AuthInfo.(credentials.TLSInfo); ok {
				identity, err := identify(secure.State)
				if err != nil {
					return status.Error(codes.Unauthenticated, err.Error())
				}
				guarded.name, guarded.role = identity.Name, identity.Role
			}
		}
		err = handler(server, guarded)
		if guarded.refused != nil {
			log.Error("a connection of another node is ended", "node", guarded.name, "reason", guarded.refused)
			return status.Error(codes.InvalidArgument, guarded.refused.Error())
		}
		return err
	}
}

// guard is a stream that gives the library what it may have.
type guard struct {
	grpc.ServerStream
	name    string // of the other end; empty in cleartext
	role    cluster.Role
	refused error
}

// RecvMsg implements grpc.ServerStream.
func (g *guard) RecvMsg(message any) error {
	if err := g.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	m, ok := message.(*protoremote.RemoteMessage)
	if !ok {
		g.refused = fmt.Errorf("a message of type %T", message)
		return g.refused
	}
	g.refused = g.check(m)
	return g.refused
}

var frameType = string(new(wire.Frame).ProtoReflect().Descriptor().FullName())

// check returns what is wrong with a message.
func (g *guard) check(m *protoremote.RemoteMessage) error {
	if m.GetConnectRequest() != nil {
		return nil
	}
	batch := m.GetMessageBatch()
	if batch == nil {
		return errors.New("neither a connection nor a batch")
	}
	for _, e := range batch.GetEnvelopes() {
		target, kind := int(e.GetTarget()), int(e.GetTypeId())
		switch {
		case target < 0 || target >= len(batch.GetTargets()) || batch.GetTargets()[target] != framesActor:
			return errors.New("a message for an actor that is not for others")
		case kind < 0 || kind >= len(batch.GetTypeNames()) || batch.GetTypeNames()[kind] != frameType:
			return errors.New("a message that is no frame")
		case e.GetSender() != 0 || e.GetSerializerId() != 0 || e.GetMessageHeader() != nil:
			return errors.New("a frame with more than a frame has")
		case !g.sent(e.GetMessageData()):
			return errors.New("a frame in the name of another node")
		}
		if err := permitted(g.role, e.GetMessageData()); err != nil {
			return err
		}
	}
	return nil
}

// sent reports whether a frame is from the node at the other end: a member's id
// is its name, which a dot and the run may follow.
func (g *guard) sent(frame []byte) bool {
	if g.name == "" {
		return true
	}
	from := sender(frame)
	run, ok := strings.CutPrefix(from, g.name+".")
	return from == g.name || ok && !strings.Contains(run, ".") // else the name has a dot, and is another's
}

// sender returns who an encoded frame says that it is from.
func sender(frame []byte) (from string) {
	for len(frame) > 0 {
		number, kind, n := protowire.ConsumeTag(frame)
		if n < 0 {
			return ""
		}
		frame = frame[n:]
		if number == 1 && kind == protowire.BytesType {
			value, n := protowire.ConsumeString(frame)
			if n < 0 {
				return ""
			}
			from, frame = value, frame[n:] // the last one counts
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, frame); n < 0 {
			return ""
		}
		frame = frame[n:]
	}
	return from
}
