package main

import (
	"path/filepath"
	"time"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/authority"
	"github.com/tegami-im/tegami/cluster/remote"
)

type certAuthorityCommand struct {
	Dir string `default:"certs" type:"path" help:"The folder of the authority. Whoever can read ca.key in it can be any node: keep it apart."`
}

func (certAuthorityCommand) Help() string {
	return `Makes ca.pem, which every node gets (cluster.ca), and ca.key, which none does. It is good for ten years.

Examples:
  tegami admin cert authority --dir certs`
}

func (c *certAuthorityCommand) Run(std streams) error {
	if err := authority.Create(c.Dir); err != nil {
		return err
	}
	std.printf("The authority is in %s. Next: tegami admin cert node NAME --dir %s --role talk --address HOST\n", c.Dir, c.Dir)
	return nil
}

type certNodeCommand struct {
	Name    string        `arg:"" help:"What the node is called (cluster.name)."`
	Dir     string        `default:"certs" type:"path" help:"The folder of the authority."`
	Role    string        `required:"" enum:"talk,gateway,worker" help:"talk, gateway or worker."`
	Address []string      `required:"" placeholder:"HOST" help:"IP address or host name where other nodes reach it; repeatable."`
	Valid   time.Duration `default:"2160h" help:"For how long."`
}

func (certNodeCommand) Help() string {
	return `Makes NAME.pem (cluster.cert) and NAME.key (cluster.key), and replaces those that are there.

Examples:
  tegami admin cert node talk-1 --role talk --address 10.0.0.1
  tegami admin cert node gateway-1 --role gateway --address gateway-1.internal --address 10.0.0.9`
}

func (c *certNodeCommand) Run(std streams) error {
	identity := remote.Identity{Role: cluster.Role(c.Role), Name: c.Name}
	if err := authority.Issue(c.Dir, identity, c.Address, c.Valid); err != nil {
		return err
	}
	std.printf("%s is in %s, good until %s.\n", identity.URI(), filepath.Join(c.Dir, c.Name+".pem"),
		time.Now().Add(c.Valid).Format(time.DateOnly))
	return nil
}
