# What the scripts of this folder share; they source it.
#
# Every setting is an environment variable, so that two clusters can run side by
# side: each has its CLUSTER_DIR, its ports, and its stack (scripts/stack).
# shellcheck shell=bash

unset CDPATH # with it cd says where it goes
cluster_scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cluster_root=$(cd "$cluster_scripts/../.." && pwd)

# What the nodes write: CLUSTER_DIR/<node>/{data,log,pid,started}; beside them
# cluster.env, tegami.yaml and the secrets.
CLUSTER_DIR=${CLUSTER_DIR:-$cluster_root/.cluster}
mkdir -p "$CLUSTER_DIR"
CLUSTER_DIR=$(cd "$CLUSTER_DIR" && pwd)
# The first of the ports, which nodes take ten by ten: see port.
CLUSTER_PORT=${CLUSTER_PORT:-7400}
# The nodes that `make cluster` starts.
CLUSTER_NODES=${CLUSTER_NODES:-gateway-1 gateway-2 talk-1 talk-2 talk-3 worker-1}
# How many seconds a node has until it must be ready.
CLUSTER_WAIT=${CLUSTER_WAIT:-120}
# The program that runs.
CLUSTER_BINARY=${CLUSTER_BINARY:-$cluster_root/bin/tegami}
# Settings of every node, such as "data.shards=256 log.level=debug".
CLUSTER_SET=${CLUSTER_SET:-}

STACK_DIR=${STACK_DIR:-$cluster_root/.stack}
config=$CLUSTER_DIR/tegami.yaml
secrets=$CLUSTER_DIR/secrets

processes=$CLUSTER_DIR
processes_of=cluster
processes_wait=$CLUSTER_WAIT
. "$cluster_root/scripts/processes.sh"

# check_node NODE refuses what is no name of a node.
check_node() {
	[[ ${1:-} =~ ^(gateway|talk|worker)-[1-9]$ ]] ||
		fail "NODE is ${1:-not set}: a node is called gateway-N, talk-N or worker-N, with N from 1 to 9, as in NODE=talk-2"
}

# port NODE PURPOSE prints a port: gateway-1 has 7400 (client), 7401 (admin) and
# 7402 (cluster), gateway-2 7410 and so on; talk-1 begins at 7500, worker-1 at
# 7600.
port() {
	local base
	case $1 in
	gateway-*) base=0 ;;
	talk-*) base=100 ;;
	worker-*) base=200 ;;
	esac
	case $2 in
	client) ;;
	admin) ((base += 1)) ;;
	cluster) ((base += 2)) ;;
	esac
	echo $((CLUSTER_PORT + base + 10 * (${1##*-} - 1)))
}

# nodes prints the nodes that have a folder, whether they run or not.
nodes() {
	local folder
	for folder in "$CLUSTER_DIR"/{gateway,talk,worker}-[1-9]/; do
		[[ ! -d $folder ]] || basename "$folder"
	done
}

# tegami COMMAND... runs the program on the configuration of the cluster.
tegami() { "$CLUSTER_BINARY" "$@" --config "$config"; }

ready() { curl --silent --fail --max-time 2 --noproxy '*' "http://127.0.0.1:$(port "$1" admin)/readyz"; }

# write_config writes tegami.yaml, which all nodes share, with the addresses of
# the servers that run.
write_config() {
	local REDIS_ADDR="" HBASE_ZK="" KAFKA_BROKERS="" ETCD_ENDPOINTS=""
	# shellcheck source=/dev/null
	. "$STACK_DIR/stack.env"
	cat >"$config.$$" <<END
# Written by scripts/cluster: what all nodes of the cluster share.
data:
  shards: 64
store:
  kind: hybrid
kafka:
  brokers: $KAFKA_BROKERS
  topic: cluster.journal
  allow_one_broker: true # on one machine nothing is replicated
events:
  topic: cluster.events
worker:
  tasks: cluster.tasks
  group: cluster-worker
analytics:
  enabled: true
  topic: cluster.minutes
hbase:
  zookeeper: $HBASE_ZK
  prefix: cluster_
  regions: 4
redis:
  addresses: $REDIS_ADDR
  prefix: cluster
cluster:
  etcd: $ETCD_ENDPOINTS
  etcd_prefix: cluster/
END
	mv "$config.$$" "$config"
}

# write_secrets makes what nodes share and nobody else may know: one token for
# all listeners of operators. Gateways learn from etcd what keys the others sign
# sessions with.
write_secrets() {
	mkdir -p "$secrets"
	chmod 700 "$secrets"
	[[ -f $secrets/admin.token ]] || (
		umask 077
		head -c 20 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$secrets/admin.token.$$"
		mv "$secrets/admin.token.$$" "$secrets/admin.token"
	)
}

# free_ports NODE refuses when something else has one of the node's ports.
free_ports() {
	local purpose purposes=(admin)
	case $1 in
	gateway-*) purposes+=(client cluster) ;;
	talk-*) purposes+=(cluster) ;;
	esac
	for purpose in "${purposes[@]}"; do free "$1" "$(port "$1" "$purpose")" CLUSTER_PORT; done
}

# start_node NODE starts a node and does not wait.
start_node() {
	local node=$1 role=${1%-*} folder=$CLUSTER_DIR/$1 setting settings flags
	mkdir -p "$folder/data"
	chmod 700 "$folder/data"
	flags=("$role" --config "$config" --data "$folder/data" --admin "127.0.0.1:$(port "$node" admin)")
	case $role in
	gateway)
		flags+=(--listen "127.0.0.1:$(port "$node" client)" --set "server.advertise=http://127.0.0.1:$(port "$node" client)")
		;;
	worker) flags+=(--set "worker.listen=127.0.0.1:$(port "$node" admin)") ;;
	esac
	flags+=(--set "cluster.name=$node" --set "cluster.listen=127.0.0.1:$(port "$node" cluster)")
	read -rd '' -a settings <<<"$CLUSTER_SET" || true # its end is that of the words
	for setting in "${settings[@]}"; do flags+=(--set "$setting"); done

	install -m 600 "$secrets/admin.token" "$folder/data/admin.token"
	start "$node" "$CLUSTER_BINARY" "${flags[@]}"
}

# write_env writes cluster.env: the addresses of the nodes that run, as shell
# variables. AdminService is that of gateways; talk nodes and workers answer
# probes and scrapers at theirs.
write_env() {
	local node role clients admins
	{
		echo "# Written by scripts/cluster: what runs, and where."
		for role in gateway talk worker; do
			clients="" admins=""
			for node in $(nodes); do
				if [[ $node != "$role"-* ]] || ! running "$node"; then continue; fi
				clients+=${clients:+,}127.0.0.1:$(port "$node" client)
				admins+=${admins:+,}127.0.0.1:$(port "$node" admin)
			done
			case $role in
			gateway) printf 'GATEWAYS=%s\nADMINS=%s\n' "$clients" "$admins" ;;
			talk) echo "TALK_ADMINS=$admins" ;;
			worker) echo "WORKER_ADMINS=$admins" ;;
			esac
		done
		echo "ADMIN_TOKEN=$(cat "$secrets/admin.token")"
	} >"$CLUSTER_DIR/cluster.env.$$"
	chmod 600 "$CLUSTER_DIR/cluster.env.$$"
	mv "$CLUSTER_DIR/cluster.env.$$" "$CLUSTER_DIR/cluster.env"
}

# status_line prints one line with the state of every node: ready, on its way, or
# not running.
status_line() {
	local node role="" mark line=""
	for node in $(nodes); do
		if ! running "$node"; then
			mark=✗
		elif ready "$node" >/dev/null; then
			mark=✓
		else
			mark=…
		fi
		[[ ${node%-*} == "$role" ]] || line+="${role:+   }${node%-*}"
		role=${node%-*}
		line+=" ${node##*-}$mark"
	done
	echo "$line"
}
