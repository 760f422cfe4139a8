// Package config is the configuration of a Tegami server: one typed structure
// and the layers that fill it.
//
// A key is a section and a name, such as "server.listen". Its value comes from
// the last of these layers that sets it:
//
//  1. the default,
//  2. the YAML file, where the section is a mapping: unknown keys are refused,
//  3. the environment, as TEGAMI_SERVER_LISTEN,
//  4. a flag of the command line.
//
// [Load] reads them all and checks the result, so that whoever holds a Loaded
// holds a configuration that a server can start with. Each key is declared
// once, as a field of [Config] with its default and its documentation in the
// tags: the commented example file and docs/configuration.md come from there.
package config

import "time"

// Config holds every setting of a server. The zero Config is not useful; start
// from [Default] or [Load].
type Config struct {
	Server    Server    `yaml:"server" doc:"The listener that clients connect to."`
	Admin     Admin     `yaml:"admin" doc:"The listener for operators: metrics, health, profiles, backups and the admin calls."`
	TLS       TLS       `yaml:"tls" doc:"Encryption of the client listener. Both or neither are set."`
	Data      Data      `yaml:"data" doc:"Where everything is kept."`
	Journal   Journal   `yaml:"journal" doc:"What an acknowledged message has survived."`
	Retention Retention `yaml:"retention" doc:"How long operations are kept. What is removed is gone for every device."`
	Store     Store     `yaml:"store" doc:"Where data is kept, and how the store follows the journal. What it has not yet is replayed at a start."`
	Kafka     Kafka     `yaml:"kafka" doc:"The journal of a hybrid store."`
	HBase     HBase     `yaml:"hbase" doc:"The store and the keys of a hybrid store."`
	Redis     Redis     `yaml:"redis" doc:"The cache of a hybrid store. It may lose anything at any time."`
	Events    Events    `yaml:"events" doc:"What a hybrid store tells other services, in a topic of its Kafka: docs/events.md."`
	Worker    Worker    `yaml:"worker" doc:"The background task processor, tegami worker, which reads the events of a hybrid store. See docs/tasks.md."`
	Webhook   Webhook   `yaml:"webhook" doc:"The task that posts events to URLs."`
	Push      Push      `yaml:"push" doc:"The task that tells a push gateway of messages for devices that hold no poll."`
	Analytics Analytics `yaml:"analytics" doc:"The task that counts messages by minute."`
	Cluster   Cluster   `yaml:"cluster" doc:"The nodes of a cluster: those of tegami talk own shards, those of tegami gateway hold the connections. tegami serve is alone and needs none of it."`
	Behaviour Behaviour `yaml:"behaviours" doc:"Bots and other behaviours that run inside the server: docs/behaviours.md. All nodes of a cluster have the same."`
	Mailbox   Mailbox   `yaml:"mailbox" doc:"The actors that hold a user's state in memory."`
	Auth      Auth      `yaml:"auth" doc:"Accounts, passwords and tokens."`
	Limits    Limits    `yaml:"limits" doc:"What one user, device or request may take. Beyond it the answer is resource_exhausted."`
	Audit     Audit     `yaml:"audit" doc:"A slow look at all that is stored, round and round: journal, store and cache are held against each other, and what disagrees is logged and counted. tegami correct mends it. A server audits its data folder; a hybrid store is audited by each tegami worker."`
	Tracing   Tracing   `yaml:"tracing" doc:"Traces of single messages through the actors. They name no user and hold no text."`
	Log       Log       `yaml:"log" doc:"What the server writes to its standard error. Message bodies and tokens are never logged."`
}

// Server is the section of the client listener.
type Server struct {
	Listen         string        `yaml:"listen" default:"127.0.0.1:7400" doc:"Address and port. Port 0 takes a free one."`
	AllowPlaintext bool          `yaml:"allow_plaintext" default:"false" doc:"Accept a listen address wider than loopback without TLS: for a server behind a proxy that ends TLS."`
	Proxies        string        `yaml:"proxies" default:"" doc:"Addresses and networks of proxies before this server, separated by commas, such as 10.0.0.0/8,127.0.0.1. They are believed whom they have a request from (X-Forwarded-For), so that limits.address_rate is for each of their clients and not for all together. Nobody else must be able to connect from there."`
	Advertise      string        `yaml:"advertise" default:"" doc:"Where clients reach this gateway, such as https://tokyo-1.example.com:7400, if they may be told of it (GatewayService.ListGateways). Empty: they are not."`
	DrainTimeout   time.Duration `yaml:"drain_timeout" default:"4s" doc:"On SIGTERM: how long requests in flight may take to finish. Held polls are answered at once."`
	DrainSpread    time.Duration `yaml:"drain_spread" default:"3s" doc:"A gateway that ends, or is succeeded, answers its held polls over so long before that, 0s to 1m: their clients come back spread."`
}

// Admin is the section of the admin listener.
type Admin struct {
	Listen         string `yaml:"listen" default:"127.0.0.1:7401" doc:"Address and port. Port 0 takes a free one."`
	AllowPlaintext bool   `yaml:"allow_plaintext" default:"false" doc:"Accept a listen address wider than loopback. The admin listener has no TLS: keep it inside a private network."`
	Advertise      string `yaml:"advertise" default:"" doc:"Address and port where operators reach this node of a cluster. Empty: admin.listen, with the host of cluster.advertise where that is every address of the machine."`
}

// TLS is the section of the client listener's certificate.
type TLS struct {
	Cert string `yaml:"cert" default:"" doc:"PEM file with the certificate chain. Empty: cleartext HTTP/2 (h2c) and HTTP/1.1."`
	Key  string `yaml:"key" default:"" doc:"PEM file with the private key."`
}

// Data is the section of the data folder.
type Data struct {
	Dir       string `yaml:"dir" default:"./data" doc:"The data folder; one process at a time. Made when missing."`
	Shards    int    `yaml:"shards" default:"256" doc:"How many journals users are spread over, 1 to 4,096. Fixed when the data folder is made."`
	CacheSize Bytes  `yaml:"cache_size" default:"64MiB" doc:"Memory for blocks of the store that were read, 1MiB to 64GiB."`
	Reserve   Bytes  `yaml:"reserve" default:"64MiB" doc:"Free disk space below which sends are refused, though never more than 5 % of the disk."`
}

// The durabilities of a journal.
const (
	DurabilityFsync = "fsync"
	DurabilityOS    = "os"
)

// Journal is the section of durability.
type Journal struct {
	Durability string `yaml:"durability" default:"fsync" oneof:"fsync os" doc:"fsync: a message is acknowledged once the disk has it. os: once the operating system has it, so that a power cut may lose the last moments."`
}

// Retention is the section of what is kept.
type Retention struct {
	Age        time.Duration `yaml:"age" default:"0s" doc:"Remove operations older than this from mailboxes that are in use. 0 keeps them for ever."`
	Operations int64         `yaml:"operations" default:"0" doc:"Keep at most this many operations, and up to a tenth more, in each mailbox that is in use. 0 keeps all."`
}

// The kinds of stores.
const (
	StoreEmbedded = "embedded"
	StoreHybrid   = "hybrid"
)

// Store is the section of where data is kept, and of write-behind.
type Store struct {
	Kind               string        `yaml:"kind" default:"embedded" oneof:"embedded hybrid" doc:"embedded keeps everything in the data folder; hybrid has the journal in Kafka, store and keys in HBase, and Redis in front, and in the data folder only the secrets of this server."`
	WriteAge           time.Duration `yaml:"write_age" default:"200ms" doc:"A batch is written to the store when its oldest record is this old, 1ms to 1h."`
	WriteRecords       int           `yaml:"write_records" default:"512" doc:"A batch is written when it has this many records, at least 1."`
	UnstoredRecords    int           `yaml:"unstored_records" default:"4000" doc:"How many records of a shard wait in memory for the store, at least 16. A store that is merely busy is waited for, and commands are refused meanwhile; when it takes no writes, what would go beyond is dropped from memory, and read from the journal again when it does."`
	CheckpointInterval time.Duration `yaml:"checkpoint_interval" default:"1s" doc:"How often the store is synced, and the journal let go of below that, 10ms to 1h."`
	StartTimeout       time.Duration `yaml:"start_timeout" default:"1m" doc:"How long a start of a hybrid store waits for Kafka and HBase, 0s to 24h. 0s ends at once when one does not answer."`
}

// Kafka is the section of a hybrid store's journal.
type Kafka struct {
	Brokers        string        `yaml:"brokers" default:"127.0.0.1:9092" doc:"Addresses to start from, separated by commas."`
	Topic          string        `yaml:"topic" default:"tegami.journal" doc:"The topic, with a partition for each shard; beside it <topic>.generations."`
	Replicas       int           `yaml:"replicas" default:"3" doc:"Replicas of each partition when the topic is made, 1 to 32."`
	AllowOneBroker bool          `yaml:"allow_one_broker" default:"false" doc:"Accept a cluster of one broker, whose disk is then all there is of a message that was just acknowledged."`
	Timeout        time.Duration `yaml:"timeout" default:"3s" doc:"How long an append may take before its outcome counts as unknown, 10ms to 1m."`
	Keep           time.Duration `yaml:"keep" default:"72h" doc:"For how long records are kept for other readers, though the stores have them. 0s keeps none longer."`
	Truncate       time.Duration `yaml:"truncate" default:"1m" doc:"How often a shard's older records are let go, 0s to 24h."`
	TLS            bool          `yaml:"tls" default:"false" doc:"Connect with TLS."`
	CA             string        `yaml:"ca" default:"" doc:"PEM file with the authority of the brokers' certificates. Empty: the system's."`
	Mechanism      string        `yaml:"mechanism" default:"none" oneof:"none PLAIN SCRAM-SHA-256 SCRAM-SHA-512" doc:"How the server identifies itself (SASL). PLAIN only with TLS."`
	User           string        `yaml:"user" default:"" doc:"Name to identify as."`
	PasswordFile   string        `yaml:"password_file" default:"" doc:"File with the password, which a line break may follow."`
}

// The durabilities of HBase.
const (
	HBaseSync  = "sync"
	HBaseFsync = "fsync"
)

// HBase is the section of a hybrid store's store.
type HBase struct {
	ZooKeeper   string        `yaml:"zookeeper" default:"127.0.0.1:2181" doc:"The ZooKeeper quorum that knows HBase: addresses, separated by commas."`
	Root        string        `yaml:"root" default:"/hbase" doc:"HBase's node in it."`
	User        string        `yaml:"user" default:"tegami" doc:"The name under which HBase sees the calls."`
	Prefix      string        `yaml:"prefix" default:"tegami_" doc:"What the names of all tables begin with."`
	Regions     int           `yaml:"regions" default:"16" doc:"Regions that a table is split into when it is made, 1 to 4,096."`
	Compression string        `yaml:"compression" default:"NONE" oneof:"NONE GZ SNAPPY LZ4 ZSTD" doc:"Compression of tables when they are made, as far as every region server has it."`
	Durability  string        `yaml:"durability" default:"sync" oneof:"sync fsync" doc:"With sync a write is with all replicas, with fsync it is on their disks. Keys always are."`
	Timeout     time.Duration `yaml:"timeout" default:"2s" doc:"How long a request may take, 10ms to 1m."`
	Requests    int           `yaml:"requests" default:"64" doc:"Requests in flight, 1 to 4,096."`
	Writers     int           `yaml:"writers" default:"16" doc:"Shards that are written at a time, 1 to 1,024. More of them help an HBase that is slow, as far as hbase.requests allows."`
	Loads       int           `yaml:"loads" default:"16" doc:"Mailboxes that are loaded at a time, so that many cold ones leave room for writes, 1 to 1,024."`
}

// Redis is the section of a hybrid store's cache.
type Redis struct {
	Addresses    string        `yaml:"addresses" default:"127.0.0.1:6379" doc:"The server, or some of a cluster's, separated by commas. Empty: no cache."`
	Cluster      bool          `yaml:"cluster" default:"false" doc:"The servers are a Redis Cluster."`
	User         string        `yaml:"user" default:"" doc:"ACL user. Empty: the default user."`
	PasswordFile string        `yaml:"password_file" default:"" doc:"File with the password, which a line break may follow."`
	TLS          bool          `yaml:"tls" default:"false" doc:"Connect with TLS."`
	CA           string        `yaml:"ca" default:"" doc:"PEM file with the authority of the servers' certificates. Empty: the system's."`
	Prefix       string        `yaml:"prefix" default:"tegami" doc:"What all keys begin with."`
	Expiry       time.Duration `yaml:"expiry" default:"6h" doc:"How long the copy of an idle mailbox is kept, at least 1m."`
	Rows         int           `yaml:"rows" default:"1000" doc:"How many of its newest operations a mailbox has in the cache, about, 1 to 100,000."`
	Timeout      time.Duration `yaml:"timeout" default:"500ms" doc:"How long a call may take, 1ms to 10s."`
	Connections  int           `yaml:"connections" default:"16" doc:"Connections to each server, 1 to 1,024."`
}

// Events is the section of the events that other services read.
type Events struct {
	Enabled    bool          `yaml:"enabled" default:"true" doc:"Publish events, with a hybrid store. What is applied while they are not is never published."`
	Topic      string        `yaml:"topic" default:"tegami.events.v1" doc:"The topic, keyed by user."`
	Partitions int           `yaml:"partitions" default:"12" doc:"Partitions of the topic, 1 to 4,096. Fixed when the topic is made."`
	Retention  time.Duration `yaml:"retention" default:"168h" doc:"How long Kafka keeps events, 1m to 87600h."`
}

// Worker is the section of the background task processor.
type Worker struct {
	Listen         string        `yaml:"listen" default:"127.0.0.1:7411" doc:"Address and port for operators: metrics, health and profiles. Port 0 takes a free one."`
	AllowPlaintext bool          `yaml:"allow_plaintext" default:"false" doc:"Accept a listen address wider than loopback. The listener has no TLS: keep it inside a private network."`
	Tasks          string        `yaml:"tasks" default:"tegami.tasks" doc:"What the topics of the processor begin with: <tasks>.retry and <tasks>.dead."`
	Group          string        `yaml:"group" default:"tegami-worker" doc:"What the consumer groups begin with: <group>-<task>."`
	InFlight       int           `yaml:"in_flight" default:"64" doc:"Events that a task handles at a time, in each process, 1 to 10,000."`
	Window         int           `yaml:"window" default:"1024" doc:"Events of a partition from the lowest unfinished one on, 1 to 1,000,000. Beyond it the partition is paused."`
	KeyQueue       int           `yaml:"key_queue" default:"128" doc:"Events that wait behind one another for the same user, 1 to 1,000,000. Beyond it the partition is paused."`
	Attempts       int           `yaml:"attempts" default:"10" doc:"How often an event is tried before it becomes a dead letter, 1 to 1,000."`
	Backoff        time.Duration `yaml:"backoff" default:"500ms" doc:"How long to wait after the first failure, twice as long after each further one; 1ms to 1h."`
	BackoffMax     time.Duration `yaml:"backoff_max" default:"1m" doc:"The longest wait, backoff to 24h."`
	Timeout        time.Duration `yaml:"timeout" default:"10s" doc:"How long one attempt may take, 10ms to 10m."`
	DrainTimeout   time.Duration `yaml:"drain_timeout" default:"4s" doc:"How long attempts in flight may go on at the end, or when a partition goes to another worker. Less than session_timeout."`
	SessionTimeout time.Duration `yaml:"session_timeout" default:"10s" doc:"How long a worker may be silent before others take its partitions, 1s to 5m, as far as the brokers allow (group.min.session.timeout.ms)."`
}

// Webhook is the section of the webhook task.
type Webhook struct {
	URLs         string        `yaml:"urls" default:"" doc:"Where to post, separated by commas: URL, or NAME=URL, which several need. Each is a task of its own, webhook or webhook-NAME. Empty: nowhere."`
	SecretFile   string        `yaml:"secret_file" default:"" doc:"File with the secret to sign with, at least 16 bytes; one on each line while it is replaced."`
	Kinds        string        `yaml:"kinds" default:"" doc:"The kinds of events to post, such as message_received, separated by commas. Empty: all."`
	Timeout      time.Duration `yaml:"timeout" default:"5s" doc:"How long a receiver may take to answer, 10ms to 10m; not more than worker.timeout."`
	AllowPrivate bool          `yaml:"allow_private" default:"false" doc:"Let URLs lead to this machine or a private network."`
}

// Push is the section of the push task.
type Push struct {
	URL          string        `yaml:"url" default:"" doc:"Where to post notifications. Empty: nowhere."`
	SecretFile   string        `yaml:"secret_file" default:"" doc:"File with the secret to sign with, as webhook.secret_file."`
	MaxAge       time.Duration `yaml:"max_age" default:"1h" doc:"Of a message older than this nobody is notified, at least 1s."`
	Timeout      time.Duration `yaml:"timeout" default:"5s" doc:"How long the gateway may take to answer, 10ms to 10m; not more than worker.timeout."`
	AllowPrivate bool          `yaml:"allow_private" default:"false" doc:"Let the URL lead to this machine or a private network."`
}

// Analytics is the section of the task that counts.
type Analytics struct {
	Enabled bool   `yaml:"enabled" default:"false" doc:"Run it."`
	Topic   string `yaml:"topic" default:"tegami.analytics.minutes" doc:"The compacted topic of the counts."`
}

// The memberships.
const (
	MembershipEtcd       = "etcd"
	MembershipKubernetes = "kubernetes"
	MembershipStatic     = "static"
)

// Cluster is the section of the nodes of a cluster.
type Cluster struct {
	Name         string        `yaml:"name" default:"" doc:"What this node is called, differently from all others. Empty: what the machine is called."`
	Listen       string        `yaml:"listen" default:"127.0.0.1:7500" doc:"Address and port for other nodes. Port 0 takes a free one. Beyond this machine it needs cluster.cert."`
	Advertise    string        `yaml:"advertise" default:"" doc:"Address and port where other nodes reach this one. Empty: cluster.listen."`
	Cert         string        `yaml:"cert" default:"" doc:"PEM file with the certificate of this node, for both directions, with its name as a URI such as tegami://talk/talk-1 (tegami admin cert makes one). Empty: cleartext."`
	Key          string        `yaml:"key" default:"" doc:"PEM file with its private key."`
	CA           string        `yaml:"ca" default:"" doc:"PEM file with the authority of the nodes' certificates, which signs no others."`
	Region       string        `yaml:"region" default:"" doc:"Where this node is, such as tokyo: clients are told of the gateways of their gateway's region first."`
	Weight       int           `yaml:"weight" default:"100" doc:"How many shards this node takes in proportion to the others, 1 to 10,000."`
	Membership   string        `yaml:"membership" default:"etcd" oneof:"etcd kubernetes static" doc:"How the talk nodes are known: from etcd, or from Leases of Kubernetes, where each is while it lives, or from cluster.members."`
	Etcd         string        `yaml:"etcd" default:"127.0.0.1:2379" doc:"Addresses of etcd servers, separated by commas."`
	EtcdPrefix   string        `yaml:"etcd_prefix" default:"tegami/" doc:"What all keys in etcd begin with."`
	EtcdTLS      bool          `yaml:"etcd_tls" default:"false" doc:"Connect to etcd with TLS."`
	EtcdCA       string        `yaml:"etcd_ca" default:"" doc:"PEM file with the authority of etcd's certificates. Empty: the system's."`
	EtcdUser     string        `yaml:"etcd_user" default:"" doc:"Name to identify as to etcd. Empty: nobody."`
	EtcdPassword string        `yaml:"etcd_password_file" default:"" doc:"File with the password, which a line break may follow."`
	KubeServer   string        `yaml:"kubernetes_server" default:"" doc:"URL of the API server. Where this and the next three are empty, what a pod finds is used."`
	KubeSpace    string        `yaml:"kubernetes_namespace" default:"" doc:"Namespace that has the Leases."`
	KubeToken    string        `yaml:"kubernetes_token_file" default:"" doc:"File with the token of a service account, which is read for each call."`
	KubeCA       string        `yaml:"kubernetes_ca" default:"" doc:"PEM file with the authority of the API server's certificate."`
	KubeCluster  string        `yaml:"kubernetes_cluster" default:"tegami" doc:"Tells clusters of one namespace apart, by the label tegami.im/cluster of their Leases."`
	Lease        time.Duration `yaml:"lease" default:"3s" doc:"A talk node that is silent for this long is replaced: whole seconds, 2s to 1m."`
	Members      string        `yaml:"members" default:"" doc:"The talk nodes of a static membership, as in talk-1=10.0.0.1:7500,talk-2=10.0.0.2:7500."`
}

// Behaviour is the section of the behaviours that run inside the server.
type Behaviour struct {
	Run          string        `yaml:"run" default:"" doc:"Which run: USER=KIND, separated by commas, where USER is the user id of its account, which is made when there is none. Kinds: echo, reminder, poll, bridge. Empty: none."`
	Rate         int           `yaml:"rate" default:"100" doc:"Steps a second for each, 1 to 10,000."`
	Hooks        string        `yaml:"hooks" default:"" doc:"Where to post what a behaviour posts: USER=URL, separated by commas."`
	SecretFile   string        `yaml:"secret_file" default:"" doc:"File with the secret to sign with, at least 16 bytes; one on each line while it is replaced. With it, behaviours may be called: POST /behaviours/USER on the listener for clients, signed likewise."`
	Timeout      time.Duration `yaml:"timeout" default:"5s" doc:"How long a receiver may take to answer, 10ms to 1m."`
	AllowPrivate bool          `yaml:"allow_private" default:"false" doc:"Let hooks lead to this machine or a private network."`
}

// Mailbox is the section of mailbox actors.
type Mailbox struct {
	PassivateAfter time.Duration `yaml:"passivate_after" default:"1m" doc:"A mailbox that nobody used for this long leaves memory. At least 1s."`
	IdlePerShard   int           `yaml:"idle_per_shard" default:"64" doc:"How many idle mailboxes of a shard may stay in memory until then."`
	TailOperations int           `yaml:"tail_operations" default:"64" doc:"How many of its newest operations an active mailbox holds in memory, 1 to 10,000."`
	TailSize       Bytes         `yaml:"tail_size" default:"64KiB" doc:"How many bytes of them, at least 1KiB."`
	ChatCopies     int           `yaml:"chat_copies" default:"500" doc:"Up to how many members of a chat what happens in it is copied to the mailbox of each, 1 to 500. With more, devices read the chat itself. A chat keeps the number that it was made with."`
}

// The registrations.
const (
	RegistrationLoopback = "loopback"
	RegistrationOpen     = "open"
	RegistrationClosed   = "closed"
)

// Auth is the section of accounts and tokens.
type Auth struct {
	Registration string        `yaml:"registration" default:"loopback" oneof:"loopback open closed" doc:"Who may call Register: clients on this machine, everybody, or nobody (accounts then come from the admin calls)."`
	AccessToken  time.Duration `yaml:"access_token" default:"15m" doc:"How long an access token is good for, 10s to 24h."`
	RefreshToken time.Duration `yaml:"refresh_token" default:"720h" doc:"How long a device stays signed in without being used. Longer than access_token."`
	Hashes       int           `yaml:"hashes" default:"2" doc:"How many passwords are hashed at once, 19 MiB of memory each, 1 to 64."`
	HashWait     time.Duration `yaml:"hash_wait" default:"1s" doc:"How long a further one waits before it is refused."`

	OIDCIssuer   string `yaml:"oidc_issuer" default:"" doc:"URL of the OpenID provider whose ID tokens Login takes beside passwords, exactly as the provider writes it: https, or http on this machine. Empty: none are taken. See docs/operations.md."`
	OIDCAudience string `yaml:"oidc_audience" default:"" doc:"The client id that the tokens must be for. Needed with oidc_issuer."`
	OIDCClaim    string `yaml:"oidc_claim" default:"sub" doc:"The claim of a token that names the user. Its value, with oidc_prefix before it, must be a user id as it is: nothing is changed, capitals are refused."`
	OIDCPrefix   string `yaml:"oidc_prefix" default:"" doc:"What is put before that value, such as u- for a provider that names its users by numbers."`
	OIDCCA       string `yaml:"oidc_ca" default:"" doc:"PEM file with the authority that signed the provider's certificate. Empty: the system's."`
	OIDCRegister bool   `yaml:"oidc_register" default:"false" doc:"Make an account, without a password, at the first sign-in of somebody who has none."`
}

// Limits is the section of limits.
type Limits struct {
	SendRate        int           `yaml:"send_rate" default:"200" doc:"Sends a second for each user."`
	SendBurst       int           `yaml:"send_burst" default:"1000" doc:"Sends that a user who was quiet may make at once."`
	PollRate        int           `yaml:"poll_rate" default:"100" doc:"Polls a second for each device."`
	PollBurst       int           `yaml:"poll_burst" default:"200" doc:"Polls that a device may make at once."`
	PollTimeout     time.Duration `yaml:"poll_timeout" default:"2m" doc:"The longest time that a client may ask to have a poll held, at most 2m."`
	FindRate        int           `yaml:"find_rate" default:"1" doc:"Calls a second for each user that tell whether there is another user, or reach all friends or all members of a chat: of ContactService but ListContacts and ListBlocked, of ChatService but GetChat, ListChats and ListMembers, GetProfile, UpdateProfile, UpdateSettings."`
	FindBurst       int           `yaml:"find_burst" default:"60" doc:"Such calls that a user who was quiet may make at once."`
	AddressRate     int           `yaml:"address_rate" default:"10" doc:"Register, Login and Refresh calls a second for each client address. Loopback is never limited."`
	AddressBurst    int           `yaml:"address_burst" default:"50" doc:"Such calls that an address may make at once."`
	RequestSize     Bytes         `yaml:"request_size" default:"192KiB" doc:"The largest request of a client, at least 128KiB."`
	AdminSize       Bytes         `yaml:"admin_size" default:"4MiB" doc:"The largest request on the admin listener."`
	Requests        int           `yaml:"requests" default:"16384" doc:"Requests of clients in flight, but for held polls. As that is neared, marks and reactions are refused first, then looking back, catching up, new polls, and sends last."`
	HeldPolls       int           `yaml:"held_polls" default:"1048576" doc:"Polls that are held at a time."`
	Handshakes      int           `yaml:"handshakes" default:"4096" doc:"TLS handshakes of clients under way at a time. A further connection is closed."`
	Connections     int           `yaml:"connections" default:"65536" doc:"Connections to each listener. A further one is closed."`
	Streams         int           `yaml:"streams" default:"250" doc:"Requests in flight on one HTTP/2 connection, held polls included."`
	Commands        int           `yaml:"commands" default:"65536" doc:"Commands in flight in the whole server."`
	ShardCommands   int           `yaml:"shard_commands" default:"4096" doc:"Commands in flight in one shard."`
	MailboxCommands int           `yaml:"mailbox_commands" default:"1024" doc:"Commands in flight in one mailbox."`
}

// Audit is the section of the auditor.
type Audit struct {
	Rate int `yaml:"rate" default:"200" doc:"Operations and records of the journal that are read in a second. 0: no audit."`
}

// Tracing is the section of traces of single messages.
type Tracing struct {
	Endpoint   string `yaml:"endpoint" default:"" doc:"URL of the collector that OpenTelemetry traces go to, by OTLP over HTTP. Empty sends none."`
	PerMillion int    `yaml:"per_million" default:"1000" doc:"How many of a million messages are traced."`
}

// Log is the section of logs.
type Log struct {
	Level  string `yaml:"level" default:"info" oneof:"debug info warn error" doc:"The least level that is written."`
	Format string `yaml:"format" default:"text" oneof:"text json" doc:"text for people, json for machines."`
}
