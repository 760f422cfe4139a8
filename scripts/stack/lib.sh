# What the scripts of this folder share; they source it.
#
# Every setting is an environment variable, so that two stacks can run side by
# side: each has its STACK_DIR and its ports.
# shellcheck shell=bash

stack_scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
stack_root=$(cd "$stack_scripts/../.." && pwd)

# What the servers write: STACK_DIR/<service>/{data,log,pid}.
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

fail() {
	echo "stack: $*" >&2
	exit 1
}

# check_services NAME... refuses a name that is none.
check_services() {
	local name
	for name; do
		[[ " ${stack_services[*]} " == *" $name "* ]] ||
			fail "there is no service $name; there are ${stack_services[*]}"
	done
}

# start_time PID prints when the process began, in a form that only serves to
# compare; nothing when there is no such process.
start_time() {
	if [[ -r /proc/self/stat ]]; then
		# The second field may hold spaces and brackets: cut behind the last one.
		sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
	else
		ps -o lstart= -p "$1" 2>/dev/null
	fi
}

# is_zombie PID: it ended, and nobody has asked for its result yet. While other
# threads than the first still end, its ports are not free.
is_zombie() {
	local tasks
	[[ -r /proc/self/stat ]] || return 1
	tasks=("/proc/$1/task"/*)
	((${#tasks[@]} == 1)) && [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 1) == Z ]]
}

# running SERVICE: the process of the pid file lives, and it is the one that was
# started: a process id that is used again has another start time.
running() {
	local pid began
	{ read -r pid && read -r began; } 2>/dev/null <"$STACK_DIR/$1/pid" || return 1
	[[ -n $pid && -n $began && $(start_time "$pid") == "$began" ]] && ! is_zombie "$pid"
}

# start SERVICE COMMAND... runs a server of its own session, with its output at
# the end of the log, and writes the pid file: process id, start time.
start() {
	local service=$1 folder=$STACK_DIR/$1 pid
	shift
	if command -v setsid >/dev/null; then
		set -- setsid "$@"
	fi
	nohup "$@" >>"$folder/log" 2>&1 </dev/null &
	pid=$!
	printf '%s\n%s\n' "$pid" "$(start_time "$pid")" >"$folder/pid"
}

# await SERVICE COMMAND... tries the command until it succeeds. A server that
# dies ends the wait at once, with the end of its log.
await() {
	local service=$1 folder=$STACK_DIR/$1 end=$((SECONDS + STACK_WAIT))
	shift
	until "$@" >/dev/null 2>&1; do
		if ! running "$service"; then
			tail -n 20 "$folder/log" >&2
			fail "$service died while it started; its log is $folder/log"
		fi
		((SECONDS < end)) || fail "$service was not ready after $STACK_WAIT s (STACK_WAIT); its log is $folder/log"
		sleep 0.1
	done
}

# logged LOG FROM TEXT: the log holds the text behind its first FROM bytes. grep
# reads to the end: with -q it would end before tail does, whose failure would be
# that of the whole.
logged() { tail -c "+$(($2 + 1))" "$1" | grep -F -- "$3" >/dev/null; }

log_size() { if [[ -f $1 ]]; then wc -c <"$1"; else echo 0; fi; }

# listening PORT [ADDRESS]: something accepts connections there.
listening() { (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null; }

# free SERVICE PORT VARIABLE [ADDRESS] refuses a port that something else uses.
free() {
	! listening "$2" "${4:-127.0.0.1}" || fail "$1 wants port $2, which is in use: stop what uses it, or set $3"
}

# stop SERVICE [GRACEFUL] ends a server. The fast way is SIGKILL, which what was
# written survives; graceful asks first, which takes HBase half a minute.
stop() {
	local pid limit=0 i
	if running "$1"; then
		read -r pid <"$STACK_DIR/$1/pid"
		if [[ -n ${2:-} ]]; then
			limit=600
			kill "$pid" 2>/dev/null || true
		fi
		for ((i = 0; i < limit; i++)); do
			running "$1" || break
			sleep 0.1
		done
		while running "$1"; do
			kill -9 "$pid" 2>/dev/null || true
			sleep 0.02
		done
		echo "$1 stopped"
	fi
	rm -f "$STACK_DIR/$1/pid"
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
