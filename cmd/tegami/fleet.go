package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/node"
	"github.com/tegami-im/tegami/api/auth"
	"github.com/tegami-im/tegami/api/server"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/remote"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/config/reload"
	"github.com/tegami-im/tegami/persistence/sealing"
	"github.com/tegami-im/tegami/telemetry"
)

type talkCommand struct {
	configFlags
}

func (talkCommand) Help() string {
	return `Runs a talk node of a cluster until it is interrupted: it owns shards, on the stores that all talk nodes share (store.kind: hybrid), and has no clients of its own. SIGTERM hands its shards over to the others.

Examples:
  tegami talk --config /etc/tegami.yaml --set cluster.name=talk-1
  tegami talk --set store.kind=hybrid --set cluster.listen=127.0.0.1:7501 --admin 127.0.0.1:7411 --data talk-1`
}

// Run runs one node after the other: one that was evicted from the cluster
// stops and returns under another id.
func (c *talkCommand) Run(ctx context.Context, std streams) error {
	setCollection()
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	log := newLogger(loaded.Log, std)
	if err := checkTalk(&loaded.Config); err != nil {
		return err
	}
	for returning := false; ; returning = true {
		s, err := assembleTalk(ctx, &loaded.Config, log)
		switch {
		case err == nil:
			err = s.serve(ctx, std)
		case returning && ctx.Err() == nil: // what it was cut off from may still be away
			log.Warn("cannot return to the cluster yet", "error", err)
			select {
			case <-time.After(returnAgain):
				continue
			case <-ctx.Done():
			}
		}
		if !errors.Is(err, cluster.ErrEvicted) || ctx.Err() != nil {
			return err
		}
		log.Warn("returning to the cluster as a new member")
	}
}

// returnAgain is when a talk node that was evicted tries once more to return.
const returnAgain = time.Second

type gatewayCommand struct {
	configFlags

	Takeover bool `help:"Take the place of the gateway that runs on this data folder, if one does: with its listening sockets, so that no connection is refused. It then ends by itself."`
}

func (gatewayCommand) Help() string {
	return `Runs a gateway of a cluster until it is interrupted: it holds the connections of clients and keeps no messages. Talk nodes may come and go behind it. In its data folder are its secrets alone; with a static membership all gateways need the same signing.key.

Examples:
  tegami gateway --config /etc/tegami.yaml --listen :7400
  tegami gateway --config /etc/tegami.yaml --takeover
  tegami gateway --set cluster.membership=static --set cluster.members=talk-1=127.0.0.1:7501 --data gateway-1`
}

func (c *gatewayCommand) Run(ctx context.Context, std streams) error {
	setCollection()
	loaded, err := c.load(std)
	if err != nil {
		return err
	}
	succession, err := succeed(ctx, &loaded.Config, c.Takeover)
	if err != nil {
		return err
	}
	s, err := assembleGateway(ctx, &loaded.Config, newLogger(loaded.Log, std), succession)
	if err != nil {
		return err
	}
	s.greet(std)
	return s.serve(ctx, std)
}

// checkTalk refuses what would have each of several talk nodes keep messages
// of its own.
func checkTalk(c *config.Config) error {
	if c.Store.Kind == config.StoreHybrid ||
		c.Cluster.Membership == config.MembershipStatic && len(list(c.Cluster.Members)) == 1 {
		return nil
	}
	return usagef("store.kind: talk nodes share their stores, which takes hybrid; embedded is for a static membership of one")
}

// assembleTalk puts a talk node together, in the order in which things need
// each other: stores, the listener for other nodes, membership, actors.
func assembleTalk(ctx context.Context, c *config.Config, log *slog.Logger) (_ *service, err error) {
	s := newService(c, log)
	defer s.closeOnError(ctx, &err)
	metrics := telemetry.New()
	if err = s.openStorage(ctx, metrics); err != nil {
		return nil, err
	}
	s.storage.measure(metrics)
	if s.network, err = listenCluster(c, log); err != nil { //nolint:contextcheck // it outlives ctx, until close
		return nil, err
	}
	self, err := s.join(ctx)
	if err != nil {
		return nil, err
	}
	s.watch(metrics, s.membership)
	options := nodeOptions(c, s.storage, sealing.NewRing(s.storage.keys, sealing.DefaultRingSize, sealing.DefaultRingReads))
	options.Cluster = &node.Cluster{Self: self, Membership: s.membership, Network: s.network}
	options.Cluster.Teller, _ = s.membership.(cluster.Teller)
	options.Cluster.Doubter, _ = s.membership.(cluster.Doubter)
	if options.Behaviours, err = configuredBehaviours(c); err != nil {
		return nil, err
	}
	if err := s.startNode(ctx, options, metrics); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Data.Dir, 0o700); err != nil {
		return nil, err
	}
	token, err := auth.LoadOrCreateAdminToken(filepath.Join(c.Data.Dir, adminTokenFile))
	if err != nil {
		return nil, err
	}
	admin, err := listenAdmin(c.Admin.Listen, s.adminHandlers(metrics, token), s.node.Ready)
	if err != nil {
		return nil, err
	}
	s.api = admin
	return s, nil
}

// assembleGateway puts a gateway together.
func assembleGateway(ctx context.Context, c *config.Config, log *slog.Logger, succession *succession) (_ *service, err error) {
	s := newService(c, log)
	s.succession = succession
	defer s.closeOnError(ctx, &err)
	metrics := telemetry.New()
	if s.network, err = succession.listenCluster(ctx, c, log); err != nil {
		return nil, err
	}
	self := s.member(cluster.RoleGateway)
	self.ID = self.Name + "." + runID()
	self.URL = c.Server.Advertise
	membership, err := s.observe(ctx)
	if err != nil {
		return nil, err
	}
	s.watch(metrics, membership)
	options := nodeOptions(c, &storage{shards: c.Data.Shards}, nil)
	options.Cluster = &node.Cluster{Self: self, Membership: membership, Network: s.network}
	if err := s.startNode(ctx, options, metrics); err != nil {
		return nil, err
	}
	apiOptions, err := s.apiOptions(metrics)
	if err != nil {
		return nil, err
	}
	if s.observer != nil {
		if err := s.publishKey(ctx, &apiOptions); err != nil {
			return nil, err
		}
	}
	apiOptions.Listeners, apiOptions.Region = succession.listeners, c.Cluster.Region
	apiOptions.Gateways = func() []server.Gateway { return s.gateways(membership) }
	public, err := server.New(apiOptions, s.node) //nolint:contextcheck // it outlives ctx, to be drained
	if err != nil {
		return nil, err
	}
	s.api, s.public = public, public
	if s.observer != nil {
		s.enlist(self) //nolint:contextcheck // it ends with the service
	}
	return s, nil
}

// closeOnError closes what was put together before it failed.
func (s *service) closeOnError(ctx context.Context, err *error) {
	if *err != nil {
		*err = errors.Join(*err, s.close(context.WithoutCancel(ctx)))
	}
}

// member returns this node as a member without an id.
func (s *service) member(role cluster.Role) cluster.Member {
	name := s.config.Cluster.Name
	if name == "" {
		name, _ = os.Hostname()
	}
	return cluster.Member{
		Name: name, Address: s.network.Address(), Admin: adminAddress(s.config), Role: role, State: cluster.StateActive,
		Weight: s.config.Cluster.Weight, Version: readVersion().Version, Apply: mailbox.ApplyVersion, Region: s.config.Cluster.Region,
	}
}

func runID() string {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // crypto/rand never fails: it ends the program instead
	return hex.EncodeToString(id)
}

// joinTimeout bounds the wait for who keeps the membership, at a start.
const joinTimeout = 10 * time.Second

// join makes this talk node a member.
func (s *service) join(ctx context.Context) (cluster.Member, error) {
	self := s.member(cluster.RoleTalk)
	if s.config.Cluster.Membership == config.MembershipStatic {
		static, err := cluster.NewStatic(self.Name, s.staticMembers())
		if err != nil {
			return self, usageError{fmt.Errorf("cluster.members: %w: set cluster.name to the name of one of them", err)}
		}
		s.membership = static
		return static.Self(), nil
	}
	// It serves none so far, so that those who have its shards go on.
	self.Serves = cluster.NewShardSet(s.storage.shards, func(uint32) bool { return false })
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	joined, err := s.joinCluster(ctx, self)
	if err != nil {
		return self, err
	}
	s.membership = joined
	return joined.Self(), nil
}

// membersView is the membership as one that is no member sees it.
type membersView interface {
	node.Membership
	Snapshot() cluster.Snapshot
}

// observe learns who the members are.
func (s *service) observe(ctx context.Context) (membersView, error) {
	if s.config.Cluster.Membership == config.MembershipStatic {
		members, err := cluster.NewSnapshot(1, s.staticMembers())
		if err != nil {
			return nil, usageError{fmt.Errorf("cluster.members: %w", err)}
		}
		feed := new(cluster.Feed)
		feed.Publish(members)
		return feed, nil
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	return s.observeCluster(ctx)
}

// staticMembers returns the talk nodes that are written down. Their names are
// their ids: they are the same in each run. Nobody tells their versions: they are
// taken to be of this program's.
func (s *service) staticMembers() []cluster.Member {
	var members []cluster.Member
	for _, one := range list(s.config.Cluster.Members) {
		name, address, _ := strings.Cut(one, "=")
		members = append(members, cluster.Member{
			ID: name, Name: name, Address: address, Role: cluster.RoleTalk,
			State: cluster.StateActive, Weight: cluster.DefaultWeight, Apply: mailbox.ApplyVersion,
		})
	}
	return members
}

// listenCluster hears other nodes.
func listenCluster(c *config.Config, log *slog.Logger) (*remote.Remote, error) {
	options := remote.Options{Listen: c.Cluster.Listen, Advertise: c.Cluster.Advertise, Logger: log}
	if c.Cluster.Cert != "" {
		files := []string{c.Cluster.Cert, c.Cluster.Key, c.Cluster.CA}
		settings, err := reload.New(files, log, func() (*tls.Config, error) { return clusterTLS(c.Cluster) })
		if err != nil {
			return nil, fmt.Errorf("cluster.cert: %w", err)
		}
		options.TLS, options.Renewed = settings.Get(), settings.Get
	}
	return remote.Listen(options)
}

// clusterTLS has both ends of a connection show a certificate of the cluster's
// authority.
func clusterTLS(c config.Cluster) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	switch identity, err := remote.IdentityOf(certificate.Leaf); {
	case err != nil:
		return nil, err
	case identity.Name != c.Name:
		return nil, fmt.Errorf("the certificate is that of %q: set cluster.name to it", identity.Name)
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", c.CA)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{certificate},
		RootCAs:      authorities,
		ClientCAs:    authorities,
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}, nil
}
