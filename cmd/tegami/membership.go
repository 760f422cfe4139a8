package main

import (
	"context"
	"fmt"
	"io"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/etcd"
	"github.com/tegami-im/tegami/cluster/kubernetes"
	"github.com/tegami-im/tegami/config"
)

// membersObserver is a membersView that follows the members until it is closed.
type membersObserver interface {
	membersView
	io.Closer
}

// joinedMembership is one whose members tell how loaded they are, too.
type joinedMembership interface {
	cluster.Membership
	SetLoad(ctx context.Context, load float64) error
}

// joinCluster makes this process a member, where the members are known while they
// live.
func (s *service) joinCluster(ctx context.Context, self cluster.Member) (joinedMembership, error) {
	if s.config.Cluster.Membership == config.MembershipKubernetes {
		return kubernetes.Join(ctx, s.kubernetesOptions(), self)
	}
	options, err := s.etcdOptions()
	if err != nil {
		return nil, err
	}
	return etcd.Join(ctx, options, self)
}

// observeCluster learns who the members are, and goes on to.
func (s *service) observeCluster(ctx context.Context) (membersView, error) {
	var (
		observer membersObserver
		err      error
	)
	if s.config.Cluster.Membership == config.MembershipKubernetes {
		observer, err = kubernetes.Observe(ctx, s.kubernetesOptions())
	} else {
		var options etcd.Options
		if options, err = s.etcdOptions(); err == nil {
			observer, err = etcd.Observe(ctx, options)
		}
	}
	if err != nil {
		return nil, err
	}
	s.observer = observer
	return observer, nil
}

func (s *service) kubernetesOptions() kubernetes.Options {
	c := s.config.Cluster
	return kubernetes.Options{
		Server: c.KubeServer, Namespace: c.KubeSpace, Cluster: c.KubeCluster, TokenFile: c.KubeToken, CAFile: c.KubeCA,
		Lease: c.Lease, Logger: s.log.With("service", "kubernetes"),
	}
}

func (s *service) etcdOptions() (options etcd.Options, err error) {
	c := s.config.Cluster
	options = etcd.Options{
		Endpoints: list(c.Etcd), Prefix: c.EtcdPrefix, Lease: c.Lease, User: c.EtcdUser, Logger: s.log.With("service", "etcd"),
	}
	if c.EtcdTLS {
		if options.TLS, err = clientTLS(c.EtcdCA); err != nil {
			return options, fmt.Errorf("cluster.etcd_ca: %w", err)
		}
	}
	if c.EtcdUser != "" {
		if options.Password, err = readPassword(c.EtcdPassword); err != nil {
			return options, fmt.Errorf("cluster.etcd_password_file: %w", err)
		}
	}
	return options, nil
}
