package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Validate checks what no single value shows: ranges and what keys ask of each
// other. Its error names each key at fault, one a line.
func (c *Config) Validate() error {
	var all []error
	for _, problem := range c.problems() {
		all = append(all, problem)
	}
	return errors.Join(all...)
}

// isOrigin reports whether a URL names a server and nothing on it.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && text == u.Scheme+"://"+u.Host
}

// problem is what is wrong with one key.
type problem struct{ key, text string }

func (p problem) Error() string { return p.key + ": " + p.text }

func (c *Config) problems() []problem {
	var v validation
	v.listener("server.listen", c.Server.Listen)
	v.listener("admin.listen", c.Admin.Listen)
	v.check(c.Admin.Advertise == "" || isAddress(c.Admin.Advertise), "admin.advertise", fmt.Sprintf("%q is not an address such as 10.0.0.1:7401", c.Admin.Advertise))
	v.check(c.Server.Advertise == "" || isOrigin(c.Server.Advertise), "server.advertise", "must be a URL such as https://tokyo-1.example.com:7400, without a path")
	_, err := Networks(c.Server.Proxies)
	v.check(err == nil, "server.proxies", fmt.Sprint(err))
	v.within("server.drain_timeout", c.Server.DrainTimeout, 0, 4*time.Second, "0s to 4s")
	v.within("server.drain_spread", c.Server.DrainSpread, 0, time.Minute, "0s to 1m")
	v.check((c.TLS.Cert == "") == (c.TLS.Key == ""), "tls.key", "tls.cert and tls.key are set together or not at all")
	v.exposed("server", c.Server.Listen, c.Server.AllowPlaintext || c.TLS.Cert != "",
		"set tls.cert and tls.key, or server.allow_plaintext: true behind a proxy that ends TLS")
	v.exposed("admin", c.Admin.Listen, c.Admin.AllowPlaintext,
		"set admin.allow_plaintext: true if the network is private")
	v.check(c.Data.Dir != "", "data.dir", "must name a folder")
	within(&v, "data.shards", c.Data.Shards, 1, 4096)
	within(&v, "data.cache_size", c.Data.CacheSize, 1<<20, 64<<30)
	within(&v, "data.reserve", c.Data.Reserve, 1, 1<<40)
	v.check(c.Retention.Age >= 0, "retention.age", "must not be negative")
	v.check(c.Retention.Operations >= 0, "retention.operations", "must not be negative")
	v.within("store.write_age", c.Store.WriteAge, time.Millisecond, time.Hour, "1ms to 1h")
	within(&v, "store.write_records", c.Store.WriteRecords, 1, most)
	within(&v, "store.unstored_records", c.Store.UnstoredRecords, 16, most)
	v.within("store.checkpoint_interval", c.Store.CheckpointInterval, 10*time.Millisecond, time.Hour, "10ms to 1h")
	v.within("store.start_timeout", c.Store.StartTimeout, 0, 24*time.Hour, "0s to 24h")
	v.check(c.Mailbox.PassivateAfter >= time.Second, "mailbox.passivate_after", "must be at least 1s")
	within(&v, "mailbox.idle_per_shard", c.Mailbox.IdlePerShard, 0, most)
	within(&v, "mailbox.tail_operations", c.Mailbox.TailOperations, 1, 10_000)
	within(&v, "mailbox.tail_size", c.Mailbox.TailSize, 1<<10, 1<<30)
	within(&v, "mailbox.chat_copies", c.Mailbox.ChatCopies, 1, 500)
	v.within("auth.access_token", c.Auth.AccessToken, 10*time.Second, 24*time.Hour, "10s to 24h")
	within(&v, "auth.hashes", c.Auth.Hashes, 1, 64)
	v.within("auth.hash_wait", c.Auth.HashWait, time.Millisecond, time.Minute, "1ms to 1m")
	v.check(c.Auth.RefreshToken > c.Auth.AccessToken, "auth.refresh_token", "must be longer than auth.access_token")
	c.Auth.checkProvider(&v)
	within(&v, "audit.rate", c.Audit.Rate, 0, 1_000_000)
	within(&v, "tracing.per_million", c.Tracing.PerMillion, 0, 1_000_000)
	c.Limits.check(&v)
	c.Worker.check(&v)
	c.checkTasks(&v)
	c.Behaviour.check(&v)
	c.Cluster.check(&v)
	if c.Store.Kind == StoreHybrid {
		c.Kafka.check(&v)
		c.HBase.check(&v)
		c.Redis.check(&v)
		c.Events.check(&v)
		c.checkTopics(&v)
	}
	return v.problems
}

// userIDStart is what a user id may begin with, with room for more behind it.
var userIDStart = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,31}$`)

func (a *Auth) checkProvider(v *validation) {
	if a.OIDCIssuer == "" {
		const useless = "is of no use without auth.oidc_issuer"
		v.check(a.OIDCAudience == "", "auth.oidc_audience", useless)
		v.check(a.OIDCPrefix == "", "auth.oidc_prefix", useless)
		v.check(a.OIDCCA == "", "auth.oidc_ca", useless)
		v.check(!a.OIDCRegister, "auth.oidc_register", useless)
		return
	}
	v.check(isIssuer(a.OIDCIssuer), "auth.oidc_issuer", "must be a URL such as https://login.example.com/realms/one: https, unless it is on this machine")
	v.check(a.OIDCAudience != "", "auth.oidc_audience", "must be the client id that the provider issues tokens for")
	v.check(a.OIDCClaim != "", "auth.oidc_claim", "must name a claim")
	v.check(a.OIDCPrefix == "" || userIDStart.MatchString(a.OIDCPrefix), "auth.oidc_prefix", "must be 1 to 32 of a-z0-9._- starting with a letter")
	v.check(a.Registration != RegistrationOpen, "auth.registration",
		"must not be open with auth.oidc_issuer: whoever registered a name first would keep a password for the account of its owner")
}

// isIssuer reports whether a URL can be that of an OpenID provider whose keys
// nobody on the way can replace.
func isIssuer(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.ContainsAny(text, "?#") {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && IsLoopback(net.JoinHostPort(u.Hostname(), "0"))
}

func (c *Cluster) check(v *validation) {
	v.listener("cluster.listen", c.Listen)
	v.check(c.Advertise == "" || isAddress(c.Advertise), "cluster.advertise", fmt.Sprintf("%q is not an address such as 10.0.0.1:7500", c.Advertise))
	v.check(c.Cert != "" || IsLoopback(c.Listen), "cluster.listen",
		c.Listen+" is reachable from other machines without TLS: set cluster.cert, cluster.key and cluster.ca")
	v.check(c.Advertise != "" || !everyInterface(c.Listen), "cluster.advertise",
		"must say where other nodes reach this one, since cluster.listen is every address of the machine")
	v.check((c.Cert == "") == (c.Key == "") && (c.Cert == "") == (c.CA == ""), "cluster.cert",
		"cluster.cert, cluster.key and cluster.ca are set together or not at all")
	within(v, "cluster.weight", c.Weight, 1, 10_000)
	v.check(c.Membership != MembershipEtcd || c.Etcd != "", "cluster.etcd", "must name a server")
	v.check((c.EtcdUser == "") == (c.EtcdPassword == ""), "cluster.etcd_user", "needs cluster.etcd_password_file, and that a user")
	v.check(c.EtcdUser == "" || c.EtcdTLS, "cluster.etcd_user", "its password is sent as it is: set cluster.etcd_tls")
	v.check(c.EtcdCA == "" || c.EtcdTLS, "cluster.etcd_ca", "is of no use without cluster.etcd_tls")
	v.check(c.Membership != MembershipKubernetes || isLabel(c.KubeCluster), "cluster.kubernetes_cluster",
		fmt.Sprintf("%q is no value of a label: 1 to 63 letters, digits, dots, underscores and hyphens, the first and the last a letter or digit", c.KubeCluster))
	v.within("cluster.lease", c.Lease, 2*time.Second, time.Minute, "2s to 1m")
	v.check(c.Lease%time.Second == 0, "cluster.lease", "must be whole seconds")
	for member := range strings.SplitSeq(c.Members, ",") {
		name, address, _ := strings.Cut(strings.TrimSpace(member), "=")
		v.check(c.Members == "" || name != "" && isAddress(address), "cluster.members",
			fmt.Sprintf("%q is not a member such as talk-1=10.0.0.1:7500", member))
	}
}

func (k *Kafka) check(v *validation) {
	v.check(k.Brokers != "", "kafka.brokers", "must name a broker")
	within(v, "kafka.replicas", k.Replicas, 1, 32)
	v.within("kafka.timeout", k.Timeout, 10*time.Millisecond, time.Minute, "10ms to 1m")
	v.check(k.Keep >= 0, "kafka.keep", "must not be negative")
	v.within("kafka.truncate", k.Truncate, 0, 24*time.Hour, "0s to 24h")
	v.check(k.Mechanism == "none" || k.User != "" && k.PasswordFile != "", "kafka.mechanism", "needs kafka.user and kafka.password_file")
	v.check(k.Mechanism != "PLAIN" || k.TLS, "kafka.mechanism", "PLAIN sends the password as it is: set kafka.tls")
	v.check(k.CA == "" || k.TLS, "kafka.ca", "is of no use without kafka.tls")
}

func (h *HBase) check(v *validation) {
	v.check(h.ZooKeeper != "", "hbase.zookeeper", "must name a server")
	within(v, "hbase.regions", h.Regions, 1, 4096)
	v.within("hbase.timeout", h.Timeout, 10*time.Millisecond, time.Minute, "10ms to 1m")
	within(v, "hbase.requests", h.Requests, 1, 4096)
	within(v, "hbase.writers", h.Writers, 1, 1024)
	within(v, "hbase.loads", h.Loads, 1, 1024)
}

func (r *Redis) check(v *validation) {
	v.check(r.Cluster || !strings.Contains(r.Addresses, ","), "redis.addresses", "several need redis.cluster")
	v.check(r.User == "" || r.PasswordFile != "", "redis.user", "needs redis.password_file")
	v.check(r.CA == "" || r.TLS, "redis.ca", "is of no use without redis.tls")
	v.check(!strings.ContainsAny(r.Prefix, "{}"), "redis.prefix", "must not hold braces")
	v.check(r.Expiry >= time.Minute, "redis.expiry", "must be at least 1m")
	within(v, "redis.rows", r.Rows, 1, 100_000)
	v.within("redis.timeout", r.Timeout, time.Millisecond, 10*time.Second, "1ms to 10s")
	within(v, "redis.connections", r.Connections, 1, 1024)
}

func (e *Events) check(v *validation) {
	within(v, "events.partitions", e.Partitions, 1, 4096)
	v.within("events.retention", e.Retention, time.Minute, 87_600*time.Hour, "1m to 87600h")
}

func (w *Worker) check(v *validation) {
	v.listener("worker.listen", w.Listen)
	v.exposed("worker", w.Listen, w.AllowPlaintext, "set worker.allow_plaintext: true if the network is private")
	v.check(w.Group != "", "worker.group", "must name groups")
	within(v, "worker.in_flight", w.InFlight, 1, 10_000)
	within(v, "worker.window", w.Window, 1, most)
	within(v, "worker.key_queue", w.KeyQueue, 1, most)
	within(v, "worker.attempts", w.Attempts, 1, 1000)
	v.within("worker.backoff", w.Backoff, time.Millisecond, time.Hour, "1ms to 1h")
	v.within("worker.backoff_max", w.BackoffMax, w.Backoff, 24*time.Hour, "worker.backoff to 24h")
	v.within("worker.timeout", w.Timeout, 10*time.Millisecond, 10*time.Minute, "10ms to 10m")
	v.within("worker.session_timeout", w.SessionTimeout, time.Second, 5*time.Minute, "1s to 5m")
	v.check(w.DrainTimeout >= 0 && w.DrainTimeout < w.SessionTimeout, "worker.drain_timeout", "must be less than worker.session_timeout")
}

// checkTopics checks that the names of topics are such, and differ: who wrote to
// another's topic would harm what is in it.
func (c *Config) checkTopics(v *validation) {
	taken := map[string]string{}
	for _, topic := range []struct{ key, name string }{
		{"kafka.topic", c.Kafka.Topic},
		{"kafka.topic", c.Kafka.Topic + ".generations"},
		{"events.topic", c.Events.Topic},
		{"worker.tasks", c.Worker.Tasks + ".retry"},
		{"worker.tasks", c.Worker.Tasks + ".dead"},
		{"analytics.topic", c.Analytics.Topic},
	} {
		other, used := taken[topic.name]
		switch {
		case !topicName.MatchString(topic.name):
			v.check(false, topic.key, fmt.Sprintf("%q is no name of a topic: 1 to 249 letters, digits, dots, underscores and hyphens, the first no dot or hyphen", topic.name))
		case used:
			v.check(false, topic.key, fmt.Sprintf("%q is a topic of %s", topic.name, other))
		}
		taken[topic.name] = topic.key
	}
}

// topicName is what Kafka takes, but for names that begin with a dot or hyphen.
var topicName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,248}$`)

// checkTasks checks the sections of those tasks that are to run.
func (c *Config) checkTasks(v *validation) {
	if c.Webhook.URLs != "" {
		v.check(c.Webhook.SecretFile != "", "webhook.secret_file", "must name a file: requests are signed")
		v.within("webhook.timeout", c.Webhook.Timeout, 10*time.Millisecond, c.Worker.Timeout, "10ms to worker.timeout")
	}
	if c.Push.URL != "" {
		v.check(c.Push.SecretFile != "", "push.secret_file", "must name a file: requests are signed")
		v.check(c.Push.MaxAge >= time.Second, "push.max_age", "must be at least 1s")
		v.within("push.timeout", c.Push.Timeout, 10*time.Millisecond, c.Worker.Timeout, "10ms to worker.timeout")
	}
}

func (b *Behaviour) check(v *validation) {
	within(v, "behaviours.rate", b.Rate, 1, 10_000)
	v.within("behaviours.timeout", b.Timeout, 10*time.Millisecond, time.Minute, "10ms to 1m")
	v.check(b.Hooks == "" || b.SecretFile != "", "behaviours.secret_file", "must name a file: requests are signed")
	runs := map[string]bool{}
	for _, key := range []struct{ name, value, example string }{
		{"behaviours.run", b.Run, "reminder=reminder"},
		{"behaviours.hooks", b.Hooks, "bridge=https://example.org/hook"},
	} {
		seen := map[string]bool{}
		for entry := range strings.SplitSeq(key.value, ",") {
			user, value, _ := strings.Cut(strings.TrimSpace(entry), "=")
			v.check(key.value == "" || user != "" && value != "", key.name, fmt.Sprintf("%q is not such as %s", entry, key.example))
			v.check(key.value == "" || !seen[user], key.name, fmt.Sprintf("%s is there twice", user))
			v.check(key.value == "" || key.name == "behaviours.run" || runs[user], key.name, fmt.Sprintf("%s is none of behaviours.run", user))
			seen[user] = true
		}
		if key.name == "behaviours.run" {
			runs = seen
		}
	}
}

// most is above every sensible rate or number.
const most = 1_000_000

func (l *Limits) check(v *validation) {
	within(v, "limits.send_rate", l.SendRate, 1, most)
	within(v, "limits.send_burst", l.SendBurst, 1, most)
	within(v, "limits.poll_rate", l.PollRate, 1, most)
	within(v, "limits.poll_burst", l.PollBurst, 1, most)
	v.within("limits.poll_timeout", l.PollTimeout, time.Second, 2*time.Minute, "1s to 2m")
	within(v, "limits.address_rate", l.AddressRate, 1, most)
	within(v, "limits.address_burst", l.AddressBurst, 1, most)
	within(v, "limits.request_size", l.RequestSize, 128<<10, 16<<20)
	within(v, "limits.admin_size", l.AdminSize, 128<<10, 64<<20)
	within(v, "limits.requests", l.Requests, 8, most)
	within(v, "limits.held_polls", l.HeldPolls, 1, 10*most)
	within(v, "limits.handshakes", l.Handshakes, 1, most)
	within(v, "limits.connections", l.Connections, 1, 10*most)
	within(v, "limits.streams", l.Streams, 1, most)
	within(v, "limits.commands", l.Commands, 1, most)
	within(v, "limits.shard_commands", l.ShardCommands, 1, most)
	within(v, "limits.mailbox_commands", l.MailboxCommands, 1, most)
}

type validation struct{ problems []problem }

func (v *validation) check(ok bool, key, text string) {
	if !ok {
		v.problems = append(v.problems, problem{key, text})
	}
}

func (v *validation) within(key string, d, low, high time.Duration, bounds string) {
	v.check(d >= low && d <= high, key, "must be "+bounds)
}

func within[N int | int64 | Bytes](v *validation, key string, n, low, high N) {
	v.check(n >= low && n <= high, key, fmt.Sprintf("must be %v to %v", low, high))
}

// everyInterface reports whether a listen address is every one of the machine's.
func everyInterface(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip, parsed := netip.ParseAddr(host)
	return err == nil && (host == "" || parsed == nil && ip.IsUnspecified())
}

var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// isLabel reports whether Kubernetes takes a text for the value of a label.
func isLabel(text string) bool { return label.MatchString(text) }

// isAddress reports whether an address has a host and a port.
func isAddress(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	return err == nil
}

func (v *validation) listener(key, address string) {
	v.check(isAddress(address), key, fmt.Sprintf("%q is not an address such as 127.0.0.1:7400", address))
}

// exposed refuses an address that other machines reach, unless allowed.
func (v *validation) exposed(section, address string, allowed bool, remedy string) {
	v.check(allowed || IsLoopback(address), section+".listen",
		fmt.Sprintf("%s is reachable from other machines without TLS: %s", address, remedy))
}

// Networks returns the networks in a list with commas between them; an address is
// one of its own.
func Networks(list string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		if address, err := netip.ParseAddr(text); err == nil {
			networks = append(networks, netip.PrefixFrom(address, address.BitLen()))
			continue
		}
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no address or network such as 10.0.0.0/8", text)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// IsLoopback reports whether only this machine reaches a listen address. A
// name other than localhost is not looked up and counts as reachable.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
