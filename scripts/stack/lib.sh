# What the scripts of this folder share; they source it.
#
# Every setting is an environment variable, so that two stacks can run side by
# side: each has its STACK_DIR and its ports.
# shellcheck shell=bash

unset CDPATH # with it cd says where it goes
stack_scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stack_root=$(cd "$stack_scripts/../.." && pwd)

# What the servers write: STACK_DIR/<service>/{data,log,pid,started}.
STACK_DIR=${STACK_DIR:-$stack_root/.stack}
mkdir -p "$STACK_DIR"
STACK_DIR=$(cd "$STACK_DIR" && pwd)
# The jars of Kafka and HBase: outside STACK_DIR, so that wiping that keeps them
# and all stacks share them.
STACK_CACHE=${STACK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tegami/stack}
# How many seconds a server has until it must be ready.
STACK_WAIT=${STACK_WAIT:-120}

stack_services=(redis hbase kafka etcd)

REDIS_PORT=${REDIS_PORT:-6379}
KAFKA_PORT=${KAFKA_PORT:-9092}
KAFKA_CONTROLLER_PORT=${KAFKA_CONTROLLER_PORT:-9093}
ZK_PORT=${ZK_PORT:-2181}
HBASE_MASTER_PORT=${HBASE_MASTER_PORT:-16000}
HBASE_REGIONSERVER_PORT=${HBASE_REGIONSERVER_PORT:-16020}
ETCD_PORT=${ETCD_PORT:-2379}
ETCD_PEER_PORT=${ETCD_PEER_PORT:-2380}

processes=$STACK_DIR
processes_of=stack
processes_wait=$STACK_WAIT
. "$stack_root/scripts/processes.sh"

# check_services NAME... refuses a name that is none.
check_services() {
	local name
	for name; do
		[[ " ${stack_services[*]} " == *" $name "* ]] ||
			fail "there is no service $name; there are ${stack_services[*]}"
	done
}

# write_env writes STACK_DIR/stack.env: the addresses of what runs, as shell
# variables.
write_env() {
	{
		echo "# Written by scripts/stack: what runs, and where."
		if running redis; then echo "REDIS_ADDR=127.0.0.1:$REDIS_PORT"; fi
		if running hbase; then echo "HBASE_ZK=127.0.0.1:$ZK_PORT"; fi
		if running kafka; then echo "KAFKA_BROKERS=127.0.0.1:$KAFKA_PORT"; fi
		if running etcd; then echo "ETCD_ENDPOINTS=127.0.0.1:$ETCD_PORT"; fi
	} >"$STACK_DIR/stack.env.$$"
	mv "$STACK_DIR/stack.env.$$" "$STACK_DIR/stack.env"
}

# jars NAME prints the folder of a server's jars, which Maven fetches once for
# each content of jars/NAME.xml.
jars() {
	local pom=$stack_scripts/jars/$1.xml folder part
	folder=$STACK_CACHE/$1-$(cksum <"$pom" | cut -d ' ' -f 1)
	if [[ ! -d $folder ]]; then
		mkdir -p "$STACK_CACHE"
		echo "fetching the jars of $1 to $folder" >&2
		part=$(mktemp -d "$STACK_CACHE/.$1-XXXXXX")
		mvn -B -q -Dstyle.color=never -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$part" >&2 || {
			rm -rf "$part"
			fail "Maven could not fetch the jars of $1; what it wants is in $pom"
		}
		# Another stack may have been faster: its copy is as good.
		if [[ -d $folder ]]; then rm -rf "$part"; else mv "$part" "$folder"; fi
	fi
	echo "$folder"
}
